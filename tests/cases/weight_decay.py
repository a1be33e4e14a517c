"""Weight decay."""

import optax

from cases.case import Case, at


def add_decayed_weights(grads, params, weight_decay=0.0, mask=None):
    decays = mask is None or bool(mask)
    return [g + decays * at(weight_decay, i) * p for i, (g, p) in enumerate(zip(grads, params, strict=True))]


CASES = [
    Case(
        "add_decayed_weights",
        add_decayed_weights,
        {"weight_decay": 0.1},
        {"weight_decay": 0.2, "mask": False},
        needs_params=True,
        optax=optax.add_decayed_weights,
    ),
]
