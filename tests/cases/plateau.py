"""The learning rate that falls when a value no longer does."""

import numpy as np
import optax.contrib

from cases.case import Case


def reduce_on_plateau(
    grads,
    params,
    factor=0.1,
    patience=10,
    rtol=1e-4,
    atol=0.0,
    cooldown=0,
    accumulation_size=1,
    min_scale=0.0,
    *,
    value,
):
    """The value is the same at each step, so a mean of some is ``value`` too."""
    scale, best, bad, wait, updates = 1.0, np.inf, 0, 0, []
    for i, g in enumerate(grads):
        if (i + 1) % accumulation_size == 0:
            better = value < (1 - rtol) * best - atol
            best = value if better else best
            bad = 0 if better or wait > 0 else bad + 1
            wait = max(wait - 1, 0)
            if bad == patience:
                scale, bad, wait = max(factor * scale, min_scale), 0, cooldown
        updates.append(scale * g)
    return updates


CASES = [
    Case(
        "reduce_on_plateau",
        reduce_on_plateau,
        # By these two a value of -1.5 is never better than one of -1.5, which it would be with a larger rtol alone.
        {"patience": 2, "atol": 0.5},
        {
            "factor": 0.5,
            "patience": 3,
            "rtol": 0.5,
            "atol": 1e-5,
            "cooldown": 3,
            "accumulation_size": 2,
            "min_scale": 0.02,
        },
        extras={"value": -1.5},
        forgets=1,
        fields=frozenset({"scale", "best_value", "plateau_count", "cooldown_count", "count", "avg_value"}),
        cyclic=frozenset({"plateau_count", "cooldown_count", "count"}),
        optax=optax.contrib.reduce_on_plateau,
    ),
]
