"""Weight decay."""

import numpy as np
import optax

from cases.case import Case, With, at


def add_decayed_weights(grads, params, weight_decay=0.0, mask=None, *, flip_sign=False):
    decays = (mask is None or bool(mask)) * (-1 if flip_sign else 1)
    return [g + decays * at(weight_decay, i) * p for i, (g, p) in enumerate(zip(grads, params, strict=True))]


def decayed_step(directions, params, learning_rate, weight_decay, mask, decay):
    """The end of every optimizer with decoupled decay."""
    updates = []
    for i, (u, p) in enumerate(zip(directions, params, strict=True)):
        rate, decays = at(learning_rate, i), mask is None or bool(mask)
        peak = max(at(learning_rate, t) for t in range(50)) if callable(learning_rate) else rate
        factor = {"lr": rate, "schedule": rate / peak, "independent": 1.0}[decay]
        updates.append(-rate * u - factor * decays * at(weight_decay, i) * p)
    return updates


def add_cautious_weight_decay(grads, params, weight_decay=0.0, mask=None):
    kept = [np.where(g * p >= 0, p, 0) for g, p in zip(grads, params, strict=True)]
    return add_decayed_weights(grads, kept, weight_decay, mask)


DECAY = {
    "weight_decay": 0.3,
    "mask": With(False, {"weight_decay": 0.3}),
    "decay": With("independent", {"weight_decay": 0.3}),
}
"""Other values of the arguments that all optimizers with ``decayed_step`` have."""

CASES = [
    Case(
        "add_decayed_weights",
        add_decayed_weights,
        {"weight_decay": 0.1},
        {"weight_decay": 0.2, "mask": False, "flip_sign": True},
        needs_params=True,
        beyond=frozenset({"flip_sign"}),
        optax=optax.add_decayed_weights,
    ),
    Case(
        "add_cautious_weight_decay",
        add_cautious_weight_decay,
        {"weight_decay": 0.1},
        {"weight_decay": 0.2, "mask": False},
        needs_params=True,
        exempt={"optax": "optax has no cautious weight decay"},
    ),
]
