"""``curvature``: the eigenvalues of the Hessian of a loss, from Hessian-vector products.

    H v = d/dt grad f(p + t v) at t = 0          forward over reverse: the work of about two gradients

With ``n`` parameters and ``m = steps * probes``:

    n <= m    all ``n`` products with unit vectors: the Hessian itself, and exactly its eigenvalues
    n > m     ``steps`` steps of Lanczos from each of ``probes`` random vectors (``inspect/lanczos.py``)

Either way there are at most ``m + 2`` products; the last two measure the residuals of the largest and of the smallest
eigenvalue. Of Lanczos the memory is ``steps`` vectors like the parameters. Products are in float32, in float64 if a
parameter is, and matrix products in all digits of it; sums over batches too. The eigenvalues of the small matrices are
calculated in float64 on the host.

What the two ends are worth: a Ritz value lies between the smallest and the largest eigenvalue, and within its residual
there is an eigenvalue, ``|H v - theta v| >= min_i |lambda_i - theta|``. That it is the outermost is not proved: of a
cluster at the end of the spectrum too few steps find something inside. More steps show it.

What the shares are worth: each probe gives a Gauss quadrature of the spectrum, with nodes ``theta_i`` and weights. By
the inequalities of Chebyshev, Markov and Stieltjes the share below ``x``, between the nodes ``i`` and ``i + 1``, lies
between ``w_1 + ... + w_(i - 1)`` and ``w_1 + ... + w_(i + 1)``. So half of a weight is taken to lie on either side of
its node, spread evenly up to the next one; by Chebyshev's inequality no more of it than ``(residual / gap)^2``, so that
a node that has converged stays an eigenvalue. (To count nodes as if they were eigenvalues would be off by half a
weight, in all probes alike.) The error is the standard error from the probes, plus the distance to the farther of the
two bounds, of nodes whose residuals reach across ``x``. It is large where much of the spectrum is a cluster at 0, which
few steps do not tell from small negative numbers; with ``steps * probes >= n`` there is none. (Measured on digits, a
network of ReLU with 610 parameters at six moments of its training, 20 steps and 4 probes: the shares are 0.03 to 0.09,
the estimates 0.07 to 0.40 with errors of 0.43 to 0.85, and in 30 of 30 cases the share is within the error.)

Papers: Pearlmutter 1994, Fast Exact Multiplication by the Hessian; Lin, Saad & Yang 2016, arXiv 1308.5467; for networks
Ghorbani, Krishnan & Xiao 2019, arXiv 1901.10159. Saddle points: Dauphin et al. 2014, arXiv 1406.2572.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, _errors, _figure, _training_checks, numerics, tree
from jaxopt_lessons.inspect import lanczos
from jaxopt_lessons.inspect.mean_loss import mean_loss, planned_loss, real_params
from jaxopt_lessons.inspect.vectors import as_tree, as_vector, dtype_of
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.batches import Batches
from jaxopt_lessons.train.kept import kept
from jaxopt_lessons.train.objective import LossFunction
from jaxopt_lessons.types import Params, PyTree, Range

ROUNDING = 10.0
"""Eigenvalues are 0 up to so many times ``eps * sqrt(n) * |H|``: what errors of ``eps * |H|`` in each entry come to."""

_begin = jax.jit(lanczos.begin, static_argnames=("size", "steps", "dtype"))
_extend = jax.jit(lanczos.extend, donate_argnums=0)
_vector = jax.jit(lanczos.vector)
_combined = jax.jit(lanczos.combined)


class Curvature(NamedTuple):
    """What ``curvature`` returns.

    Attributes:
      sharpness: the largest eigenvalue of the Hessian. Gradient descent is stable at rates below ``2 / sharpness``.
      sharpness_error: the residual ``|H v - sharpness v|``: there is an eigenvalue within this distance.
      smallest: the smallest eigenvalue; at a saddle point it is negative.
      smallest_error: its residual.
      negative_share: the share of the eigenvalues that lie below ``-tolerance``, from 0 to 1.
      negative_share_error: its standard error, and what ``steps`` leave open; 0 if ``exact``.
      trace: the sum of all eigenvalues.
      trace_error: its standard error; 0 if ``exact``.
      eigenvalues: all ``n`` of them in ascending order if ``exact``, else the Ritz values of all probes.
      weights: which share of the eigenvalues each of them stands for; they sum to 1.
      exact: whether ``eigenvalues`` are those of the Hessian, each as often as it occurs.
      tolerance: eigenvalues down to ``-tolerance`` count as 0.
      top: the eigenvector of ``sharpness``, a tree like the parameters, of length 1 over all leaves. Its sign means
        nothing.
      bottom: that of ``smallest``: the way down from a saddle point, in both directions.
      loss: the loss at the parameters.
      gradient_norm: the length of its gradient: near 0 at a minimum, at a maximum and at a saddle point.
    """

    sharpness: float
    sharpness_error: float
    smallest: float
    smallest_error: float
    negative_share: float
    negative_share_error: float
    trace: float
    trace_error: float
    eigenvalues: np.ndarray
    weights: np.ndarray
    exact: bool
    tolerance: float
    top: Params
    bottom: Params
    loss: float
    gradient_norm: float

    def __repr__(self) -> str:
        share, trace = f"{self.negative_share:.1%}", f"{self.trace:.4g}"
        if not self.exact:
            share, trace = f"{share} +- {self.negative_share_error:.1%}", f"{trace} +- {self.trace_error:.2g}"
        return (
            f"Curvature(sharpness={self.sharpness:.4g}, smallest={self.smallest:.4g}, negative={share}, trace={trace}, "
            f"{len(self.eigenvalues)} {'eigenvalues' if self.exact else 'Ritz values'})"
        )

    def plot(self, ax: Any = None, *, bins: int = 100) -> Any:
        """Draws the share of the eigenvalues in each of some intervals, on a logarithmic scale.

        Args:
          ax: matplotlib axes to draw on, in the place of a new figure.
          bins: how many intervals.

        Returns:
          The matplotlib ``Figure``, neither shown nor saved. Needs matplotlib.
        """
        bins = _checks.whole("plot", "bins", bins, least=1)
        figure, ax = _figure.axes_on(ax)
        ax.hist(self.eigenvalues, bins, weights=self.weights, color=_figure.COLORS[0], log=True)
        ax.axvline(0, color="#999999", linewidth=1)
        ax.set_xlabel("eigenvalue of the Hessian")
        ax.set_ylabel("share of all eigenvalues")
        _figure.tidy(ax)
        return figure


def curvature(
    loss_fn: Callable[..., Any],
    params: Params,
    data: PyTree = None,
    *,
    batch_size: int | None = None,
    key: Any = 0,
    steps: int = 40,
    probes: int = 8,
    tolerance: float | None = None,
    model_state: PyTree = None,
    policy: Any = None,
) -> Curvature:
    """Eigenvalues of the Hessian of a loss, the second derivatives with respect to the parameters.

    With up to ``steps * probes`` parameters all of them, calculated exactly; with more, the two outermost, and of the
    others shares and the sum with standard errors. One program is compiled for a loss function and the shapes of its
    arguments; other parameters or data compile nothing.

    Args:
      loss_fn: as for ``make_step``; one that takes a key gets None. Its Hessian is that of its mean over all examples.
      params: where to look: a tree of real floating-point leaves. At a kink (of ReLU) the Hessian is that of the side
        that JAX differentiates.
      data: a tree of arrays with the examples along their first axes, which are put on the device; None for a loss of
        the parameters alone, which is called as ``loss_fn(params, None)``.
      batch_size: how many examples at a time; None for all at once. It changes memory and time, not the result.
      key: the start of the random vectors: a seed, or a key of ``jax.random``.
      steps: steps of Lanczos from each random vector, at least 2.
      probes: how many random vectors, at least 2. The standard errors fall as ``1 / sqrt(probes)``.
      tolerance: eigenvalues down to ``-tolerance`` are not counted as negative, from 0 on; None for what rounding can
        make of 0, ``10 eps sqrt(n) |H|``.
      model_state: the model state of a loss that takes one, which stays as it is; None for a loss that takes none.
      policy: the precision of the loss, as for ``make_step``. In half precision small eigenvalues are lost.

    Returns:
      ``Curvature``: ``.sharpness``, ``.smallest``, ``.negative_share``, ``.trace`` and their errors, all eigenvalues
      with their weights, the eigenvectors of the outermost two, and ``.plot()``.

    Raises:
      InputError: a parameter is complex or of whole numbers, or there is none; the data or the loss do not fit.
      TypeError: an argument is of another type, or is traced.
      ValueError: a number is out of range, or the loss or one of its derivatives is infinite or NaN.

    >>> saddle = curvature(lambda p, _: p["x"] ** 2 - p["y"] ** 2, {"x": 0.0, "y": 0.0})
    >>> saddle
    Curvature(sharpness=2, smallest=-2, negative=50.0%, trace=0, 2 eigenvalues)
    >>> abs(saddle.bottom["y"])
    Array(1., dtype=float32)
    """
    _training_checks.not_traced("curvature", params, data, model_state)
    key = tree.typed_key(_checks.random_key("curvature", key))
    steps = _checks.whole("curvature", "steps", steps, least=2)
    probes = _checks.whole("curvature", "probes", probes, least=2)
    if tolerance is not None:
        _checks.number("curvature", "tolerance", tolerance, Range(0))
    params = real_params("curvature", params)
    loss, batches = planned_loss("curvature", loss_fn, data, batch_size, model_state, policy)
    hessian = Hessian(loss, params, batches, model_state)
    with _errors.stage("curvature"):
        found = _all(hessian) if hessian.size <= steps * probes else _by_lanczos(hessian, key, steps, probes)
    if tolerance is None:
        largest = max(abs(found.top.value), abs(found.bottom.value))
        tolerance = ROUNDING * float(np.finfo(hessian.dtype).eps) * math.sqrt(hessian.size) * largest
    return _result(hessian, found, float(tolerance))


class Hessian:
    """The Hessian of a mean loss, as a function of vectors; it also notes the loss and the length of its gradient."""

    def __init__(self, loss: LossFunction, params: Params, batches: Batches, model_state: PyTree):
        self.params, self.dtype = params, dtype_of(params)
        self.size = sum(leaf.size for leaf in jax.tree.leaves(params))
        self.loss = self.gradient_norm = math.nan
        self._product, self._arguments = _program(loss.function, loss), (params, batches, model_state)

    def __call__(self, vector: Any) -> jax.Array:
        product, self.loss, self.gradient_norm = self._product(vector, *self._arguments)
        return product

    def check_finite(self, numbers: np.ndarray) -> None:
        # Second derivatives alone would not tell: of a network of ReLU whose weights are NaN they are 0.
        known = (numbers, np.asarray(self.loss), np.asarray(self.gradient_norm))
        _checks.require(
            all(np.all(np.isfinite(x)) for x in known),
            lambda: (
                f"curvature: the loss and its derivatives are not all finite. The loss is {float(self.loss):g}, the "
                f"length of its gradient {float(self.gradient_norm):g}."
            ),
        )


@kept
def _program(owner: Any, loss: LossFunction) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    @compilation.counted()
    def hessian_vector_product(
        vector: jax.Array, params: Params, batches: Batches, model_state: PyTree
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        wide = tree.widen(params)
        derivative = jax.value_and_grad(lambda wide: mean_loss(loss, wide, batches, model_state, params))
        # Accelerators multiply in fewer digits unless they are told; eigenvalues that are 0 would not be.
        with jax.default_matmul_precision("highest"):
            (value, gradient), (_, product) = jax.jvp(derivative, (wide,), (as_tree(vector, wide),))
        return as_vector(product), value, numerics.norm(as_vector(gradient))

    return hessian_vector_product


class _Outermost(NamedTuple):
    value: float
    vector: jax.Array | np.ndarray


class _Spectrum(NamedTuple):
    """Eigenvalues, weights and residuals, one row for each probe; the two outermost; the traces of the probes."""

    values: np.ndarray
    weights: np.ndarray
    residuals: np.ndarray
    traces: np.ndarray
    top: _Outermost
    bottom: _Outermost


def _all(hessian: Hessian) -> _Spectrum:
    """The products with all unit vectors, and the eigenvalues of the matrix that they make."""
    matrix = np.stack([np.asarray(hessian(row), np.float64) for row in np.eye(hessian.size, dtype=hessian.dtype)])
    hessian.check_finite(matrix)
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    top, bottom = (_Outermost(values[i], vectors[:, i].astype(hessian.dtype)) for i in (-1, 0))
    weights = np.full((1, hessian.size), 1 / hessian.size)
    return _Spectrum(values[None], weights, np.zeros_like(weights), np.trace(matrix)[None], top, bottom)


def _by_lanczos(hessian: Hessian, key: jax.Array, steps: int, probes: int) -> _Spectrum:
    rows, traces, top, bottom = [], [], None, None
    for probe in range(probes):
        probe_key = jax.random.fold_in(key, probe)
        state = _begin(probe_key, hessian.size, steps, hessian.dtype)
        for _ in range(steps):
            state = _extend(state, hessian(_vector(state)), probe_key)
        hessian.check_finite(np.asarray(state.scale))
        found = lanczos.ritz(state)
        rows.append((found.values, found.weights, found.residuals))
        traces.append(hessian.size * float(state.diagonal[0]))
        if top is None or found.values[-1] > top.value:
            top = _Outermost(found.values[-1], _eigenvector(state, found.vectors[:, -1]))
        if bottom is None or found.values[0] < bottom.value:
            bottom = _Outermost(found.values[0], _eigenvector(state, found.vectors[:, 0]))
    assert top is not None
    assert bottom is not None
    values, weights, residuals = (np.stack(column) for column in zip(*rows, strict=True))
    return _Spectrum(values, weights, residuals, np.array(traces), top, bottom)


def _eigenvector(state: lanczos.Lanczos, weights: np.ndarray) -> jax.Array:
    return _combined(state, weights.astype(state.basis.dtype))


def _result(hessian: Hessian, found: _Spectrum, tolerance: float) -> Curvature:
    below, open_share = _share_below(-tolerance, found.values, found.weights, found.residuals)
    share, share_error = _mean(below)
    order = np.argsort(found.values, axis=None)
    trace, trace_error = _mean(found.traces)
    return Curvature(
        sharpness=float(found.top.value),
        sharpness_error=_residual(hessian, found.top),
        smallest=float(found.bottom.value),
        smallest_error=_residual(hessian, found.bottom),
        negative_share=share,
        negative_share_error=share_error + float(np.mean(open_share)),
        trace=trace,
        trace_error=trace_error,
        eigenvalues=found.values.ravel()[order],
        weights=found.weights.ravel()[order] / len(found.values),
        exact=len(found.values) == 1,
        tolerance=tolerance,
        top=as_tree(jnp.asarray(found.top.vector), hessian.params),
        bottom=as_tree(jnp.asarray(found.bottom.vector), hessian.params),
        loss=float(hessian.loss),
        gradient_norm=float(hessian.gradient_norm),
    )


def _residual(hessian: Hessian, outermost: _Outermost) -> float:
    vector = np.asarray(outermost.vector, np.float64)
    return float(np.linalg.norm(np.asarray(hessian(outermost.vector), np.float64) - outermost.value * vector))


def _share_below(
    x: float, values: np.ndarray, weights: np.ndarray, residuals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each row of a quadrature the share of eigenvalues below ``x``, and how far off it can be."""
    before, after = values - residuals, values + residuals
    before[:, 1:], after[:, :-1] = values[:, :-1], values[:, 1:]
    left = _spread(residuals, values - before) * _part_below(x, before, values)
    left += (1 - _spread(residuals, values - before)) * (values < x)
    right = _spread(residuals, after - values) * _part_below(x, values, after)
    right += (1 - _spread(residuals, after - values)) * (values < x)
    share = np.sum(weights * (left + right), axis=1) / 2
    low, high = np.maximum(before, values - residuals), np.minimum(after, values + residuals)
    least = np.sum(np.where((high <= x) & (values < x), weights, 0), axis=1)
    most = np.sum(np.where((low < x) | (values < x), weights, 0), axis=1)
    return share, np.maximum(share - least, most - share)


def _spread(residuals: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Chebyshev's inequality: how much of what a node stands for can be as far away as the next one."""
    return np.minimum(1, np.divide(residuals, gaps, out=np.zeros_like(gaps), where=gaps > 0) ** 2)


def _part_below(x: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which part of the intervals lies below ``x``."""
    return np.clip(np.divide(x - low, high - low, out=np.zeros_like(low), where=high > low), 0, 1)


def _mean(numbers: np.ndarray) -> tuple[float, float]:
    """The mean of independent estimates and its standard error; a single number is known exactly."""
    if len(numbers) == 1:
        return float(numbers[0]), 0.0
    return float(np.mean(numbers)), float(np.std(numbers, ddof=1) / math.sqrt(len(numbers)))
