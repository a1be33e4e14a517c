"""``Policy``: a loss in half precision for parameters in float32, and the scale that gradients of it need.

    parameters     as they are given, float32: what the optimizer moves, and what a step of 1e-4 is not lost in
    for the loss   parameters and floating-point batches are cast to ``compute``, the gradients back
    reductions     the mean of the loss, its metrics, sums over micro-batches and norms: float32
    model state    as it is; what a loss returns of it comes back in the dtypes it had

bfloat16 has the range of float32 and needs no more. float16 ends at 6e-8 and at 65504, and gradients are smaller than
that: there the loss is multiplied by a scale before it is differentiated and the gradients are divided by it,

    grads = d(scale * loss) / scale        in float32, exact: the scale is a power of 2
    overflow:                              an infinite or NaN gradient: no step; scale = scale / 2
    growth_interval steps without:         scale = 2 * scale

with the numbers of jmp, apex and ``torch.amp``: from 2^15, doubled after 2,000 steps, never below 1, nor above 2^24.

Where the scale comes in is the one thing unusual here. It is a rule of differentiation, not an operation: the loss has
its own value and its own gradient whoever differentiates it, the step or an optimizer that was given ``value_fn``.
(Backward, and forward over backward; a loss with a scale has no derivative that is forward alone.)

Paper: Micikevicius et al. 2018, Mixed Precision Training, arXiv 1710.03740
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, _training_checks, numerics, tree
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.types import Params, PyTree, Range

LEAST_SCALE, LARGEST_SCALE = 1.0, 2.0**24
"""At 1 a batch with a NaN in it has done its worst: from there it takes 15 intervals back to 2^15, and not 100."""

Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Policy:
    """The precision in which a loss is calculated: ``make_step(loss_fn, tx, policy=jl.Policy(jnp.bfloat16))``.

    Attributes:
      compute: the dtype of the parameters and of floating-point batches that the loss function sees, such as
        ``jnp.bfloat16`` or ``"float16"``. Whole numbers, complex numbers and keys stay as they are.
      loss_scale: the scale of the loss to begin with, positive; "auto" for 2^15 with float16, else None: no scale.
      growth_interval: steps without an overflow after which the scale is doubled, at least 1.
      cast_batch: whether batches are cast; False where the loss function casts what it wants itself, and targets of a
        regression, say, must stay exact.

    >>> Policy("float16")
    Policy(compute=float16, loss_scale=32768.0, growth_interval=2000)
    """

    compute: Any
    loss_scale: Any = "auto"
    growth_interval: int = 2000
    cast_batch: bool = True

    def __post_init__(self) -> None:
        compute, scale = _floating(self.compute), self.loss_scale
        if isinstance(scale, str):
            _checks.one_of("Policy", "loss_scale", scale, ("auto",))
            scale = 2.0**15 if compute == np.float16 else None
        if scale is not None:
            _checks.number("Policy", "loss_scale", scale, Range(LEAST_SCALE, LARGEST_SCALE))
            scale = float(scale)
        for name, value in (
            ("compute", compute),
            ("loss_scale", scale),
            ("growth_interval", _checks.whole("Policy", "growth_interval", self.growth_interval, least=1)),
            ("cast_batch", _checks.flag("Policy", "cast_batch", self.cast_batch)),
        ):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        parts = [f"compute={self.compute}"]
        if self.loss_scale is not None:
            parts += [f"loss_scale={self.loss_scale}", f"growth_interval={self.growth_interval}"]
        if not self.cast_batch:
            parts.append("cast_batch=False")
        return f"Policy({', '.join(parts)})"

    def cast(self, params: Params, batch: PyTree) -> tuple[Params, PyTree]:
        """What the loss function sees of parameters and of a batch."""
        return self._cast(params), self._cast(batch) if self.cast_batch else batch

    def _cast(self, leaves: PyTree) -> PyTree:
        def cast(leaf: Any) -> Any:
            floating = jnp.issubdtype(jnp.result_type(leaf), np.floating)
            return jnp.asarray(leaf).astype(self.compute) if floating else leaf

        return jax.tree.map(cast, leaves)


def _floating(value: Any) -> np.dtype:
    compute = _checks.as_dtype(value)
    if compute is None or not jnp.issubdtype(compute, np.floating):
        raise TypeError(f"Policy: compute must be a floating-point dtype, as jnp.bfloat16 is; got {value!r}.")
    if compute == np.float64 and numerics.float_dtype() != np.float64:
        raise ValueError(
            "Policy: compute cannot be float64 while JAX calculates in float32; switch x64 on first, with "
            "jax.config.update('jax_enable_x64', True)."
        )
    return compute


def as_policy(owner: str, name: str, value: Any) -> Policy | None:
    """``value``, made a policy if it is a dtype or the name of one."""
    if value is None or isinstance(value, Policy):
        return value
    try:
        return Policy(value)
    except TypeError:
        _training_checks.policy_expected(owner, value)


# ---------------------------------------------------------------------------------------------------------------------
# The scale of the loss
# ---------------------------------------------------------------------------------------------------------------------


def init_scale(policy: Policy) -> dict[str, jax.Array]:
    """What is kept in ``state.extras``: the scale, and how many steps without an overflow it has seen."""
    return {"loss_scale": jnp.asarray(policy.loss_scale, jnp.float32), "good_steps": numerics.zero_count()}


@jax.custom_vjp
def scaled(loss: jax.Array, scale: jax.Array) -> jax.Array:
    """``loss``, whose derivative is multiplied by the scale."""
    return loss


@jax.custom_vjp
def unscaled(params: Params, scale: jax.Array) -> Params:
    """``params``, whose gradients are divided by the scale, in float32."""
    return params


def _divided(grads: Params, scale: jax.Array) -> Params:
    divided = jax.tree.map(lambda g: g / scale.astype(g.dtype), tree.widen(grads))
    return tree.states_like(divided, grads)


scaled.defvjp(lambda x, s: (x, s), lambda s, ct: (ct * s.astype(ct.dtype), jnp.zeros_like(s)))
unscaled.defvjp(lambda x, s: (x, s), lambda s, ct: (_divided(ct, s), jnp.zeros_like(s)))


def step_or_overflow(
    policy: Policy, old: TrainState, new: TrainState, metrics: Metrics, grads: Params, updates: Params
) -> tuple[TrainState, Metrics]:
    """``new`` if nothing in a step overflowed, else ``old`` at the next batch; with the scale for the next step.

    An optimizer may hide an infinite gradient, and may have asked for gradients of its own: so the gradients are
    looked at, and what it made of them. Single numbers in its state may be infinite, the best loss at the start, say.
    """
    arrays = [leaf for leaf in jax.tree.leaves(new.opt_state) if leaf.ndim]
    good = tree.all_finite((grads, updates, arrays))
    scale, count = old.extras["loss_scale"], numerics.increment(old.extras["good_steps"])
    grown = count >= policy.growth_interval
    next_scale = jnp.where(good, jnp.where(grown, 2 * scale, scale), scale / 2)
    kept = tree.select(good, new, old)
    extras = {
        **old.extras,
        "loss_scale": jnp.clip(next_scale, LEAST_SCALE, LARGEST_SCALE),
        "good_steps": jnp.where(good & ~grown, count, 0),
    }
    counts = good & jnp.isfinite(metrics["loss"])
    metrics = {
        **metrics,
        "weight": jnp.where(counts, metrics["weight"], 0),
        "loss_scale": scale,
        "overflow": numerics.as_float(~good),
    }
    return kept._replace(cursor=new.cursor, extras=extras), metrics
