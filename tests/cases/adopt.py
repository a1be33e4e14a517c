"""ADOPT."""

import numpy as np
import optax

from cases.case import Case, With, at
from cases.scale import scale_by_learning_rate


def scale_by_adopt(
    grads,
    params,
    b1=0.9,
    b2=0.9999,
    eps=1e-6,
    mu_dtype=None,
    *,
    nesterov=False,
    use_clipping=True,
    clip_value_fn=lambda count: count**0.25,
):
    m, v, updates = 0.0 * grads[0], grads[0] ** 2, [0.0 * grads[0]]
    for i, g in list(enumerate(grads))[1:]:
        c1, c2 = at(b1, i), at(b2, i)
        r = g / np.maximum(np.sqrt(v), at(eps, i))
        if use_clipping:
            r = np.minimum(np.maximum(r, -clip_value_fn(i)), clip_value_fn(i))
        m = c1 * m + (1 - c1) * r
        v = c2 * v + (1 - c2) * g**2
        updates.append(c1 * m + (1 - c1) * r if nesterov else m)
    return updates


def adopt(grads, params, learning_rate, *arguments, **options):
    return scale_by_learning_rate(scale_by_adopt(grads, params, *arguments, **options), params, learning_rate)


ADOPT = {
    "b1": 0.7,
    "b2": 0.9,
    "eps": 0.5,
    "nesterov": True,
    "use_clipping": False,
    "clip_value_fn": lambda count: 0.2 * count**0.5,
}
# An eps that small has no effect on these gradients, and its derivative is 0.
ARGUMENTS = {"b2": 0.99}
FIRST = {"non_finite_gradients_are_seen_and_stay_where_they_are": "the first update is 0 whatever the gradient is"}

CASES = [
    Case(
        "scale_by_adopt",
        scale_by_adopt,
        ARGUMENTS,
        ADOPT,
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu", "nu"}),
        optax=optax.contrib.scale_by_adopt,
        part_of="adopt",
    ),
    Case(
        "adopt",
        adopt,
        {"learning_rate": 0.1, **ARGUMENTS},
        {"learning_rate": 0.3, **ADOPT, "use_clipping": With(False, {"eps": 0.1})},
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu", "nu"}),
        optax=optax.contrib.adopt,
        minimizes={"learning_rate": 0.1, "b2": 0.99},
        exempt=FIRST,
    ),
]
