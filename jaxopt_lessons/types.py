"""The vocabulary of the library: what the arguments are called, and which numbers they may be.

Trees
    ``Params``, ``Updates`` and ``State`` are pytrees of arrays. ``Updates`` has the structure of ``Params``: it holds
    gradients when it enters a chain of transformations and the step to add to the parameters when it leaves.

Numbers
    An argument annotated with one of the aliases below is a *hyperparameter*: a leaf of the value, checked against the
    range in the alias when the value is built.

    ====================  ==================================================
    ``Scalar``            any finite number
    ``NonNegative``       ``[0, inf)``: learning rates, epsilons, decays
    ``Positive``          ``(0, inf)``
    ``Limit``             ``[0, inf]``: what something is clipped to; ``inf`` for no limit
    ``Fraction``          ``(0, 1)``
    ``Weight``            ``[0, 1]``: of one of two things in an average
    ``AboveOne``          ``(1, inf)``
    ``DecayRate``         ``[0, 1)``: the beta of an exponentially weighted average
    ``Steps``             a whole number of steps, at least 1
    ``Offset``            a whole number of steps, at least 0
    ====================  ==================================================

    ``ScalarOrSchedule``, ``NonNegativeOrSchedule`` ... may also be a schedule, a callable ``count -> number``. NumPy
    scalars are as good as Python's, and so are arrays without axes.

Field names of optimizer states
    A field annotated ``Params`` or ``Updates`` is a tree like the parameters, one annotated ``jax.Array`` is one array.

    ``count``             updates made so far, int32, saturating
    ``mu``                first moment: a weighted average (or sum) of gradients
    ``nu``                second moment: a weighted average of squared gradients
    ``nu_max``            the largest ``nu`` so far
    ``mu_product``        product of all momenta so far (NAdam)
    ``trace``             momentum of heavy-ball methods
    ``ema``               exponentially weighted average of updates
    ``sum_of_squares``    sum of squared gradients since the start
    ``e_g``               weighted average of squared gradients (Adadelta)
    ``e_x``               weighted average of squared steps (Adadelta)
    ``step_sizes``        length of each weight's next step (Rprop)
    ``prev_updates``      the step before, 0 where it turned back (Rprop)
    ``previous_gradient`` the gradient of the update before
    ``is_initial_step``   whether there was no update before
    ``m``, ``v``, ``n``   averages of gradients, of their differences, and of squares (Adan, simplified AdEMAMix)
    ``g``, ``t``          the last gradient, and the count of updates (the same)
    ``m1``, ``m2``        fast and slow average of gradients (AdEMAMix), with ``count_m2``, the count of the slow one
    ``grad_sum_sq``       weighted sum of squared gradients (MADGRAD)
    ``s``                 weighted sum of gradients (MADGRAD)
    ``x0``                the parameters at ``init``
    ``hessian_fn_state``  the state of the transformation that estimates the curvature (Sophia)
    ``mini_step``         updates since the last step that was taken, back to 0 with it
    ``grad_acc``          sum of updates since the last step that was taken
    ``v_row``, ``v_col``  averages of squares along two axes of a factored leaf, with ``v`` for a whole one (Adafactor)
    ``res_row``, ``res_col``  the same of squared deviations from the momentum (CAME)
    ``exp_avg``, ``exp_avg_sq``  averages of gradients and of their squares (Prodigy, D-Adaptation, MoMo)
    ``grad_sum``          weighted sum of gradients (Prodigy, D-Adaptation)
    ``estim_lr``          the estimated learning rate, with ``numerator_weighted``, the sum it is made of
    ``params0``           the parameters at ``init`` (Prodigy); ``init_params`` (DoG), ``init_particles`` (COCOB)
    ``max_dist``          the largest distance from there so far (DoG); ``estim_sq_dist``, its square (DoWG)
    ``sum_sq_norm_grads`` sum of squared norms of gradients; ``grad_sum_of_squares``, ``weighted_sq_norm_grads``
    ``is_init_step``      whether there was no update before (DoG)
    ``cumulative_gradients``  minus the sum of gradients (COCOB), with ``subgradients``, the sum of their sizes,
                          ``scale``, the largest of these, and ``reward``, what was won
    ``barf``, ``gamma``   averages of losses, and of products of gradient and parameters (MoMo)
    ``lb``                lower bound of the loss (MoMo)
    ``r``, ``m``, ``v``, ``s``  of each beta the reward, the largest and the squared products, the factor (Mechanic)
    ``z``                 the sequence of the inner optimizer (schedule-free)
    ``weight_sum``        sum of the weights in its average, with ``max_lr``, the largest learning rate so far
    ``inner``             the state of a wrapped transformation
    ``inner_state``       the same, where optax calls it so; ``inner_states``: one for each label
    ``base_optimizer_state``  the same (Mechanic, schedule-free)
    ``inner_opt_state``   the same (MultiSteps); ``fast_state`` (lookahead); ``opt_state`` and ``adv_state`` (SAM)
    ``notfinite_count``   steps left out in a row because something was infinite or NaN
    ``total_notfinite``   such steps since the start
    ``last_finite``       whether the last step was taken
    ``gradient_step``     steps taken of several micro-batches each; ``mini_step`` counts those of the next one
    ``acc_grads``         mean (or sum) of the gradients since the last step
    ``skip_state``        what the function that may skip a micro-batch said of the last one
    ``steps_since_sync``  updates since the cycle began (lookahead, SAM)
    ``slow``              the slow weights (lookahead)
    ``cache``             the parameters where a climb began (SAM)
    ``num_averaged``      how many parameters there are in an average
    ``average``           the average of the parameters
    ``step``              updates so far, whether the wrapped transformation saw them or not
    ``found_nan``         whether the last gradient of a leaf had a NaN
    ``master``            float32 copies of half-precision parameters
    ``residual``          what half-precision parameters lack of their masters, as whole numbers
    ``compensation``      what rounding took from half-precision parameters (Kahan)
    ``scale``             the factor so far (reduce_on_plateau), with ``best_value`` and ``avg_value``, the best average
                          of values and that of the values since, ``plateau_count``, averages in a row that were no
                          better, and ``cooldown_count``, how many more are not to be judged
    ``measurement``       what was measured at the last update, by name; ``measurements`` (monitor)
    ``measure_states``    the memories of measurements, by name
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import jax

Params: TypeAlias = Any
Updates: TypeAlias = Any
State: TypeAlias = Any
PyTree: TypeAlias = Any

Number: TypeAlias = float | jax.Array
ScheduleFn: TypeAlias = Callable[[Any], Any]
"""``count -> number``: a ``Schedule`` of this library, of optax, or a function of one's own."""


@dataclass(frozen=True)
class Chosen:
    """The annotation of an argument that says which leaves: a tree of bools, or a function."""


Mask: TypeAlias = Annotated[Any, Chosen()]
"""Which leaves: a tree of bools, ``mask(params) -> tree of bools``, or ``mask(path, leaf) -> bool``."""

Labels: TypeAlias = Any
"""Which leaf belongs where: a tree of labels, ``labels(params) -> tree``, or ``labels(path, leaf) -> label``."""


@dataclass(frozen=True)
class Range:
    """The numbers a hyperparameter may take; the annotation that makes an argument a hyperparameter."""

    low: float = -float("inf")
    high: float = float("inf")
    includes_low: bool = True
    includes_high: bool = True
    whole: bool = False
    finite: bool = True
    schedules: bool = False

    def __contains__(self, value: Any) -> bool:
        above = value >= self.low if self.includes_low else value > self.low
        below = value <= self.high if self.includes_high else value < self.high
        finite = not self.finite or abs(value) < float("inf")
        return bool(above and below and finite and (not self.whole or value == int(value)))

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a finite number" if self.finite else "a number"
        if self.low == -float("inf"):
            return kind
        left = "[" if self.includes_low else "("
        right = "]" if self.includes_high and not (self.finite and self.high == float("inf")) else ")"
        high = "2^30" if self.high == 2**30 else "2^31 - 1" if self.high == 2**31 - 1 else f"{self.high:g}"
        return f"{kind} in {left}{self.low:g}, {high}{right}"


@dataclass(frozen=True)
class Convert:
    """The annotation of an argument that ``function(owner, name, value)`` checks and converts before it is kept.

    ``mixed``: the argument is dicts and tuples, of any depth and in an order that counts, in which values, floats and
    arrays are leaves, and names and settings are structure.
    """

    function: Callable[[str, str, Any], Any]
    mixed: bool = False


@dataclass(frozen=True)
class Repeated:
    """The annotation of an argument that repeats one of a value inside: ``replace`` changes both."""


Scalar: TypeAlias = Annotated[Number, Range()]
NonNegative: TypeAlias = Annotated[Number, Range(0)]
Positive: TypeAlias = Annotated[Number, Range(0, includes_low=False)]
Fraction: TypeAlias = Annotated[Number, Range(0, 1, includes_low=False, includes_high=False)]
AboveOne: TypeAlias = Annotated[Number, Range(1, includes_low=False)]
DecayRate: TypeAlias = Annotated[Number, Range(0, 1, includes_high=False)]
Weight: TypeAlias = Annotated[Number, Range(0, 1)]
Steps: TypeAlias = Annotated[Number, Range(1, 2**31 - 1, whole=True)]
Offset: TypeAlias = Annotated[Number, Range(0, 2**31 - 1, whole=True)]

ScalarOrSchedule: TypeAlias = Annotated[Number | ScheduleFn, Range(schedules=True)]
NonNegativeOrSchedule: TypeAlias = Annotated[Number | ScheduleFn, Range(0, schedules=True)]
PositiveOrSchedule: TypeAlias = Annotated[Number | ScheduleFn, Range(0, includes_low=False, schedules=True)]
LimitOrSchedule: TypeAlias = Annotated[Number | ScheduleFn, Range(0, finite=False, schedules=True)]
DecayRateOrSchedule: TypeAlias = Annotated[Number | ScheduleFn, Range(0, 1, includes_high=False, schedules=True)]
WeightOrSchedule: TypeAlias = Annotated[Number | ScheduleFn, Range(0, 1, schedules=True)]
