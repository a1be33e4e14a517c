"""``nnx_loss``, ``equinox_loss``: a loss of a module, as a loss of its parameters and its model state.

Modules of Flax NNX and Equinox hold parameters, other arrays, settings and functions in one object. A training step
wants them apart: parameters that have gradients; a model state, arrays that have none, such as running means and the
counts of random streams; and the rest, which is part of the program. So

    params, model_state, loss_fn = nnx_loss(model, loss)       # loss(model, batch) or loss(model, batch, key)

    loss_fn(params, model_state, batch, key) = loss(merge(params, model_state), batch, key), model state after it

and ``loss_fn`` goes to ``make_step(loss_fn, tx, stateful=True)``. On validation data, where losses get None for a key,
the module is in evaluation mode. ``loss_fn.merge(params, model_state)`` is the module again.

Two modules of one architecture give equal loss functions: what was compiled for one serves the other.

Flax Linen needs nothing of the kind: ``model.apply`` takes the arrays apart already (tests/train/test_models.py).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxopt_lessons import _training_checks
from jaxopt_lessons.train.objective import Weighted, call_loss
from jaxopt_lessons.types import Params, PyTree


def nnx_loss(model: Any, loss: Callable[..., Any], *, wrt: Any = None) -> "tuple[Params, PyTree, NnxLoss]":
    """Takes a module of Flax NNX apart, for ``make_step(loss_fn, tx, stateful=True)``.

    Args:
      model: an ``nnx.Module``. Training leaves it as it is; ``loss_fn.merge`` gives the trained one. The mode it is in,
        ``model.train()`` or another, is the mode it is trained in.
      loss: ``loss(model, batch)`` or ``loss(model, batch, key)``; it returns what any loss does, alone or with a dict
        of metrics. What changes in the module meanwhile, batch statistics and random streams, is kept; the key is there
        for whatever else is random. On validation data the key is None and the module in the mode of ``model.eval()``.
      wrt: what is trained, a filter of NNX such as ``nnx.LoRAParam``; None for ``nnx.Param``. All other variables are
        model state.

    Returns:
      ``(params, model_state, loss_fn)``: two dicts of arrays, nested as the module is, for ``init_state``; and the
      stateful loss function, with ``loss_fn.merge(params, model_state)``, a new module of such arrays.

    Raises:
      TypeError: ``model`` is not a module of NNX.

    >>> from flax import nnx
    >>> model = nnx.Linear(1, 1, rngs=nnx.Rngs(0), kernel_init=nnx.initializers.ones)
    >>> params, model_state, loss_fn = nnx_loss(model, lambda model, batch: model(batch)[:, 0] ** 2)
    >>> step = jl.make_step(loss_fn, jl.sgd(0.25), stateful=True)
    >>> state, metrics = step(jl.init_state(params, step, model_state=model_state), jnp.array([[1.0]]))
    >>> loss_fn.merge(state.params, state.model_state)(jnp.array([[4.0]]))  # 1 - 0.25 * 2 for kernel and bias
    Array([[1.5]], dtype=float32)
    """
    nnx = _import_nnx()
    if not isinstance(model, nnx.Module):
        raise TypeError(f"nnx_loss: model must be a flax.nnx.Module; got {model!r} of type {type(model).__name__}.")
    wrt = nnx.Param if wrt is None else wrt
    graph, params, rest = nnx.split(model, wrt, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(rest), NnxLoss(loss, graph, wrt)


@dataclasses.dataclass(frozen=True)
class NnxLoss:
    """A stateful loss function of the arrays of an NNX module, made by ``nnx_loss``.

    Attributes:
      loss: the loss of the module.
      graph: the module without its arrays.
      wrt: the filter of what is trained.
    """

    loss: Callable[..., Any]
    graph: Any
    wrt: Any

    def merge(self, params: Params, model_state: PyTree) -> Any:
        """The module with these arrays."""
        return _import_nnx().merge(self.graph, params, model_state)

    def __call__(self, params: Params, model_state: PyTree, batch: PyTree, key: jax.Array | None) -> tuple[Any, ...]:
        nnx = _import_nnx()
        model = self.merge(params, model_state)
        if key is None:
            model.eval()
        result = _as_tuple(call_loss(self.loss, model, batch, key=key))
        return *result, nnx.to_pure_dict(nnx.split(model, self.wrt, ...)[2])


def equinox_loss(
    model: Any, loss: Callable[..., Any], state: Any = None, *, filter_spec: Any = None
) -> "tuple[Params, PyTree, EquinoxLoss]":
    """Takes a module of Equinox apart, for ``make_step(loss_fn, tx, stateful=True)``.

    Args:
      model: an ``equinox.Module``, or any tree of arrays, settings and functions.
      loss: ``loss(model, batch)`` or ``loss(model, batch, key)``; it returns what any loss does, alone or with a dict
        of metrics. With a ``state``: ``loss(model, state, batch)`` or with a key, and the new state comes last in what
        it returns: ``(loss, state)`` or ``(loss, metrics, state)``. On validation data the key is None and the module
        in the mode of ``equinox.nn.inference_mode``.
      state: the ``equinox.nn.State`` that ``equinox.nn.make_with_state`` gave with the model; None for a model without.
      filter_spec: what is trained, as in ``equinox.partition``; None for ``equinox.is_inexact_array``. All other arrays
        are model state.

    Returns:
      ``(params, model_state, loss_fn)``: what is trained and what is not, for ``init_state``; and the stateful loss
      function, with ``loss_fn.merge(params, model_state)``, the model of such arrays, or ``(model, state)``.

    >>> import equinox as eqx
    >>> model = eqx.nn.Linear(1, 1, use_bias=False, key=jax.random.key(0))
    >>> model = eqx.tree_at(lambda m: m.weight, model, jnp.array([[1.0]]))
    >>> params, model_state, loss_fn = equinox_loss(model, lambda model, x: jax.vmap(model)(x)[:, 0] ** 2)
    >>> step = jl.make_step(loss_fn, jl.sgd(0.25), stateful=True)
    >>> state, metrics = step(jl.init_state(params, step, model_state=model_state), jnp.array([[1.0]]))
    >>> loss_fn.merge(state.params, state.model_state)(jnp.array([4.0]))
    Array([2.], dtype=float32)
    """
    eqx = _import_equinox()
    params, rest = eqx.partition(model, eqx.is_inexact_array if filter_spec is None else filter_spec)
    arrays, static = eqx.partition(rest, lambda leaf: isinstance(leaf, (jax.Array, np.ndarray)))
    leaves, structure = jax.tree.flatten(static)
    loss_fn = EquinoxLoss(loss, tuple(leaves), structure, state is not None)
    return params, (arrays, state), loss_fn


@dataclasses.dataclass(frozen=True)
class EquinoxLoss:
    """A stateful loss function of the arrays of an Equinox module, made by ``equinox_loss``.

    Attributes:
      loss: the loss of the module.
      leaves: what is no array in the module: settings and functions.
      structure: the module without its leaves.
      has_state: whether the loss takes an ``equinox.nn.State``.
    """

    loss: Callable[..., Any]
    leaves: tuple[Any, ...]
    structure: Any
    has_state: bool

    def merge(self, params: Params, model_state: PyTree) -> Any:
        """The module with these arrays; with a state, ``(module, state)``."""
        arrays, state = model_state
        model = _import_equinox().combine(params, arrays, jax.tree.unflatten(self.structure, self.leaves))
        return (model, state) if self.has_state else model

    def __call__(self, params: Params, model_state: PyTree, batch: PyTree, key: jax.Array | None) -> tuple[Any, ...]:
        merged = self.merge(params, model_state)
        model, *state = merged if self.has_state else (merged,)
        if key is None:
            model = _import_equinox().nn.inference_mode(model)
        result = call_loss(self.loss, model, *state, batch, key=key)
        if not self.has_state:
            return *_as_tuple(result), model_state
        _training_checks.loss_with_model_state(result)
        *result, new = result
        return *result, (model_state[0], new)


def _as_tuple(result: Any) -> tuple[Any, ...]:
    """``(loss,)`` or ``(loss, metrics)``."""
    if not isinstance(result, tuple) or isinstance(result, Weighted):
        return (result,)
    _training_checks.loss_with_metrics(result)
    return result


def _import_nnx() -> Any:
    try:
        from flax import nnx
    except ImportError:
        raise ImportError("nnx_loss needs flax: pip install flax") from None
    return nnx


def _import_equinox() -> Any:
    try:
        import equinox
    except ImportError:
        raise ImportError("equinox_loss needs equinox: pip install equinox") from None
    return equinox
