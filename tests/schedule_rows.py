"""The table of schedules: a row for each, with its formula in NumPy, and another value for each of its arguments."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Row:
    """One schedule, or one of its modes.

    Attributes:
      name: its public name.
      formula: ``formula(t, **arguments)`` in float64 for ``t >= 0``.
      arguments: those of the call.
      others: for each argument another value, which must change the values.
      length: after how many updates it is over; None if it has no end.
      boundary: the last count at which something begins.
      early: whether it is at its last value one update before that already.
      optax: whether optax has the same numbers under the same name.
    """

    name: str
    formula: Callable[..., Any]
    arguments: Mapping[str, Any]
    others: Mapping[str, Any] = field(default_factory=dict)
    length: int | None = None
    boundary: int = 0
    early: bool = False
    optax: bool = False

    @property
    def label(self) -> str:
        return "-".join([self.name, *(value for value in self.arguments.values() if isinstance(value, str))])


def clamp(x):
    return np.clip(x, 0.0, 1.0)


def wave(x):
    return (1 + np.cos(np.pi * clamp(x))) / 2


def line(t, init_value, end_value, transition_steps, transition_begin=0):
    return init_value + (end_value - init_value) * clamp((t - transition_begin) / transition_steps)


def polynomial(t, init_value, end_value, power, transition_steps, transition_begin=0):
    return (init_value - end_value) * (1 - clamp((t - transition_begin) / transition_steps)) ** power + end_value


def exponential(t, init_value, transition_steps, decay_rate, transition_begin=0, staircase=False, end_value=None):
    x = np.maximum(t - transition_begin, 0) / transition_steps
    result = init_value * decay_rate ** (np.floor(x) if staircase else x)
    if end_value is None:
        return result
    return np.maximum(result, end_value) if decay_rate < 1 else np.minimum(result, end_value)


def warmup_exponential(t, init_value, peak_value, warmup_steps, transition_steps, decay_rate, **rest):
    up = init_value + (peak_value - init_value) * t / max(warmup_steps, 1)
    down = exponential(t - warmup_steps, peak_value, transition_steps, decay_rate, **rest)
    return np.where(t < warmup_steps, up, down)


def warmup_cosine(t, init_value, peak_value, warmup_steps, decay_steps, end_value=0.0, exponent=1.0):
    up = init_value + (peak_value - init_value) * t / max(warmup_steps, 1)
    x = (t - warmup_steps) / (decay_steps - warmup_steps)
    return np.where(t < warmup_steps, up, end_value + (peak_value - end_value) * wave(x) ** exponent)


def warmup(t, steps, peak_value=1.0, *, from_zero):
    return peak_value * np.minimum((t if from_zero else t + 1) / steps, 1)


def piecewise_constant(t, init_value, boundaries_and_scales):
    return init_value * np.prod([np.where(t < b, 1.0, s) for b, s in boundaries_and_scales.items()], axis=0)


def manual(t, values):
    starts = np.array(list(values))
    return np.array(list(values.values()))[np.searchsorted(starts, t, side="right") - 1]


def through(t, points, easing):
    """A curve through ``(count, value)``; the last of several points at one count is the one it leaves from."""
    result = np.full(np.shape(t), points[0][1], float)
    for (a, before), (b, after) in itertools.pairwise(points):
        x = clamp((t - a) / max(b - a, 1))
        x = 1 - wave(x) if easing == "cosine" else x
        result = np.where(t >= a, before + (after - before) * x, result)
        result = np.where(t >= b, after, result)
    return result


def piecewise_interpolate(t, interpolate_type, init_value, boundaries_and_scales):
    values = init_value * np.cumprod([1.0, *boundaries_and_scales.values()])
    return through(t, list(zip([0, *boundaries_and_scales], values, strict=True)), interpolate_type)


def cosine_onecycle(t, transition_steps, peak_value, pct_start=0.3, div_factor=25.0, final_div_factor=1e4):
    first, top = peak_value / div_factor, int(pct_start * transition_steps)
    points = [(0, first), (top, peak_value), (transition_steps, first / final_div_factor)]
    return through(t, points, "cosine")


def linear_onecycle(
    t, transition_steps, peak_value, pct_start=0.3, pct_final=0.85, div_factor=25.0, final_div_factor=1e4
):
    first, top, back = peak_value / div_factor, int(pct_start * transition_steps), int(pct_final * transition_steps)
    points = [(0, first), (top, peak_value), (back, first), (transition_steps, first / final_div_factor)]
    return through(t, points, "linear")


def cosine_momentum(t, transition_steps, base_momentum=0.85, max_momentum=0.95, pct_start=0.3):
    top = int(pct_start * transition_steps)
    return through(t, [(0, max_momentum), (top, base_momentum), (transition_steps, max_momentum)], "cosine")


def linear_momentum(t, transition_steps, base_momentum=0.85, max_momentum=0.95, pct_start=0.3, pct_final=0.85):
    top, back = int(pct_start * transition_steps), int(pct_final * transition_steps)
    return through(t, [(0, max_momentum), (top, base_momentum), (back, max_momentum)], "linear")


def sgdr(t, cosine_kwargs):
    start, result = 0, 0 * t
    for cycle in cosine_kwargs:
        result = np.where(t >= start, warmup_cosine(t - start, **cycle), result)
        start += cycle["decay_steps"]
    return result


def restarts(t, init_value, first_decay_steps, t_mul=2, m_mul=1.0, alpha=0.0):
    def at(t):
        t, steps, cycle = int(t), first_decay_steps, 0
        if t_mul == 1:
            t, cycle = t % steps, t // steps
        while t >= steps:
            t, steps, cycle = t - steps, steps * t_mul, cycle + 1
        return init_value * m_mul**cycle * ((1 - alpha) * wave(t / steps) + alpha)

    return np.vectorize(at, otypes=[float])(t)


def multistep(t, init_value, milestones, decay_rate=0.1):
    return init_value * decay_rate ** np.sum([t >= m for m in milestones], axis=0)


def power(t, init_value, power, steps_per_epoch=1, staircase=False):
    epoch = t / steps_per_epoch
    return init_value / (1 + (np.floor(epoch) if staircase else epoch)) ** power


def inverse_time(t, init_value, decay_rate, steps_per_epoch=1, staircase=False):
    epoch = t / steps_per_epoch
    return init_value / (1 + decay_rate * (np.floor(epoch) if staircase else epoch))


def noam(t, model_size, warmup_steps, factor=1.0):
    return factor * model_size**-0.5 * np.minimum((t + 1) ** -0.5, (t + 1) * warmup_steps**-1.5)


def wsd(
    t,
    init_value,
    peak_value,
    warmup_steps,
    stable_steps,
    decay_steps,
    end_value=0.0,
    cooldown="1-sqrt",
    exponent=1.2,
):
    x = clamp((t - warmup_steps - stable_steps) / decay_steps)
    shapes = {"linear": 1 - x, "1-sqrt": 1 - np.sqrt(x), "cosine": wave(x), "power": (1 - x) ** exponent}
    if cooldown == "exponential":
        down = peak_value * (end_value / peak_value) ** x
    else:
        down = end_value + (peak_value - end_value) * shapes[cooldown]
    up = init_value + (peak_value - init_value) * t / max(warmup_steps, 1)
    return np.where(t < warmup_steps, up, down)


def cyclic(t, base_value, peak_value, steps_up, steps_down=None, mode="triangular", gamma=1.0):
    period = steps_up + (steps_down or steps_up)
    height = np.interp(t % period, [0, steps_up, period], [0.0, 1.0, 0.0])
    scale = {"triangular": 1.0, "triangular2": 0.5 ** (t // period), "exp_range": gamma**t}[mode]
    return base_value + (peak_value - base_value) * height * scale


def rex(t, init_value, decay_steps):
    x = clamp(t / decay_steps)
    return init_value * (1 - x) / (0.5 + 0.5 * (1 - x))


def fractal(steps):
    """The permutation of 1 ... steps of the paper."""
    if steps == 1:
        return [1]
    half = fractal(steps // 2)
    return [k for pair in zip(half, [steps + 1 - k for k in half], strict=True) for k in pair]


def chebyshev(t, smallest_curvature, largest_curvature, steps):
    k = np.array(fractal(steps))[np.minimum(t, steps - 1).astype(int)]
    m, most = smallest_curvature, largest_curvature
    return 1 / ((most + m) / 2 - (most - m) / 2 * np.cos((k - 0.5) * np.pi / steps))


CYCLE = {"init_value": 0.2, "peak_value": 1.0, "warmup_steps": 2, "decay_steps": 9, "end_value": 0.1}
WSD = {"init_value": 0.1, "peak_value": 1.0, "warmup_steps": 3, "stable_steps": 4, "decay_steps": 11, "end_value": 0.2}
WSD_OTHERS = {
    "init_value": 0.3,
    "peak_value": 0.7,
    "warmup_steps": 0,
    "stable_steps": 0,
    "decay_steps": 5,
    "end_value": 0.1,
    "cooldown": "cosine",
}
EXPONENTIAL_OTHERS = {"init_value": 0.7, "transition_steps": 7, "decay_rate": 0.6, "transition_begin": 4}

ROWS = [
    Row("constant_schedule", lambda t, value: value + 0 * t, {"value": 0.3}, {"value": 0.7}, optax=True),
    Row(
        "linear_schedule",
        line,
        {"init_value": 1.0, "end_value": 0.25, "transition_steps": 7, "transition_begin": 3},
        {"init_value": 0.8, "end_value": 0.0, "transition_steps": 4, "transition_begin": 0},
        length=10,
        optax=True,
        boundary=3,
    ),
    Row(
        "linear_to_zero",
        lambda t, init_value, decay_steps: line(t, init_value, 0.0, decay_steps),
        {"init_value": 0.7, "decay_steps": 9},
        {"init_value": 0.3, "decay_steps": 5},
        length=9,
    ),
    Row(
        "polynomial_schedule",
        polynomial,
        {"init_value": 1.0, "end_value": 0.25, "power": 1.7, "transition_steps": 7, "transition_begin": 3},
        {"init_value": 0.8, "end_value": 0.0, "power": 0.4, "transition_steps": 4, "transition_begin": 0},
        length=10,
        optax=True,
        boundary=3,
    ),
    Row(
        "exponential_decay",
        exponential,
        {"init_value": 0.5, "transition_steps": 5, "decay_rate": 0.3},
        {**EXPONENTIAL_OTHERS, "staircase": True, "end_value": 0.2},
        optax=True,
    ),
    Row(
        "exponential_decay",
        exponential,
        {"init_value": 0.5, "transition_steps": 5, "decay_rate": 0.5, "staircase": True, "transition_begin": 2},
        EXPONENTIAL_OTHERS,
        optax=True,
        boundary=2,
    ),
    Row(
        "exponential_decay",
        exponential,
        {"init_value": 0.5, "transition_steps": 5, "decay_rate": 0.3, "end_value": 0.1},
        EXPONENTIAL_OTHERS,
        optax=True,
    ),
    Row(  # at huge counts optax has NaN here: inf is clipped too late
        "exponential_decay",
        exponential,
        {"init_value": 0.5, "transition_steps": 5, "decay_rate": 1.3, "end_value": 0.8},
        {"end_value": 0.6},
    ),
    Row(
        "warmup_exponential_decay_schedule",
        warmup_exponential,
        {
            "init_value": 0.1,
            "peak_value": 1.0,
            "warmup_steps": 4,
            "transition_steps": 5,
            "decay_rate": 0.3,
            "transition_begin": 2,
            "staircase": False,
            "end_value": 0.05,
        },
        {
            "init_value": 0.3,
            "peak_value": 0.6,
            "warmup_steps": 0,
            "transition_steps": 3,
            "decay_rate": 0.7,
            "transition_begin": 0,
            "staircase": True,
            "end_value": 0.4,
        },
        optax=True,
        boundary=6,
    ),
    Row(
        "cosine_decay_schedule",
        lambda t, init_value, decay_steps, alpha=0.0, exponent=1.0: (
            init_value * ((1 - alpha) * wave(t / decay_steps) ** exponent + alpha)
        ),
        {"init_value": 0.3, "decay_steps": 9, "alpha": 0.1, "exponent": 2.0},
        {"init_value": 0.5, "decay_steps": 6, "alpha": 0.4, "exponent": 0.7},
        length=9,
        optax=True,
    ),
    Row(
        "warmup_cosine_decay_schedule",
        warmup_cosine,
        {"init_value": 0.1, "peak_value": 1.0, "warmup_steps": 4, "decay_steps": 11, "end_value": 0.2},
        {
            "init_value": 0.4,
            "peak_value": 0.7,
            "warmup_steps": 1,
            "decay_steps": 8,
            "end_value": 0.0,
            "exponent": 1.5,
        },
        length=11,
        optax=True,
        boundary=4,
    ),
    Row(
        "warmup_cosine_decay_schedule",
        warmup_cosine,
        {"init_value": 0.1, "peak_value": 1.0, "warmup_steps": 0, "decay_steps": 11, "exponent": 1.5},
        {"warmup_steps": 3},
        length=11,
        optax=True,
    ),
    Row(
        "warmup",
        warmup,
        {"steps": 5, "peak_value": 0.7, "from_zero": True},
        {"steps": 3, "peak_value": 0.4, "from_zero": False},
        length=5,
    ),
    Row("warmup", warmup, {"steps": 5, "from_zero": False}, {"steps": 3, "peak_value": 0.4}, length=5, early=True),
    Row(
        "warmup_constant_schedule",
        lambda t, init_value, peak_value, warmup_steps: line(t, init_value, peak_value, warmup_steps),
        {"init_value": 0.1, "peak_value": 0.9, "warmup_steps": 6},
        {"init_value": 0.3, "peak_value": 0.5, "warmup_steps": 3},
        optax=True,
        boundary=6,
    ),
    Row(  # optax changes one update later than it documents
        "piecewise_constant_schedule",
        piecewise_constant,
        {"init_value": 1.0, "boundaries_and_scales": {3: 0.5, 7: 0.1}},
        {"init_value": 0.6, "boundaries_and_scales": {3: 0.7, 7: 0.2}},
        boundary=7,
    ),
    Row(
        "manual_schedule",
        manual,
        {"values": {0: 1.0, 3: 0.5, 7: 0.1}},
        {"values": {0: 0.7, 3: 0.6, 7: 0.2}},
        boundary=7,
    ),
    *(
        Row(
            "piecewise_interpolate_schedule",
            piecewise_interpolate,
            {"interpolate_type": kind, "init_value": 0.8, "boundaries_and_scales": {3: 0.5, 9: 2.0, 11: 0.0}},
            {"interpolate_type": other, "init_value": 0.5, "boundaries_and_scales": {3: 0.7, 9: 0.3, 11: 1.0}},
            length=11,
            optax=True,
            boundary=9,
        )
        for kind, other in (("linear", "cosine"), ("cosine", "linear"))
    ),
    Row(
        "cosine_onecycle_schedule",
        cosine_onecycle,
        {"transition_steps": 20, "peak_value": 0.8},
        {"transition_steps": 13, "peak_value": 0.5, "pct_start": 0.6, "div_factor": 3.0, "final_div_factor": 5.0},
        length=20,
        optax=True,
        boundary=6,
    ),
    Row(
        "linear_onecycle_schedule",
        linear_onecycle,
        {"transition_steps": 20, "peak_value": 0.8},
        {
            "transition_steps": 13,
            "peak_value": 0.5,
            "pct_start": 0.6,
            "pct_final": 0.5,
            "div_factor": 3.0,
            "final_div_factor": 5.0,
        },
        length=20,
        optax=True,
        boundary=17,
    ),
    Row(
        "cosine_onecycle_momentum_schedule",
        cosine_momentum,
        {"transition_steps": 20},
        {"transition_steps": 13, "base_momentum": 0.5, "max_momentum": 0.99, "pct_start": 0.6},
        length=20,
        boundary=6,
    ),
    Row(
        "linear_onecycle_momentum_schedule",
        linear_momentum,
        {"transition_steps": 20},
        {"transition_steps": 13, "base_momentum": 0.5, "max_momentum": 0.99, "pct_start": 0.6, "pct_final": 0.5},
        length=20,
        early=True,
        boundary=17,
    ),
    Row(
        "sgdr_schedule",
        sgdr,
        {"cosine_kwargs": [CYCLE, {**CYCLE, "peak_value": 0.6, "warmup_steps": 1, "decay_steps": 5}]},
        {"cosine_kwargs": [CYCLE, {**CYCLE, "peak_value": 0.7, "decay_steps": 7}]},
        length=14,
        optax=True,
        boundary=10,
    ),
    Row(
        "cosine_decay_restarts",
        restarts,
        {"init_value": 0.8, "first_decay_steps": 3},
        {"init_value": 0.5, "first_decay_steps": 4, "t_mul": 3, "m_mul": 0.7, "alpha": 0.1},
    ),
    Row(
        "cosine_decay_restarts",
        restarts,
        {"init_value": 0.8, "first_decay_steps": 4, "t_mul": 1, "m_mul": 0.9, "alpha": 0.1},
        {"t_mul": 2, "first_decay_steps": 5},
    ),
    Row(
        "step_decay",
        lambda t, init_value, transition_steps, decay_rate=0.1: init_value * decay_rate ** (t // transition_steps),
        {"init_value": 0.8, "transition_steps": 4},
        {"init_value": 0.5, "transition_steps": 3, "decay_rate": 0.6},
    ),
    Row(
        "halving_schedule",
        lambda t, init_value, transition_steps: init_value * 0.5 ** (t // transition_steps),
        {"init_value": 0.8, "transition_steps": 4},
        {"init_value": 0.5, "transition_steps": 3},
    ),
    Row(
        "multistep_decay",
        multistep,
        {"init_value": 0.8, "milestones": [2, 3, 9]},
        {"init_value": 0.5, "milestones": [1, 4, 9], "decay_rate": 0.6},
        boundary=9,
    ),
    Row(
        "power_decay",
        power,
        {"init_value": 0.8, "power": 1.5, "steps_per_epoch": 4},
        {"init_value": 0.5, "power": 0.5, "steps_per_epoch": 3, "staircase": True},
    ),
    Row(
        "inverse_square_root_decay",
        lambda t, init_value, **rest: power(t, init_value, 0.5, **rest),
        {"init_value": 0.8, "steps_per_epoch": 4, "staircase": True},
        {"init_value": 0.5, "steps_per_epoch": 3, "staircase": False},
    ),
    Row(
        "inverse_time_decay",
        inverse_time,
        {"init_value": 0.2, "decay_rate": 0.5},
        {"init_value": 0.5, "decay_rate": 0.9, "steps_per_epoch": 3},
    ),
    Row(
        "inverse_time_decay",
        inverse_time,
        {"init_value": 0.2, "decay_rate": 1.0, "steps_per_epoch": 4, "staircase": True},
        {"steps_per_epoch": 3, "staircase": False},
    ),
    Row(
        "noam_schedule",
        noam,
        {"model_size": 16, "warmup_steps": 7},
        {"model_size": 8, "warmup_steps": 3, "factor": 2.0},
        boundary=6,
    ),
    Row("wsd_schedule", wsd, WSD, WSD_OTHERS, length=18, boundary=7),
    *(
        Row(
            "wsd_schedule", wsd, {**WSD, "cooldown": cooldown}, {**WSD_OTHERS, "cooldown": other}, length=18, boundary=7
        )
        for cooldown, other in (("linear", "power"), ("cosine", "1-sqrt"), ("exponential", "linear"))
    ),
    Row(
        "wsd_schedule",
        wsd,
        {**WSD, "cooldown": "power"},
        {**WSD_OTHERS, "cooldown": "exponential", "exponent": 3.0},
        length=18,
        boundary=7,
    ),
    *(
        Row(
            "cyclic_schedule",
            cyclic,
            {"base_value": 0.1, "peak_value": 0.9, "steps_up": 3, "steps_down": 5, "mode": mode, "gamma": 0.9},
            {"base_value": 0.2, "peak_value": 0.6, "steps_up": 4, "steps_down": 2, "mode": other, **more},
        )
        for mode, other, more in (
            ("triangular", "triangular2", {}),
            ("triangular2", "exp_range", {}),
            ("exp_range", "triangular", {"gamma": 0.8}),
        )
    ),
    Row(
        "cyclic_schedule",
        cyclic,
        {"base_value": 0.1, "peak_value": 0.9, "steps_up": 3},
        {"steps_up": 2, "steps_down": 4, "mode": "triangular2"},
    ),
    Row(
        "rex_schedule",
        rex,
        {"init_value": 0.8, "decay_steps": 9},
        {"init_value": 0.5, "decay_steps": 6},
        length=9,
    ),
    Row(
        "chebyshev_schedule",
        chebyshev,
        {"smallest_curvature": 0.5, "largest_curvature": 4.0, "steps": 16},
        {"smallest_curvature": 1.0, "largest_curvature": 3.0, "steps": 8},
        length=16,
        early=True,
    ),
]
