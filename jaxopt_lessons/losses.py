"""Losses that training code needs, one value for each example (or each entry), to be averaged by the caller.

    logits = model(params, x)                                                  # [batch, classes]
    losses.softmax_cross_entropy_with_integer_labels(logits, y)                # [batch]

``make_step`` takes such a vector as it is and averages it exactly, also over ragged batches. Shapes must be equal,
nothing is broadcast: predictions ``[batch, 1]`` against targets ``[batch]`` would otherwise train on all pairs. Losses
are calculated and returned in float32 for half-precision inputs.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, _errors, _leaf
from jaxopt_lessons.types import Range

__all__ = [
    "hinge_loss",
    "huber_loss",
    "l2_loss",
    "log_cosh",
    "sigmoid_binary_cross_entropy",
    "smooth_labels",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "squared_error",
]


def squared_error(predictions: Any, targets: Any = None) -> jax.Array:
    """``(predictions - targets)^2``, entry by entry.

    Args:
      predictions: real array of any shape.
      targets: array of the same shape; None for zeros.

    >>> squared_error(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0]))
    Array([0., 4.], dtype=float32)
    """
    return _differences("squared_error", predictions, targets) ** 2


def l2_loss(predictions: Any, targets: Any = None) -> jax.Array:
    """``(predictions - targets)^2 / 2``, entry by entry: the squared error whose derivative is the error.

    Args:
      predictions: real array of any shape.
      targets: array of the same shape; None for zeros.

    >>> l2_loss(jnp.array([3.0]), jnp.array([1.0]))
    Array([2.], dtype=float32)
    """
    return _differences("l2_loss", predictions, targets) ** 2 / 2


def huber_loss(predictions: Any, targets: Any = None, *, delta: float = 1.0) -> jax.Array:
    """``e^2 / 2`` for ``|e| <= delta``, and the tangent ``delta * (|e| - delta / 2)`` beyond: bounded gradients.

    Args:
      predictions: real array of any shape.
      targets: array of the same shape; None for zeros.
      delta: where the parabola becomes a line, in ``(0, inf)``.

    Source: Huber 1964.

    >>> huber_loss(jnp.array([0.5, 3.0]))
    Array([0.125, 2.5  ], dtype=float32)
    """
    _checks.number("huber_loss", "delta", delta, Range(0, includes_low=False))
    error = _differences("huber_loss", predictions, targets)
    return jnp.where(jnp.abs(error) <= delta, error**2 / 2, delta * (jnp.abs(error) - delta / 2))


def log_cosh(predictions: Any, targets: Any = None) -> jax.Array:
    """``log(cosh(predictions - targets))``: about ``e^2 / 2`` for small and ``|e| - log 2`` for large errors.

    Args:
      predictions: real array of any shape.
      targets: array of the same shape; None for zeros.

    >>> log_cosh(jnp.array([0.0, 100.0]))
    Array([ 0.      , 99.306854], dtype=float32)
    """
    error = _differences("log_cosh", predictions, targets)
    # Two forms, because for small errors the one for large errors is a difference of nearly equal numbers.
    small = jnp.abs(error) < 1
    near = jnp.log1p(jnp.sinh(jnp.where(small, error, 0)) ** 2) / 2
    far = jnp.logaddexp(error, -error) - math.log(2)
    return jnp.where(small, near, far)


def hinge_loss(predictor_outputs: Any, targets: Any) -> jax.Array:
    """``max(0, 1 - predictor_outputs * targets)``, for targets -1 and 1.

    Args:
      predictor_outputs: signed scores of any shape.
      targets: -1 or 1, in the same shape.

    >>> hinge_loss(jnp.array([0.2, 2.0]), jnp.array([1, 1]))
    Array([0.8, 0. ], dtype=float32)
    """
    outputs, targets = _pair("hinge_loss", predictor_outputs, targets)
    return jnp.maximum(0, 1 - outputs * targets)


def sigmoid_binary_cross_entropy(logits: Any, labels: Any) -> jax.Array:
    """``-labels * log(sigmoid(logits)) - (1 - labels) * log(sigmoid(-logits))``, entry by entry, in nats.

    Args:
      logits: log odds, of any shape.
      labels: probabilities in ``[0, 1]`` (or 0 and 1), in the same shape.

    >>> sigmoid_binary_cross_entropy(jnp.array([0.0, -1000.0]), jnp.array([1.0, 0.0])).round(4)
    Array([0.6931, 0.    ], dtype=float32)
    """
    logits, labels = _pair("sigmoid_binary_cross_entropy", logits, labels)
    return -labels * jax.nn.log_sigmoid(logits) - (1 - labels) * jax.nn.log_sigmoid(-logits)


def softmax_cross_entropy(logits: Any, labels: Any, axis: int | tuple[int, ...] = -1, where: Any = None) -> jax.Array:
    """``-sum(labels * log_softmax(logits))`` over the classes, in nats.

    Args:
      logits: unnormalized log probabilities, ``[..., classes]``.
      labels: probabilities of the classes, in the same shape; 0 times -inf is 0.
      axis: the axis (or axes) of the classes.
      where: bools in the shape of ``logits``; False leaves a class out.

    Returns:
      Losses in the shape of ``logits`` without ``axis``.

    >>> softmax_cross_entropy(jnp.zeros((1, 4)), jnp.array([[0.0, 1.0, 0.0, 0.0]]))
    Array([1.3862944], dtype=float32)
    """
    logits, labels = _pair("softmax_cross_entropy", logits, labels)
    log_probabilities = jax.nn.log_softmax(logits, axis, where=_where("softmax_cross_entropy", where, logits))
    return -jnp.sum(jnp.where(labels == 0, 0, labels * log_probabilities), axis, where=where)


def softmax_cross_entropy_with_integer_labels(logits: Any, labels: Any, axis: int = -1, where: Any = None) -> jax.Array:
    """``-log_softmax(logits)[labels]``, in nats.

    Args:
      logits: unnormalized log probabilities, ``[..., classes]``.
      labels: integers in ``[0, classes)``, in the shape of ``logits`` without ``axis``. A label outside gives NaN.
      axis: the axis of the classes.
      where: bools in the shape of ``logits``; False leaves a class out.

    Returns:
      Losses in the shape of ``labels``.

    >>> softmax_cross_entropy_with_integer_labels(jnp.zeros((2, 4)), jnp.array([0, 3]))
    Array([1.3862944, 1.3862944], dtype=float32)
    """
    name = "softmax_cross_entropy_with_integer_labels"
    logits, labels = _as_float(name, "the logits", logits), _numbers(name, "labels", labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"{name}: labels must be integers; got {_errors.describe(labels)}.")
    if not (isinstance(axis, int) and -logits.ndim <= axis < logits.ndim):
        raise ValueError(f"{name}: axis must be one axis of the logits, which have {logits.ndim}; got axis={axis!r}.")
    axis = axis % logits.ndim
    expected = logits.shape[:axis] + logits.shape[axis + 1 :]
    _same_shape(name, "labels", labels.shape, "logits without the class axis", expected)
    log_probabilities = jax.nn.log_softmax(logits, axis, where=_where(name, where, logits))
    index = jnp.expand_dims(labels, axis)
    chosen = jnp.take_along_axis(log_probabilities, index, axis, mode="fill", fill_value=jnp.nan)
    return -jnp.where(index >= 0, chosen, jnp.nan).squeeze(axis)


def smooth_labels(labels: Any, alpha: float) -> jax.Array:
    """``(1 - alpha) * labels + alpha / classes``: probabilities moved towards the uniform distribution.

    Args:
      labels: probabilities of the classes, ``[..., classes]``.
      alpha: how far, in ``[0, 1]``.

    Source: Müller, Kornblith & Hinton 2019, arXiv 1906.02629.

    >>> smooth_labels(jnp.array([0.0, 1.0]), 0.1)
    Array([0.05, 0.95], dtype=float32)
    """
    _checks.number("smooth_labels", "alpha", alpha, Range(0, 1))
    labels = _as_float("smooth_labels", "labels", labels)
    return (1 - alpha) * labels + alpha / labels.shape[-1]


def _numbers(name: str, what: str, x: Any) -> jax.Array:
    """An array of real numbers; raises for anything else, such as None, a dict, or complex numbers."""
    try:
        array = None if x is None or isinstance(x, (str, bytes)) else jnp.asarray(x)
    except (TypeError, ValueError):
        array = None
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    if array is None or not any(jnp.issubdtype(array.dtype, kind) for kind in kinds):
        raise TypeError(f"{name}: {what} must be an array of real numbers; got {_errors.describe(x)}.")
    return array


def _as_float(name: str, what: str, x: Any) -> jax.Array:
    array = _numbers(name, what, x)
    return array.astype(_leaf.compute_dtype(array.dtype))


def _same_shape(name: str, what: str, shape: tuple[int, ...], other: str, expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise ValueError(f"{name}: {what} have shape {shape}, {other} {expected}; they must be equal.")


def _pair(name: str, predictions: Any, targets: Any) -> tuple[jax.Array, jax.Array]:
    predictions, targets = _as_float(name, "the predictions", predictions), _numbers(name, "the targets", targets)
    _same_shape(name, "the targets", targets.shape, "the predictions", predictions.shape)
    return predictions, targets.astype(predictions.dtype)


def _differences(name: str, predictions: Any, targets: Any) -> jax.Array:
    if targets is None:
        return _as_float(name, "the predictions", predictions)
    predictions, targets = _pair(name, predictions, targets)
    return predictions - targets


def _where(name: str, where: Any, logits: jax.Array) -> Any:
    if where is not None:
        _same_shape(name, "the bools in where", jnp.shape(where), "the logits", logits.shape)
    return where
