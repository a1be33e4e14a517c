"""One cycle: the learning rate up and down again, once, and the momentum the other way.

    cosine:   peak / div_factor -> peak -> peak / (div_factor * final_div_factor)
    linear:   peak / div_factor -> peak -> peak / div_factor -> peak / (div_factor * final_div_factor)
    momentum: max_momentum -> base_momentum -> max_momentum (and stays there)

The phases end at ``pct_start``, for the linear one at ``pct_final`` too, and at 1 of ``transition_steps``, rounded down
to whole updates. The momentum is lowest where the learning rate is highest: give both schedules the same numbers. A
share times ``transition_steps`` within rounding of a whole number is that number: ``0.29 * 100`` is 29, where optax has
28.

PyTorch's ``OneCycleLR(total_steps=n)`` has its peak one update earlier and its end at count ``n - 1``.

Paper: Smith & Topin 2017, arXiv 1708.07120; the momentum: Smith 2018, arXiv 1803.09820.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, _schedule_checks, numerics
from jaxopt_lessons.schedules.piecewise import interpolated
from jaxopt_lessons.schedules.schedule import Timed, schedule
from jaxopt_lessons.types import DecayRate, Fraction, Positive, Scalar, Steps


def _phases(owner: str, transition_steps: Any, **shares: Any) -> list[Any]:
    """The counts at which phases end: at the shares of the whole, and at its end."""
    eps = float(jnp.finfo(numerics.float_dtype()).eps)
    products = [numerics.as_float(share) * numerics.as_float(transition_steps) for share in shares.values()]
    ends = [*(jnp.floor(x * (1 + 2 * eps)).astype(jnp.int32) for x in products), transition_steps]
    known = [_schedule_checks.known(end) for end in ends]
    if None not in known:
        _checks.increasing(owner, f"the ends of the phases ({', '.join(shares)} and 1 of transition_steps)", known)
    return ends


def _onecycle(ends: list[Any], values: list[Any], easing: str) -> Timed:
    def value(count: jax.Array) -> jax.Array:
        return interpolated(count, [jnp.asarray(end).astype(count.dtype) for end in ends], values, easing)

    return Timed(value, ends[-1], boundary=ends[-2], turns=tuple(ends))


@schedule
def cosine_onecycle_schedule(
    transition_steps: Steps,
    peak_value: Scalar,
    pct_start: Fraction = 0.3,
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
) -> Any:
    """Half a cosine up to ``peak_value``, and half a cosine down to nearly 0.

    Args:
      transition_steps: length of the cycle, in updates.
      peak_value: the largest value.
      pct_start: where it comes, as a share of the cycle, in ``(0, 1)``.
      div_factor: the first value is ``peak_value / div_factor``; in ``(0, inf)``.
      final_div_factor: the last value is the first one divided by this; in ``(0, inf)``.

    Raises:
      ValueError: the peak would come at the end of the cycle.

    >>> cosine_onecycle_schedule(8, 1.0, pct_start=0.5, div_factor=4.0)(jnp.array([0, 2, 4, 6, 8])).round(3)
    Array([0.25 , 0.625, 1.   , 0.5  , 0.   ], dtype=float32)
    """
    ends = _phases("cosine_onecycle_schedule", transition_steps, pct_start=pct_start)
    first = peak_value / div_factor
    return _onecycle(ends, [first, peak_value, first / final_div_factor], "cosine")


@schedule
def linear_onecycle_schedule(
    transition_steps: Steps,
    peak_value: Scalar,
    pct_start: Fraction = 0.3,
    pct_final: Fraction = 0.85,
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
) -> Any:
    """Up to ``peak_value``, back, and down to nearly 0, on straight lines.

    Args:
      transition_steps: length of the cycle, in updates.
      peak_value: the largest value.
      pct_start: where it comes, as a share of the cycle, in ``(0, 1)``.
      pct_final: where the value is back at the first one, as a share of the cycle, in ``(pct_start, 1)``.
      div_factor: the first value is ``peak_value / div_factor``; in ``(0, inf)``.
      final_div_factor: the last value is the first one divided by this; in ``(0, inf)``.

    Raises:
      ValueError: a phase has no update.

    >>> linear_onecycle_schedule(8, 1.0, 0.5, 0.75, div_factor=4.0)(jnp.array([0, 2, 4, 5, 6, 7, 8])).round(3)
    Array([0.25 , 0.625, 1.   , 0.625, 0.25 , 0.125, 0.   ], dtype=float32)
    """
    ends = _phases("linear_onecycle_schedule", transition_steps, pct_start=pct_start, pct_final=pct_final)
    first = peak_value / div_factor
    return _onecycle(ends, [first, peak_value, first, first / final_div_factor], "linear")


@schedule
def cosine_onecycle_momentum_schedule(
    transition_steps: Steps,
    base_momentum: DecayRate = 0.85,
    max_momentum: DecayRate = 0.95,
    pct_start: Fraction = 0.3,
) -> Any:
    """The momentum that goes with ``cosine_onecycle_schedule``: down while the learning rate goes up, and back.

    Args:
      transition_steps: length of the cycle, in updates.
      base_momentum: the smallest momentum, in ``[0, 1)``, where the learning rate is largest.
      max_momentum: the largest momentum, in ``[base_momentum, 1)``, at both ends.
      pct_start: where the smallest comes, as a share of the cycle, in ``(0, 1)``.

    Raises:
      ValueError: the smallest momentum is above the largest, or would come at the end of the cycle.

    >>> cosine_onecycle_momentum_schedule(8, 0.5, 0.75, pct_start=0.5)(jnp.array([0, 2, 4, 6, 8]))
    Array([0.75 , 0.625, 0.5  , 0.625, 0.75 ], dtype=float32)
    """
    _checks.not_above("cosine_onecycle_momentum_schedule", "base_momentum", base_momentum, "max_momentum", max_momentum)
    ends = _phases("cosine_onecycle_momentum_schedule", transition_steps, pct_start=pct_start)
    return _onecycle(ends, [max_momentum, base_momentum, max_momentum], "cosine")


@schedule
def linear_onecycle_momentum_schedule(
    transition_steps: Steps,
    base_momentum: DecayRate = 0.85,
    max_momentum: DecayRate = 0.95,
    pct_start: Fraction = 0.3,
    pct_final: Fraction = 0.85,
) -> Any:
    """The momentum that goes with ``linear_onecycle_schedule``: down while the learning rate goes up, and back.

    Args:
      transition_steps: length of the cycle, in updates.
      base_momentum: the smallest momentum, in ``[0, 1)``, where the learning rate is largest.
      max_momentum: the largest momentum, in ``[base_momentum, 1)``, at first and from ``pct_final`` on.
      pct_start: where the smallest comes, as a share of the cycle, in ``(0, 1)``.
      pct_final: where the momentum is back, as a share of the cycle, in ``(pct_start, 1)``.

    Raises:
      ValueError: the smallest momentum is above the largest, or a phase has no update.

    >>> linear_onecycle_momentum_schedule(8, 0.5, 0.75, 0.5, 0.75)(jnp.array([0, 2, 4, 5, 6, 8]))
    Array([0.75 , 0.625, 0.5  , 0.625, 0.75 , 0.75 ], dtype=float32)
    """
    _checks.not_above("linear_onecycle_momentum_schedule", "base_momentum", base_momentum, "max_momentum", max_momentum)
    ends = _phases("linear_onecycle_momentum_schedule", transition_steps, pct_start=pct_start, pct_final=pct_final)
    return _onecycle(ends, [max_momentum, base_momentum, max_momentum, max_momentum], "linear")
