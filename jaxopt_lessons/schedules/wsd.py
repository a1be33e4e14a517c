"""WSD: warm-up, a stable stretch, and a decay (cooldown). Also called trapezoidal.

    x = (count - warmup_steps - stable_steps) / decay_steps, in [0, 1], during the cooldown
    value = end_value + (peak_value - end_value) * shape(x)

    cooldown="linear"         1 - x
    cooldown="1-sqrt"         1 - sqrt(x)
    cooldown="cosine"         (1 + cos(pi x)) / 2
    cooldown="power"          (1 - x)^exponent
    cooldown="exponential"    value = peak_value * (end_value / peak_value)^x

The end need not be known in advance: go on with the stable stretch from where the cooldown began. Papers: Hu et al.
2024, arXiv 2404.06395; the shapes: Hägele et al. 2024, arXiv 2405.18392, who find ``"1-sqrt"`` over a fifth of the run
the best of them.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics
from jaxopt_lessons.schedules.cosine import half_cosine
from jaxopt_lessons.schedules.schedule import Timed, schedule
from jaxopt_lessons.types import Offset, Positive, Range, Scalar, Steps

_POSITIVE = Range(0, includes_low=False)
_COOLDOWNS = ("linear", "1-sqrt", "cosine", "power", "exponential")


@schedule
def wsd_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: Offset,
    stable_steps: Offset,
    decay_steps: Steps,
    end_value: Scalar = 0.0,
    cooldown: str = "1-sqrt",
    exponent: Positive = 1.2,
) -> Any:
    """A straight line up to ``peak_value``, which stays for a while, then a cooldown to ``end_value``.

    The very first update has ``init_value``, the first with the peak is that of count ``warmup_steps``.

    Args:
      init_value: the value at count 0.
      peak_value: the value from count ``warmup_steps`` on.
      warmup_steps: length of the warm-up, in updates; 0 for none.
      stable_steps: for how many updates the peak stays; 0 for not at all.
      decay_steps: length of the cooldown alone, in updates.
      end_value: the value from ``warmup_steps + stable_steps + decay_steps`` on.
      cooldown: the shape: ``"linear"``, ``"1-sqrt"``, ``"cosine"``, ``"power"`` or ``"exponential"``.
      exponent: of the shape ``"power"``, in ``(0, inf)``.

    Raises:
      ValueError: there is no such shape, or the exponential one has an ``end_value`` or a ``peak_value`` that is not
        above 0.

    >>> wsd_schedule(0.0, 1.0, warmup_steps=2, stable_steps=2, decay_steps=4, cooldown="linear")(jnp.arange(9))
    Array([0.  , 0.5 , 1.  , 1.  , 1.  , 0.75, 0.5 , 0.25, 0.  ], dtype=float32)
    """
    _checks.one_of("wsd_schedule", "cooldown", cooldown, _COOLDOWNS)
    if cooldown == "exponential":
        for name, number in (("end_value", end_value), ("peak_value", peak_value)):
            _checks.number("wsd_schedule, whose cooldown is exponential", name, number, _POSITIVE)
    start = warmup_steps + stable_steps

    def shape(done: jax.Array, left: jax.Array) -> jax.Array:
        x, r = numerics.ratio(done, decay_steps), numerics.ratio(left, decay_steps)
        if cooldown == "1-sqrt":
            return r / (1 + jnp.sqrt(x))
        if cooldown == "cosine":
            return half_cosine(x)
        return r**exponent if cooldown == "power" else r

    def value(count: jax.Array) -> jax.Array:
        up = numerics.toward(
            init_value, peak_value, numerics.ratio(jnp.minimum(count, warmup_steps), jnp.maximum(warmup_steps, 1))
        )
        done = jnp.clip(count - start, 0, decay_steps)
        if cooldown == "exponential":
            x = numerics.ratio(done, decay_steps)
            down = jnp.where(x < 1, peak_value * jnp.power(end_value / peak_value, x), end_value)
        else:
            down = numerics.toward(end_value, peak_value, shape(done, decay_steps - done))
        return jnp.where(count < warmup_steps, up, down)

    return Timed(value, start + decay_steps, boundary=start, turns=(warmup_steps, start))
