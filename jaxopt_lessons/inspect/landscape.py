"""``landscape``: the loss on a plane in the space of the parameters.

    losses[i, j] = loss(center + a[j] d1 + b[i] d2)        the mean over all of the data

The planes: of random directions, each filter of which is rescaled to the norm of the parameters' filter, so that
networks can be compared; the two numbers of a function of two; two given directions; the plane of three points; the one
nearest to a trajectory. A picture of a plane is not the landscape: what is steep, or a valley, or a wall, in the other
directions does not show in it. ``project`` says how far from the plane a point is.

Papers: Li et al. 2018, Visualizing the Loss Landscape of Neural Nets, arXiv 1712.09913, with filter normalization; the
plane of three points: Garipov et al. 2018, Loss Surfaces, Mode Connectivity and Fast Ensembling, arXiv 1802.10026.

Not as in the first paper's code: a vector (a bias) is one filter, where that can leave biases as they are; and main
directions are those of the differences to the center, where that takes off their mean.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import (
    _checks,
    _errors,
    _figure,
    _leaf,
    _training_checks,
    _tree_checks,
    numerics,
    tree,
)
from jaxopt_lessons._errors import InputError
from jaxopt_lessons.inspect import planes
from jaxopt_lessons.inspect.mean_loss import planned_loss
from jaxopt_lessons.inspect.trajectory import Trajectory
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.batches import Batches
from jaxopt_lessons.train.evaluate import means
from jaxopt_lessons.train.kept import kept
from jaxopt_lessons.train.objective import LossFunction
from jaxopt_lessons.types import Params, PyTree, Range

MARGIN = 0.25
"""Around the points that a plane is laid through, as a share of their largest extent."""


class Projection(NamedTuple):
    """Points in a plane.

    Attributes:
      coordinates: ``[2]``, or ``[n, 2]`` of ``n`` points: a and b of the nearest point of the plane.
      distances: how far from the plane each point is, in the norm of the parameters.
    """

    coordinates: np.ndarray
    distances: np.ndarray


class Landscape(NamedTuple):
    """What ``landscape`` returns.

    Attributes:
      a: ``[n_a]``, the values along the first direction, the horizontal axis.
      b: ``[n_b]``, those along the second, the vertical axis.
      losses: ``[n_b, n_a]``, rows for ``b``, as contour plots take them: ``losses[i, j]`` is at ``a[j], b[i]``. What
        was infinite or NaN is.
      metrics: the metrics of the loss function in the same places, by name.
      directions: two trees like the parameters, in float32 for half precision.
      center: where a and b are 0, a tree like the parameters.
      axes: what the two axes are, for a figure.
    """

    a: np.ndarray
    b: np.ndarray
    losses: np.ndarray
    metrics: dict[str, np.ndarray]
    directions: tuple[PyTree, PyTree]
    center: Params
    axes: tuple[str, str]

    def point(self, a: float, b: float) -> Params:
        """The parameters at a place of the plane: ``center + a d1 + b d2``.

        Args:
          a: how far along the first direction, a number.
          b: how far along the second.
        """
        for name, number in (("a", a), ("b", b)):
            _checks.number("point", name, number, Range())
        return planes.combine(self.center, self.directions, jnp.asarray(a, float), jnp.asarray(b, float))

    def project(self, points: Params | Trajectory) -> Projection:
        """Where points are in the plane: the nearest point of it, and how far that is.

        Args:
          points: a ``Trajectory``; or a tree like the parameters; or one with a first axis of ``n`` points more, the
            same in each leaf.

        Raises:
          InputError: the tree is not like the parameters.

        >>> plane = landscape(lambda w, _: jnp.sum(w**2), jnp.ones(3), directions=(jnp.eye(3)[0], jnp.eye(3)[1]))
        >>> plane.project(jnp.array([3.0, 5.0, 2.0]))
        Projection(coordinates=array([2., 4.]), distances=array(1.))
        """
        with _errors.stage("project"):
            points, is_one = _points("points", points, self.center)
        products = np.asarray(planes.gram(self.directions), np.float64)
        inverse = jnp.asarray(np.linalg.inv(products), float)
        coordinates, distances = planes.projected(points, self.center, self.directions, inverse)
        coordinates, distances = np.asarray(coordinates, np.float64), np.asarray(distances, np.float64)
        return Projection(coordinates[0], np.asarray(distances[0])) if is_one else Projection(coordinates, distances)

    def plot(self, ax: Any = None, *, levels: int | Sequence[float] = 15, labels: bool = True) -> Any:
        """Draws contours of the losses, the lower the lighter; where they are infinite or NaN the plane is hatched.

        A path is drawn over it with ``ax.plot(*plane.project(run).coordinates.T)``, in any color but grey.

        Args:
          ax: matplotlib axes to draw on, in the place of a new figure.
          levels: the losses to draw contours of, increasing; or how many: then there are equally many points of the
            plane between any two, which shows valleys and walls alike.
          labels: write the losses on the contours.

        Returns:
          The matplotlib ``Figure``, neither shown nor saved. Needs matplotlib.
        """
        chosen = _levels(self.losses, levels)
        figure, ax = _figure.axes_on(ax)
        _draw(ax, self, chosen, _checks.flag("plot", "labels", labels))
        for name, label in zip(("x", "y"), self.axes, strict=True):
            getattr(ax, f"set_{name}label")(label)
        return figure


def landscape(
    loss_fn: Callable[..., Any],
    params: Params,
    data: PyTree = None,
    *,
    directions: Any = None,
    through: Sequence[Params] | None = None,
    extent: Any = None,
    resolution: int | tuple[int, int] = 41,
    key: int | jax.Array = 0,
    filter_axis: int = -1,
    batch_size: int | None = None,
    model_state: PyTree = None,
    policy: Any = None,
) -> Landscape:
    """Measures the loss on a grid of a plane through ``params``, one compiled row of points after the other.

    Args:
      loss_fn: as for ``make_step``; one that takes a key gets None.
      params: the parameters, a tree of floating-point or complex arrays.
      data: a tree of arrays with the examples along their first axes, which are put on the device; all of them count at
        each point. None for a loss of the parameters alone: it is called as ``loss_fn(params, None)``.
      directions: what spans the plane.
        None: two random directions. Each filter of them is rescaled to the norm of the filter of ``params``, so 1 on an
        axis is as far as the parameters are long; they are not made orthogonal, in many dimensions they nearly are. A
        filter is what makes one output: the last axis of kernels ``[..., in, out]`` counts them. A vector is one
        filter, and so is a number. A filter of zeros, a new bias say, does not move.
        "coordinates": for parameters of exactly two numbers, these: a and b are their values.
        A pair ``(d1, d2)`` of trees like ``params``: as they are, a and b count them.
        A ``Trajectory``: the plane through ``params`` that is nearest to its points, by orthogonal directions of length
        1: a and b are distances.
      through: two trees, ``[p, q]``: the plane through ``params`` and them, by orthogonal directions of length 1, the
        first one towards ``p``. In the place of ``directions``.
      extent: how far to go: a number, to both sides of ``params``, or two pairs ``((low, high), (low, high))`` for a
        and b (parameters' values with "coordinates"). None: 1, or for planes through points as far as these reach and a
        quarter of it more.
      resolution: points along each axis, at least 2; or a pair ``(n_a, n_b)``.
      key: a seed or a key of ``jax.random``, for random directions.
      filter_axis: the axis that counts the filters of leaves with several axes: -1 for kernels ``[..., in, out]``, 0
        for ``[out, in, ...]``.
      batch_size: how many examples at a time; None for all at once. It changes memory and time, not the result.
      model_state: the model state of a loss that takes one; what it returns is thrown away.
      policy: the precision of the loss, as for ``make_step``.

    Returns:
      A ``Landscape``: ``.losses[i, j]`` at ``a[j], b[i]``, ``.project(params or trajectory)``, ``.plot()``.

    Raises:
      TypeError: an argument is of another type, or is traced.
      ValueError: a number is out of range, or the arguments exclude each other.
      InputError: a parameter is no floating-point or complex array, or there is none, another tree is not like
        ``params``, or the directions are zero or parallel.

    >>> plane = landscape(lambda w, _: w[0] ** 2 + 3 * w[1], jnp.array([2.0, 0.0]), directions="coordinates",
    ...                   extent=((-1, 1), (0, 2)), resolution=3)
    >>> plane.a, plane.b
    (array([-1.,  0.,  1.]), array([0., 1., 2.]))
    >>> plane.losses
    array([[1., 0., 1.],
           [4., 3., 4.],
           [7., 6., 7.]])
    """
    _training_checks.not_traced("landscape", params, data, model_state)
    loss, batches = planned_loss("landscape", loss_fn, data, batch_size, model_state, policy)
    n_a, n_b = _resolution(resolution)
    key = _checks.random_key("landscape", key)
    if isinstance(filter_axis, bool) or not isinstance(filter_axis, (int, np.integer)):
        raise TypeError(f"landscape: filter_axis must be a whole number; got {filter_axis!r}.")
    with _errors.stage("landscape"):
        params = jax.tree_util.tree_map_with_path(_as_parameter, params)
        if not any(leaf.size for leaf in jax.tree.leaves(params)):
            raise InputError("there are no parameters in params.")
        plane = _plane(params, directions, through, key, int(filter_axis))
        (a_low, a_high), (b_low, b_high) = _extent(extent, plane)
        a, b = _values(a_low, a_high, n_a), _values(b_low, b_high, n_b)
        found = _measured(loss, plane, a, b, batches, model_state)
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return Landscape(a, b, found.pop("loss"), found, plane.directions, plane.center, plane.axes)


# ---------------------------------------------------------------------------------------------------------------------
# The plane
# ---------------------------------------------------------------------------------------------------------------------


class _Plane(NamedTuple):
    center: Params
    directions: planes.Directions
    axes: tuple[str, str]
    middle: tuple[float, float] = (0.0, 0.0)
    """Where an extent of one number is counted from."""
    points: Params | None = None
    """``[n, ...]``, what the default extent is to show."""


def _plane(params: Params, directions: Any, through: Any, key: Any, filter_axis: int) -> _Plane:
    if through is not None:
        _checks.require(directions is None, "landscape: give directions or through, not both.")
        return _through(params, through)
    if directions is None:
        _check_filter_axis(params, filter_axis)
        found = planes.random(params, key, filter_axis)
        names = ("first random direction", "second random direction")
        hint = "Filters of zeros do not move, and single numbers have one direction only: give two directions."
        planes.check_span(found, names, hint)
        return _Plane(params, found, names)
    if isinstance(directions, Trajectory):
        return _main(params, directions)
    if isinstance(directions, str):
        _checks.one_of("landscape", "directions", directions, ("coordinates",))
        return _coordinates(params)
    if not isinstance(directions, (tuple, list)) or len(directions) != 2:
        raise TypeError(
            "landscape: directions must be None, 'coordinates', a Trajectory, or a pair of trees like params; got "
            f"{_errors.describe(directions)}."
        )
    d1, d2 = (_like(f"direction {i}", one, params) for i, one in enumerate(directions, 1))
    names = ("first direction", "second direction")
    planes.check_span((d1, d2), names)
    return _Plane(params, (d1, d2), names)


def _coordinates(params: Params) -> _Plane:
    leaves, treedef = jax.tree.flatten(params)
    size = sum(leaf.size for leaf in leaves)
    is_real = not any(_leaf.is_complex(leaf) for leaf in leaves)
    _checks.require(
        size == 2 and is_real,
        lambda: (
            "landscape: directions='coordinates' is for parameters of exactly two real numbers; these are "
            f"{size} {'real' if is_real else 'complex'} ones. Give two directions."
        ),
    )
    names = [
        f"{name}[{','.join(map(str, index))}]" if index else name
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        for name in [_errors.path_name(path) if path else "params"]
        for index in np.ndindex(leaf.shape)
    ]
    wide = jax.tree.leaves(tree.widen(params))
    values = np.concatenate([np.asarray(leaf, np.float64).reshape(-1) for leaf in wide])

    def numbers(first: float, second: float) -> PyTree:
        ends = np.cumsum([leaf.size for leaf in wide])[:-1]
        pieces = np.split(np.array([first, second]), ends)
        return treedef.unflatten(
            [jnp.asarray(x.reshape(leaf.shape), leaf.dtype) for x, leaf in zip(pieces, wide, strict=True)]
        )

    center = jax.tree.map(jnp.zeros_like, params)
    return _Plane(center, (numbers(1, 0), numbers(0, 1)), (names[0], names[1]), (values[0], values[1]))


def _through(params: Params, through: Any) -> _Plane:
    if not isinstance(through, (tuple, list)) or len(through) != 2:
        raise TypeError(
            f"landscape: through must be a pair of trees like params, [p, q]; got {_errors.describe(through)}."
        )
    p, q = (_like(f"point {i} of through", one, params) for i, one in enumerate(through, 1))
    ways = planes.difference(p, params), planes.difference(q, params)
    planes.check_span(ways, ("way from params to the first point", "way from params to the second point"))
    points = jax.tree.map(lambda *x: jnp.stack(x), *(tree.widen(one) for one in (params, p, q)))
    axes = ("distance towards the first point", "distance, orthogonal to it")
    return _Plane(params, planes.through(params, p, q), axes, points=points)


def _main(params: Params, run: Trajectory) -> _Plane:
    points, _ = _points("the trajectory", run, params)
    found, along, size = planes.main(points, params)
    along, size = np.asarray(along, np.float64), float(size)
    if not np.all(np.isfinite(along)):
        raise InputError("some points of the trajectory are infinite or NaN.")
    if along[1] <= planes.ON_A_LINE * max(along[0], size):
        raise InputError(
            "the points of the trajectory and params are on one line. Give two directions, or a longer run."
        )
    return _Plane(params, found, ("distance, first main direction", "distance, second main direction"), points=points)


def _extent(extent: Any, plane: _Plane) -> tuple[tuple[float, float], tuple[float, float]]:
    if extent is None and plane.points is not None:
        return _around(plane)
    if extent is None:
        extent = 1.0
    if not isinstance(extent, (tuple, list)) and not (isinstance(extent, np.ndarray) and extent.ndim):
        _checks.number("landscape", "extent", extent, Range(0, includes_low=False))
        low, high = ((middle - float(extent), middle + float(extent)) for middle in plane.middle)
        return low, high
    if np.shape(extent) != (2, 2):
        raise TypeError(
            f"landscape: extent must be a number, or two pairs ((low, high), (low, high)) for a and b; got {extent!r}."
        )
    for pair in extent:
        for value in pair:
            _checks.number("landscape", "extent", value, Range())
        _checks.require(
            bool(pair[0] < pair[1]), lambda pair=pair: f"landscape: extent: low must be below high; got {pair}."
        )
    (a_low, a_high), (b_low, b_high) = extent
    return (float(a_low), float(a_high)), (float(b_low), float(b_high))


def _around(plane: _Plane) -> tuple[tuple[float, float], tuple[float, float]]:
    inverse = jnp.eye(2, dtype=numerics.float_dtype())  # The directions of planes through points are orthonormal.
    found = np.asarray(planes.projected(plane.points, plane.center, plane.directions, inverse)[0], np.float64)
    low, high = np.minimum(found.min(axis=0), 0), np.maximum(found.max(axis=0), 0)
    margin = MARGIN * np.max(high - low)
    (a_low, b_low), (a_high, b_high) = low - margin, high + margin
    return (a_low, a_high), (b_low, b_high)


def _resolution(resolution: Any) -> tuple[int, int]:
    pair = resolution if isinstance(resolution, (tuple, list)) else (resolution, resolution)
    if len(pair) != 2:
        raise TypeError(f"landscape: resolution must be a whole number or a pair (n_a, n_b); got {resolution!r}.")
    n_a, n_b = (_checks.whole("landscape", "resolution", one, least=2) for one in pair)
    return n_a, n_b


def _check_filter_axis(params: Params, filter_axis: int) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if leaf.ndim > 1 and not -leaf.ndim <= filter_axis < leaf.ndim:
            raise InputError(
                f"filter_axis={filter_axis}: the parameter at {_errors.path_name(path)!r} is "
                f"{_errors.describe(leaf)} and has no such axis."
            )


# ---------------------------------------------------------------------------------------------------------------------
# Trees
# ---------------------------------------------------------------------------------------------------------------------


def _as_parameter(path: Any, leaf: Any) -> jax.Array:
    if not tree.is_trainable(leaf):
        _tree_checks.untrained_parameter(path, leaf)
    array = jnp.asarray(leaf)
    return array.astype(array.dtype)


def _like(name: str, given: PyTree, params: Params) -> PyTree:
    """A tree like ``params``, in float32 for half precision; raises unless it is one."""
    if jax.tree.structure(given) != jax.tree.structure(params):
        _tree_checks.different_trees(name, given, "params", params)

    def leaf(path: Any, x: Any, p: jax.Array) -> jax.Array:
        x = _as_parameter(path, x)
        if x.shape != p.shape:
            _tree_checks.different_shapes(path, name, x, "params", p)
        return _cast(name, path, x, p)

    return jax.tree_util.tree_map_with_path(leaf, given, params)


def _cast(name: str, path: Any, x: jax.Array, p: jax.Array) -> jax.Array:
    """``x`` in the dtype of a parameter, float32 for half precision."""
    if _leaf.is_complex(x) and not _leaf.is_complex(p):
        raise InputError(
            f"at {_errors.path_name(path)!r} {name} is complex and the parameter {_errors.describe(p)} is not."
        )
    return x.astype(jnp.float32 if tree.is_half_precision(p) else p.dtype)


def _points(name: str, points: Any, center: Params) -> tuple[Params, bool]:
    """Points as a tree with a first axis, and whether it is one point."""
    if isinstance(points, Trajectory):
        points = points.params
    if jax.tree.structure(points) != jax.tree.structure(center):
        _tree_checks.different_trees(name, points, "the parameters of the plane", center)
    axes = {np.ndim(x) - p.ndim for x, p in zip(*map(jax.tree.leaves, (points, center)), strict=True)}
    is_one = axes == {0}

    def leaf(path: Any, x: Any, p: jax.Array) -> jax.Array:
        x = _as_parameter(path, x)
        expected = p.shape if is_one else (*x.shape[:1], *p.shape)
        if x.shape != expected or (not is_one and not x.ndim):
            reference = "the parameters of the plane" if is_one else "so many points of the plane"
            _tree_checks.different_shapes(path, name, x, reference, jax.ShapeDtypeStruct(expected, p.dtype))
        x = _cast(name, path, x, p)
        return x[None] if is_one else x

    points = jax.tree_util.tree_map_with_path(leaf, points, center)
    numbers = {x.shape[0] for x in jax.tree.leaves(points)}
    if len(numbers) > 1:
        raise InputError(f"{name}: the first axes count the points and must have equal lengths; got {sorted(numbers)}.")
    return points, is_one


# ---------------------------------------------------------------------------------------------------------------------
# The losses
# ---------------------------------------------------------------------------------------------------------------------


def _values(low: float, high: float, number: int) -> np.ndarray:
    return np.linspace(low, high, number).astype(numerics.float_dtype())


def _measured(
    loss: LossFunction, plane: _Plane, a: np.ndarray, b: np.ndarray, batches: Batches, model_state: PyTree
) -> dict[str, np.ndarray]:
    """The loss and the metrics at all points, ``[n_b, n_a]``."""
    program = _program(loss.function, loss)
    rows = [program(a, at, plane.center, plane.directions, batches, model_state) for at in b]
    return jax.tree.map(lambda *x: np.stack([np.asarray(row, np.float64) for row in x]), *rows)


@kept
def _program(owner: Any, loss: LossFunction) -> Callable[..., dict[str, jax.Array]]:
    @compilation.counted()
    def measure_points(
        a: jax.Array, b: jax.Array, center: Params, directions: planes.Directions, batches: Batches, model_state: PyTree
    ) -> dict[str, jax.Array]:
        def at(value: jax.Array) -> dict[str, jax.Array]:
            return means(loss, planes.combine(center, directions, value, b), batches, model_state)

        return jax.lax.map(at, a)

    return measure_points


# ---------------------------------------------------------------------------------------------------------------------
# The figure
# ---------------------------------------------------------------------------------------------------------------------


def _levels(losses: np.ndarray, levels: Any) -> np.ndarray:
    """The losses to draw contours of; none where all are equal or none is finite."""
    if np.ndim(levels):
        given = np.asarray(levels, np.float64)
        _checks.require(
            given.ndim == 1 and bool(np.all(np.diff(given) > 0)),
            lambda: f"plot: levels must be a whole number, or losses that increase; got {levels!r}.",
        )
        return given
    number = _checks.whole("plot", "levels", levels, least=2)
    finite = losses[np.isfinite(losses)]
    chosen = np.unique(np.quantile(finite, np.linspace(0, 1, number + 2))) if finite.size else finite
    return chosen[1:-1] if len(chosen) > 3 else chosen[:0]


def _draw(ax: Any, plane: Landscape, levels: np.ndarray, labels: bool) -> None:
    from matplotlib import colors

    bad = ~np.isfinite(plane.losses)
    losses = np.ma.masked_array(plane.losses, bad)
    if len(levels) > 1:
        shades = colors.LinearSegmentedColormap.from_list("light grey", ["#FFFFFF", "#A0A0A0"])
        norm = colors.BoundaryNorm(levels, shades.N, extend="both")
        ax.contourf(plane.a, plane.b, losses, levels=levels, cmap=shades, norm=norm, extend="both")
        lines = ax.contour(plane.a, plane.b, losses, levels=levels, colors="#606060", linewidths=0.6)
        if labels:
            ax.clabel(lines, fontsize="x-small", fmt="%.3g")
    if bad.any():
        ax.contourf(plane.a, plane.b, bad.astype(float), levels=[0.5, 1.5], colors="none", hatches=["///"])
    ax.set_xlim(plane.a[0], plane.a[-1])
    ax.set_ylim(plane.b[0], plane.b[-1])
