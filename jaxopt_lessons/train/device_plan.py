"""``make_plan``: which device holds what, for training on several devices and several hosts.

The examples of a batch are shared out along one axis of a mesh, ``n`` devices long. Each device calculates the gradient
of its share, and JAX's compiler adds the communication that makes the sum: the numbers are those of one device.

    zero   parameters    states of the optimizer, and extras    communication of a step, for parameters of b bytes
    0      replicated    replicated                             one all-reduce of the gradients, 2 b
    1      replicated    sharded                                the same, as reduce-scatter and all-gather
    3      sharded       sharded                                3 b: parameters are gathered for the loss and again for
                                                                its gradient, which is scattered

Stage 2 of the scheme would keep the gradients sharded. Here gradients live inside one step only, and under 1 they are
sharded there already. ZeRO: Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter
Models", https://arxiv.org/abs/1910.02054. Sharded parameters are also known as fully sharded data parallelism.

A leaf is sharded along its longest axis that ``n`` divides (the first of equals). Leaves without such an axis, leaves
with fewer than ``min_size`` entries, ``step``, ``cursor``, ``key`` and ``model_state`` are replicated. The spec of a
leaf depends on its shape alone, so a state of the parameter's shape lies where the parameter's gradient does.

Along other axes of the mesh all is replicated.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxopt_lessons import _checks, _device_checks
from jaxopt_lessons._errors import describe, path_name
from jaxopt_lessons._leaf import is_key
from jaxopt_lessons.train import hosts
from jaxopt_lessons.train.batches import Batches
from jaxopt_lessons.train.objective import number_of_examples
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.types import Params, PyTree

REPLICATED = PartitionSpec()


@dataclasses.dataclass(frozen=True)
class DevicePlan:
    """Which device holds what; made by ``make_plan``. Hashable: a static argument of compiled functions.

    Attributes:
      mesh: the devices.
      axis: the axis of the mesh that the batch is split along.
      zero: 0, 1 or 3: what is sharded besides the batch.
      min_size: leaves with fewer entries are replicated.
    """

    mesh: Mesh
    axis: str
    zero: int
    min_size: int

    @property
    def devices(self) -> int:
        """The number of shares that a batch is cut into."""
        return self.mesh.shape[self.axis]

    # -- what lies where ----------------------------------------------------------------------------------------------

    def shardings(self, state: TrainState) -> TrainState:
        """The sharding of each leaf of a state.

        For a state too large for one device: nothing of it exists anywhere before it is sharded::

            init = lambda: jl.init_state(make_params(), step)
            state = jax.jit(init, out_shardings=plan.shardings(jax.eval_shape(init)))()

        Args:
          state: the state, or its shapes (from ``jax.eval_shape``).

        Raises:
          InputError: ``zero`` is not 0, and there is nothing that could be sharded.
        """
        specs = self._specs(state)
        if self.zero and not any(map(_is_split, _leaves(specs))):
            _device_checks.nothing_to_shard(self.zero, self.devices, self.min_size)
        return jax.tree.map(self._sharding, specs, is_leaf=_is_spec)

    def describe(self, state: TrainState) -> str:
        """A table of the leaves of a state: shape, what is sharded how, and bytes on each device.

        Args:
          state: the state, or its shapes (from ``jax.eval_shape``).
        """
        rows = [("leaf", "array", "sharding", "bytes per device")]
        total = 0
        specs = _leaves(self._specs(state))
        for (path, leaf), spec in zip(jax.tree_util.tree_leaves_with_path(state), specs, strict=True):
            size = _bytes(leaf) // (self.devices if _is_split(spec) else 1)
            total += size
            how = f"axis {list(spec).index(self.axis)}" if _is_split(spec) else "replicated"
            rows.append((path_name(path), describe(leaf), how, f"{size:,}"))
        rows.append(("total", "", "", f"{total:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([f"zero={self.zero}, {self.devices} devices along {self.axis!r}", *lines])

    def bytes_per_device(self, state: TrainState) -> int:
        """Bytes of a state on each device.

        Args:
          state: the state, or its shapes (from ``jax.eval_shape``).
        """
        pairs = zip(jax.tree.leaves(state), _leaves(self._specs(state)), strict=True)
        return sum(_bytes(leaf) // (self.devices if _is_split(spec) else 1) for leaf, spec in pairs)

    def assert_sharding(self, state: TrainState) -> None:
        """Raises unless every leaf of a state lies where the plan says.

        Raises:
          InputError: a leaf does not; the message names it, where it should be and where it is.
        """
        shardings = jax.tree.leaves(self.shardings(state))
        for (path, leaf), sharding in zip(jax.tree_util.tree_leaves_with_path(state), shardings, strict=True):
            if not leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
                _device_checks.misplaced(path_name(path), leaf, sharding)

    # -- putting it there ---------------------------------------------------------------------------------------------

    def place_state(self, state: TrainState) -> TrainState:
        """The state on its devices.

        Args:
          state: the state of a run. On several hosts every process gives the same one, made from the same seed.

        Raises:
          InputError: ``zero`` is not 0, and there is nothing that could be sharded; or processes give different states.
        """
        return hosts.put("place_state: the state", state, self.shardings(state))

    def place_data(self, data: PyTree | Batches) -> Any:
        """Data in memory on the devices: whole on each, as every batch is drawn from all of it.

        Only with ``batch_size=None``, where the data is the batch, is it split. On several hosts every process gives
        all of it.

        Args:
          data: a tree of arrays, or what ``minibatches`` returned.

        Raises:
          ValueError: the batch size is not a multiple of the number of devices.
          InputError: processes give different data.
        """
        if not isinstance(data, Batches):
            return hosts.put("place_data: the data", data, self._sharding(REPLICATED))
        self.check_batch_size(data.batch_size or data.examples)
        return self.place_validation(data)

    def place_validation(self, data: Batches) -> Batches:
        """The same for measuring a loss, where batches that the devices do not divide are whole on each."""
        is_split = data.batch_size is None and data.examples % self.devices == 0
        spec = PartitionSpec(self.axis) if is_split else REPLICATED
        return dataclasses.replace(data, data=hosts.put("place_data: the data", data.data, self._sharding(spec)))

    def rows(self, batch_size: int) -> slice:
        """The rows of each batch that this process has to read, for ``put_batch``: all of them if there is one process.

        Args:
          batch_size: examples in a batch, on all hosts together. Of a smaller last batch, which the devices do not
            divide, each process has to read all rows.

        Raises:
          ValueError: the rows of this process are not consecutive.
        """
        if batch_size % self.devices:
            return slice(0, batch_size)
        indices = self._sharding(PartitionSpec(self.axis)).addressable_devices_indices_map((batch_size,))
        return _joined(self.axis, {share.indices(batch_size)[:2] for (share,) in filter(None, indices.values())})

    def put_batch(self, batches: PyTree, batch_size: int) -> PyTree:
        """Batches that were read by the host on the devices, split.

        Args:
          batches: a tree of arrays ``[k, rows, ...]``, ``k`` batches of which this process gives ``rows(batch_size)``.
            An array ``[k]`` has one number for each batch.
          batch_size: examples in a batch, on all hosts together; if the devices do not divide it, each gets all of it.

        Raises:
          InputError: the arrays have not as many rows as this process has to give.
        """
        rows = self.rows(batch_size)
        split = batch_size % self.devices == 0

        def put(path: Any, leaf: Any) -> jax.Array:
            leaf = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
            if leaf.ndim < 2:
                return hosts.put_local(leaf, self._sharding(REPLICATED), leaf.shape)
            if leaf.shape[1] != rows.stop - rows.start:
                _device_checks.wrong_rows(path_name(path), leaf, rows, batch_size)
            spec = PartitionSpec(None, self.axis) if split else REPLICATED
            return hosts.put_local(leaf, self._sharding(spec), (leaf.shape[0], batch_size, *leaf.shape[2:]))

        return jax.tree_util.tree_map_with_path(put, batches)

    def check_batch_size(self, batch_size: int) -> None:
        """Raises unless the devices divide the batch.

        Raises:
          ValueError: they do not; the message says both numbers.
        """
        if batch_size % self.devices:
            _device_checks.indivisible(batch_size, self.axis, self.devices)

    # -- inside of compiled functions ---------------------------------------------------------------------------------

    def run(self, function: Callable[..., tuple[TrainState, Any]], *args: Any) -> tuple[TrainState, Any]:
        """``function(*args)`` with the compiler in charge of the plan's axis.

        On a mesh with Explicit axes JAX has the sharding of each array in its type, and asks for one wherever it is in
        doubt. Inside of this function the plan's axis is Auto, whatever it is outside. So all that runs on a mesh with
        Auto axes runs on one with Explicit axes: gathers of rows, reshapes of sharded axes, any loss.

        Args:
          function: takes trees of arrays and returns ``(state, other)``. It must get all that may be a tracer as
            arguments and close over none.
          *args: its arguments; a ``TrainState`` among them has the structure of the one returned.

        Returns:
          The state as the plan has it, and the other replicated.
        """
        state = next(arg for arg in args if isinstance(arg, TrainState))
        shardings = jax.tree.map(self._sharding, self._specs(state), is_leaf=_is_spec), self._sharding(REPLICATED)
        return self._inside(function, args, shardings)

    def run_replicated(self, function: Callable[..., Any], *args: Any) -> Any:
        """The same for a function of any trees of arrays, whose result is replicated."""
        return self._inside(function, args, self._sharding(REPLICATED))

    def constrain_state(self, state: TrainState) -> TrainState:
        """The state, laid out as the plan has it. Inside of ``run`` only."""
        return jax.tree.map(self._constrain, state, self._specs(state))

    def gather_params(self, params: Params) -> Params:
        """Whole parameters for a loss, with derivatives laid out as the optimizer's state is. Inside of ``run`` only.

        So the sum of the gradients over the devices may be a reduce-scatter: each gets what it updates.
        """

        @jax.custom_jvp
        def whole(leaf: jax.Array) -> jax.Array:
            return self._constrain(leaf, REPLICATED)

        @whole.defjvp
        def whole_jvp(primals: Any, tangents: Any) -> Any:
            (leaf,), (tangent,) = primals, tangents
            spec = self._spec(leaf, self.zero > 0)
            return self._constrain(leaf, REPLICATED), self._constrain(tangent, spec)

        return jax.tree.map(lambda p: whole(p) if jnp.issubdtype(jnp.result_type(p), np.inexact) else p, params)

    def constrain_batch(self, batch: PyTree, mask: jax.Array | None) -> tuple[PyTree, jax.Array | None]:
        """A batch and its mask, split by examples; whole on each device if the devices do not divide it. Inside of
        ``run`` only."""
        examples = number_of_examples(batch)

        def constrain(leaf: Any) -> jax.Array:
            leaf = jnp.asarray(leaf)
            split = examples % self.devices == 0 and leaf.ndim > 0 and leaf.shape[0] == examples
            return self._constrain(leaf, PartitionSpec(self.axis) if split else REPLICATED)

        return jax.tree.map(constrain, (batch, mask))

    def constrain_replicated(self, tree: PyTree) -> PyTree:
        """All of a tree on each device. Inside of ``run`` only."""
        return jax.tree.map(lambda leaf: self._constrain(leaf, REPLICATED), tree)

    # -- how ----------------------------------------------------------------------------------------------------------

    @property
    def _explicit(self) -> bool:
        return _type_of(self.mesh, self.axis) == AxisType.Explicit

    def _inside(self, function: Callable[..., Any], args: tuple[Any, ...], shardings: Any) -> Any:
        if not self._explicit or _is_auto_now(self.axis):
            return function(*args)
        inside = jax.sharding.auto_axes(function, axes=self.axis, out_sharding=shardings)
        try:
            with jax.disable_jit(False):  # Not compiled it would take no arrays that are not on the mesh yet.
                return jax.jit(inside)(*args)
        except Exception as error:
            _device_checks.note_auto_inside(error, self.axis)
            raise

    def _sharding(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self.mesh, spec)

    def _constrain(self, leaf: Any, spec: PartitionSpec) -> jax.Array:
        # Inside of run the mesh is that of the context, with the axis made Auto.
        return jax.lax.with_sharding_constraint(leaf, spec if self._explicit else self._sharding(spec))

    def _specs(self, state: TrainState) -> TrainState:
        """The spec of each leaf of a state."""

        if not isinstance(state, TrainState):
            _device_checks.state_expected(state)

        def specs(tree: PyTree, sharded: bool) -> PyTree:
            return jax.tree.map(lambda leaf: self._spec(leaf, sharded), tree)

        return specs(state, False)._replace(
            params=specs(state.params, self.zero == 3),
            opt_state=specs(state.opt_state, self.zero > 0),
            extras=specs(state.extras, self.zero > 0),
        )

    def _spec(self, leaf: Any, sharded: bool) -> PartitionSpec:
        """The spec of a leaf in the form in which JAX returns it: in another one it would be another argument type, and
        the second step would compile again."""
        shape = np.shape(leaf)
        lengths = [length if length % self.devices == 0 else 0 for length in shape]
        split = sharded and math.prod(shape) >= self.min_size and any(lengths) and not is_key(leaf)
        longest = lengths.index(max(lengths)) if split else -1
        length = len(shape) if self._explicit else longest + 1
        return PartitionSpec(*(self.axis if i == longest else None for i in range(length)))


def make_plan(mesh: Mesh, *, zero: int = 0, axis: str | None = None, min_size: int = 1024) -> DevicePlan:
    """Plans training on the devices of a mesh: batches are split, and states are sharded if you like.

    A step under a plan gives the numbers of one device, up to rounding: ``fit(step, state, data, plan=plan)``, or
    ``with_plan(step, plan)`` in a loop of your own. Any optimizer, wrapper and loss will do.

    Args:
      mesh: the devices, of all hosts: ``jax.make_mesh((jax.device_count(),), ("data",))``. Its axes may be Explicit, as
        those of ``make_mesh`` are, or Auto.
      zero: 0 replicates parameters and states. 1 shards the state of the optimizer and what wrappers keep (averages of
        the parameters): with Adam on 8 devices a parameter takes 5 bytes on each, not 12. 3 shards the parameters too.
      axis: along which axis of the mesh to split; it need not be said if there is one.
      min_size: leaves with fewer entries are replicated: to send them about would take longer than to update them.

    Returns:
      A plan. ``plan.describe(state)`` prints what is sharded how.

    Raises:
      TypeError, ValueError: an argument is not one of these.

    >>> mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    >>> plan = jl.make_plan(mesh, zero=1)
    >>> state = jl.init_state({"w": jnp.ones((32, 64))}, jl.sgd(0.1, momentum=0.9))
    >>> print(plan.describe(state))
    zero=1, 1 devices along 'data'
    leaf                 array           sharding    bytes per device
    step                 int32[]         replicated  4
    cursor               int32[]         replicated  4
    params/w             float32[32,64]  replicated  8,192
    opt_state/0/trace/w  float32[32,64]  axis 1      8,192
    opt_state/1/count    int32[]         replicated  4
    key                  key<fry>[]      replicated  8
    total                                            16,404
    """
    if not isinstance(mesh, Mesh):
        _device_checks.mesh_expected(mesh)
    _device_checks.stage_of_zero(zero)
    axis = _device_checks.axis_of_mesh(axis, mesh)
    if _type_of(mesh, axis) == AxisType.Manual:
        _device_checks.manual_axis(axis)
    return DevicePlan(mesh, axis, zero, _checks.whole("make_plan", "min_size", min_size, least=1, most=None))


def _joined(axis: str, shares: set[tuple[int, int]]) -> slice:
    """The rows of all shares ``(begin, end)`` of a batch."""
    ordered = sorted(shares)
    if any(end != begin for (_, end), (begin, _) in itertools.pairwise(ordered)):
        _device_checks.scattered_rows(axis, ordered)
    return slice(ordered[0][0], ordered[-1][1])


def _type_of(mesh: Any, axis: str) -> AxisType:
    return dict(zip(mesh.axis_names, mesh.axis_types, strict=True))[axis]


def _is_auto_now(axis: str) -> bool:
    """Whether the mesh of the context has this axis as Auto: inside of ``run`` it has."""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and axis in mesh.axis_names and _type_of(mesh, axis) == AxisType.Auto


def _is_spec(value: Any) -> bool:
    return isinstance(value, PartitionSpec)


def _leaves(specs: PyTree) -> list[PartitionSpec]:
    return jax.tree.leaves(specs, is_leaf=_is_spec)


def _is_split(spec: PartitionSpec) -> bool:
    return any(name is not None for name in spec)


def _bytes(leaf: Any) -> int:
    if is_key(leaf):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return math.prod(leaf.shape) * leaf.dtype.itemsize
