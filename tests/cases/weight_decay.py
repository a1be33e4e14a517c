"""Weight decay."""

import numpy as np
import optax

from cases.case import Case, at


def add_decayed_weights(grads, params, weight_decay=0.0, mask=None):
    decays = mask is None or bool(mask)
    return [g + decays * at(weight_decay, i) * p for i, (g, p) in enumerate(zip(grads, params, strict=True))]


def add_cautious_weight_decay(grads, params, weight_decay=0.0, mask=None):
    kept = [np.where(g * p >= 0, p, 0) for g, p in zip(grads, params, strict=True)]
    return add_decayed_weights(grads, kept, weight_decay, mask)


CASES = [
    Case(
        "add_decayed_weights",
        add_decayed_weights,
        {"weight_decay": 0.1},
        {"weight_decay": 0.2, "mask": False},
        needs_params=True,
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
