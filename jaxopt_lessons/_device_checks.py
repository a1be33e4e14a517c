"""Errors of training on several devices: the mesh, the batch, and what lies where."""

from collections.abc import Sequence
from typing import Any, NoReturn

from jaxopt_lessons._errors import InputError, describe, some


def mesh_expected(value: Any) -> NoReturn:
    raise TypeError(
        "make_plan: mesh must be a jax.sharding.Mesh of devices, as jax.make_mesh((jax.device_count(),), ('data',)) "
        f"makes it; got {value!r} of type {type(value).__name__}."
    )


def stage_of_zero(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"make_plan: zero must be 0, 1 or 3; got {value!r} of type {type(value).__name__}.")
    if value == 2:
        raise ValueError(
            "make_plan: zero must be 0, 1 or 3. Stage 2 shards the gradients as well: they are never kept from one "
            "step to the next, and zero=1 shards them inside of it already."
        )
    if value not in (0, 1, 3):
        raise ValueError(f"make_plan: zero must be 0, 1 or 3; got {value}.")


def axis_of_mesh(axis: Any, mesh: Any) -> str:
    """The axis to split along: the only one if none is said."""
    names = ", ".join(map(repr, mesh.axis_names))
    if axis is None:
        if len(mesh.axis_names) != 1:
            raise ValueError(f"make_plan: the mesh has the axes {names}; say axis=..., which of them splits the batch.")
        return mesh.axis_names[0]
    if axis not in mesh.axis_names:
        raise ValueError(f"make_plan: axis must be an axis of the mesh, which has {names}; got {axis!r}.")
    return axis


def manual_axis(axis: str) -> NoReturn:
    raise ValueError(
        f"make_plan: the axis {axis!r} of the mesh is Manual, that of a shard_map; make it Auto or Explicit."
    )


def state_expected(value: Any) -> NoReturn:
    raise TypeError(f"a plan lays out a TrainState, as init_state makes it; got {type(value).__name__}.")


def nothing_to_shard(zero: int, devices: int, min_size: int) -> NoReturn:
    what = "the optimizer's state" if zero == 1 else "the parameters and the optimizer's state"
    raise InputError(
        f"zero={zero} shards {what}, but no leaf has {min_size} entries or more and an axis that {devices} devices "
        "divide. Use zero=0, or a smaller min_size, other shapes or another number of devices."
    )


def misplaced(path: str, leaf: Any, sharding: Any) -> NoReturn:
    raise InputError(
        f"the leaf at {path!r}, {describe(leaf)}, should have the sharding {sharding} and has {leaf.sharding}. "
        "Use plan.place_state(state), and a step under the plan."
    )


def indivisible(batch_size: int, axis: str, devices: int) -> NoReturn:
    nearest = [size for size in (batch_size - batch_size % devices, batch_size + -batch_size % devices) if size]
    raise ValueError(
        f"a batch of {batch_size} examples cannot be split evenly along the axis {axis!r} of {devices} devices. Use a "
        f"batch size of {' or '.join(map(str, nearest))}, or a mesh of another size."
    )


def ragged_batch(examples: int, axis: str, devices: int) -> NoReturn:
    raise InputError(
        f"with_plan: a batch of {examples} examples cannot be split evenly along the axis {axis!r} of {devices} "
        "devices. Use a batch size that is a multiple of their number, or ragged=True to calculate all of such a batch "
        "on every device."
    )


def scattered_rows(axis: str, shares: Sequence[tuple[int, int]]) -> NoReturn:
    parts = ", ".join(f"{begin} to {end}" for begin, end in shares)
    raise ValueError(
        f"the devices of this process hold the rows {parts} of a batch, which are not consecutive. Make the mesh from "
        f"devices in the order of jax.devices(), with those of one process side by side along the axis {axis!r}."
    )


def wrong_rows(path: str, leaf: Any, rows: slice, batch_size: int) -> NoReturn:
    raise InputError(
        f"put_batch: the leaf at {path!r} is {describe(leaf)}; its second axis should have {rows.stop - rows.start} "
        f"rows: the rows {rows.start} to {rows.stop} of a batch of {batch_size}, as plan.rows({batch_size}) says."
    )


def processes_differ(name: str, paths: list[str]) -> NoReturn:
    raise InputError(f"{name} must be the same in every process, but differs at {some(paths)}. Use one seed in all.")


def note_auto_inside(error: Exception, axis: str) -> None:
    error.add_note(
        f"This happened in a step under a plan. There the axis {axis!r} of the mesh is Auto, although it is Explicit "
        "outside: the compiler splits the calculation along it, and reshard and out_sharding=... do not apply to it."
    )
