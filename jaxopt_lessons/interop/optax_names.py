"""optax's names for what has another name here, another home, or no use, so that scripts written for optax run:

    import jaxopt_lessons as optax

Where both libraries have a thing it has the same name. The package answers to these names too, without listing them:
``optax.OptState``, ``optax.safe_increment``, ``optax.tree_utils``, the losses at the top level, ``optax.ScaleState``
and other names of states. A name that makes no sense here is an ``AttributeError`` that tells what to write.
"""

import sys
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _tree_names, losses, numerics, tree, types
from jaxopt_lessons.core import EmptyState, GradientTransformation
from jaxopt_lessons.interop import inject_hyperparams
from jaxopt_lessons.transforms.apply_every import ApplyEveryState
from jaxopt_lessons.wrappers.conditionally import ConditionallyTransformState
from jaxopt_lessons.wrappers.partition import PartitionState


def safe_increment(count: Any) -> jax.Array:
    """``count + 1``, staying at the largest number of its dtype."""
    count = jnp.asarray(count)
    if jnp.issubdtype(count.dtype, jnp.integer):
        return numerics.increment(count)
    return jnp.minimum(count + jnp.ones([], count.dtype), jnp.finfo(count.dtype).max)


def safe_norm(x: jax.Array, min_norm: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> jax.Array:  # noqa: A002
    """The norm of an array, or ``min_norm`` if that is larger, with derivative 0 there."""
    length = jnp.linalg.norm(x, ord=ord, axis=axis, keepdims=True)
    small = length <= min_norm
    # A norm without derivative, at 0, is never in a branch that is differentiated.
    kept = jnp.linalg.norm(jnp.where(small, jnp.ones_like(x), x), ord=ord, axis=axis, keepdims=True)
    length = jnp.where(small, min_norm, kept)
    return length if keepdims else jnp.squeeze(length, axis)


def safe_root_mean_squares(x: jax.Array, min_rms: Any) -> jax.Array:
    """The root mean square of an array, or ``min_rms`` if that is larger, with derivative 0 there."""
    mean = jnp.mean(jnp.square(jnp.abs(x)))
    small = mean <= min_rms**2
    return jnp.where(small, min_rms, jnp.sqrt(jnp.where(small, 1, mean)))


tree_utils = SimpleNamespace(
    **{f"tree_{name}": function for name, function in _tree_names.NAMES.items()},
    tree_cast_like=tree.cast_like,
    tree_full_like=tree.full_like,
    tree_zeros_like=tree.zeros_like,
)

NAMES = {
    "AdaptiveGradClipState": EmptyState,
    "AddDecayedWeightsState": EmptyState,
    "ApplyEvery": ApplyEveryState,
    "ClipByGlobalNormState": EmptyState,
    "ClipState": EmptyState,
    "ConditionallyMaskState": ConditionallyTransformState,
    "GradientTransformationExtraArgs": GradientTransformation,
    "InjectHyperparamsState": inject_hyperparams.InjectStatefulHyperparamsState,
    "MultiTransformState": PartitionState,
    "OptState": types.State,
    "Params": types.Params,
    "ScalarOrSchedule": types.ScalarOrSchedule,
    "ScaleByTrustRatioState": EmptyState,
    "ScaleState": EmptyState,
    "Updates": types.Updates,
    "bias_correction": _tree_names.bias_correction,
    "inject_hyperparams": inject_hyperparams.inject_hyperparams,
    "inject_stateful_hyperparams": inject_hyperparams.inject_stateful_hyperparams,
    "safe_increment": safe_increment,
    "safe_int32_increment": safe_increment,
    "safe_norm": safe_norm,
    "safe_root_mean_squares": safe_root_mean_squares,
    "tree_utils": tree_utils,
    "update_infinity_moment": _tree_names.update_infinity_moment,
    "update_moment": _tree_names.update_moment,
    "update_moment_per_elem_norm": _tree_names.update_moment_per_elem_norm,
    **{name: getattr(losses, name) for name in losses.__all__},
}

INSTEAD = {
    "LookaheadParams": "lookahead takes plain parameters; the slow ones are eval_params(tx, state, params).",
    "schedule_free_eval_params": "Write eval_params(tx, state, params).",
}
"""What to write in the place of names that scripts use and that have no counterpart."""


def attribute(name: str) -> Any:
    """What ``jaxopt_lessons.<name>`` is for a name of optax."""
    if name in NAMES:
        return NAMES[name]
    raise missing("jaxopt_lessons", name)


def missing(module: str, name: str) -> AttributeError:
    hint = f" {INSTEAD[name]}" if name in INSTEAD else ""
    return AttributeError(f"module {module!r} has no attribute {name!r}.{hint}", name=name, obj=sys.modules[module])
