"""A tree as a description in JSON, arrays for orbax and arrays for one file of NumPy; and back.

description   for each node and leaf its path, and its type, or its dtype and shape; Python numbers themselves
device        arrays of JAX, by the number of the leaf: orbax writes each shard where it is
host          arrays of NumPy, and in a run of several processes those that only one process has

Two trees are the same if their descriptions are, so a difference is found before an array is read, and its text names
paths. Whatever orbax or NumPy cannot write, or would change, is written as unsigned integers of the same bits: typed
keys, floats of 8 and 4 bits; integers of 4 and 2 bits are widened. Arrays without elements are description alone.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxopt_lessons import _checkpoint_checks, _errors
from jaxopt_lessons._leaf import is_key
from jaxopt_lessons.types import PyTree

NUMBERS = {kind.__name__: kind for kind in (bool, int, float, complex, str)}
"""Python values that a description holds themselves. JSON keeps all digits of a float and of an int."""

NARROW_INTEGERS = {"int2": "int8", "int4": "int8", "uint2": "uint8", "uint4": "uint8"}


class Stored(NamedTuple):
    """A tree in three parts; see the module."""

    description: list[dict[str, Any]]
    device: Mapping[str, jax.Array | np.ndarray]
    host: Mapping[str, np.ndarray]


def take_apart(tree: PyTree) -> Stored:
    """The parts of a tree that are to be written."""
    description, device, host = describe("save", tree), {}, {}
    leaves = filter(_is_leaf, description)
    for number, (entry, leaf) in enumerate(zip(leaves, jax.tree.leaves(tree), strict=True)):
        if entry["kind"] == "python":
            entry["value"] = [leaf.real, leaf.imag] if isinstance(leaf, complex) else leaf
        elif entry["kind"] != "array":
            host[str(number)] = to_numpy_file(np.asarray(leaf))
        elif leaf.size == 0:
            continue
        elif jax.process_count() > 1 and leaf.is_fully_addressable:
            host[str(number)] = to_numpy_file(np.asarray(_to_plain(leaf)))
        else:
            device[str(number)] = _to_plain(leaf)
    return Stored(description, device, host)


def describe(owner: str, tree: PyTree) -> list[dict[str, Any]]:
    """An entry for each node and leaf, in the order of ``jax.tree.leaves``; raises for a leaf that cannot be stored."""
    entries = list(_describe(owner, tree, ()))
    paths = [entry["path"] for entry in entries]
    if len(set(paths)) < len(paths):
        _checkpoint_checks.same_names([path for path in set(paths) if paths.count(path) > 1])
    return entries


def _describe(owner: str, node: Any, path: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    name = {"path": jax.tree_util.keystr(path), "name": _errors.path_name(path) if path else "(the tree itself)"}
    children = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)[0]
    if len(children) == 1 and not children[0][0]:
        yield {**name, **_leaf(owner, name["name"], node)}
        return
    yield {**name, "node": type(node).__qualname__, "empty": not children}
    for key, child in children:
        yield from _describe(owner, child, path + key)


def _leaf(owner: str, name: str, leaf: Any) -> dict[str, Any]:
    if isinstance(leaf, Tracer):
        _checkpoint_checks.traced(name)
    if isinstance(leaf, jax.Array) and owner == "save" and leaf.is_deleted():
        _checkpoint_checks.deleted(name)
    if isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)):
        return {"kind": "array", "dtype": str(leaf.dtype), "shape": list(leaf.shape)}
    if (type(leaf) is np.ndarray or isinstance(leaf, np.generic)) and not leaf.dtype.hasobject:
        kind = "numpy" if type(leaf) is np.ndarray else "numpy scalar"
        return {"kind": kind, "dtype": str(leaf.dtype), "shape": list(leaf.shape)}
    if type(leaf) in NUMBERS.values():
        return {"kind": "python", "type": type(leaf).__name__}
    _checkpoint_checks.not_storable(owner, name, leaf)


def differences(expected: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What has to be different for the second description to be the first, in words, one for each path.

    Arrays of JAX and of NumPy are not told apart: their numbers, dtypes and shapes are.
    """
    here, there = ({entry["path"]: entry for entry in entries} for entries in (expected, found))
    missing = [entry for path, entry in here.items() if path not in there and entry.get("empty", True)]
    surplus = [entry for path, entry in there.items() if path not in here and entry.get("empty", True)]
    both = [(entry, there[path]) for path, entry in here.items() if path in there]
    unlike = [
        (entry, f"{entry['name']}: expected {_words(entry)}, the checkpoint has {_words(other)}")
        for entry, other in both
        if _words(entry) != _words(other)
    ]
    return [
        *(text for entry, text in unlike if "node" in entry),
        *(f"{entry['name']}: expected {_words(entry)}, the checkpoint has nothing" for entry in missing),
        *(f"{entry['name']}: expected nothing, the checkpoint has {_words(entry)}" for entry in surplus),
        *(text for entry, text in unlike if "node" not in entry),
        *(
            f"{entry['name']}: arrays of JAX are {entry['dtype']} only under jax_enable_x64"
            for entry, _ in both
            if entry.get("kind") == "array" and not _is_jax_dtype(entry["dtype"])
        ),
    ]


def _words(entry: Mapping[str, Any]) -> str:
    if "node" in entry:
        if entry["node"] == "NoneType":
            return "None"
        return f"{entry['node']}()" if entry["empty"] else entry["node"]
    if entry["kind"] == "python":
        return f"a Python {entry['type']}"
    scalar = "a NumPy scalar " if entry["kind"] == "numpy scalar" else ""
    return f"{scalar}{entry['dtype']}[{','.join(map(str, entry['shape']))}]"


def _is_jax_dtype(name: str) -> bool:
    """Whether arrays of JAX can have this dtype now: those of 64 bits depend on ``jax_enable_x64``."""
    return name.startswith("key<") or jax.dtypes.canonicalize_dtype(jnp.dtype(name)) == jnp.dtype(name)


def put_together(like: PyTree, description: Sequence[Mapping[str, Any]], source: "Source") -> PyTree:
    """The tree that was stored, in the containers of ``like``, whose description fits, and where its arrays are.

    Leaves are found by their paths: an OrderedDict need not be in the order in which it was saved.
    """
    leaves, treedef = jax.tree.flatten(like)
    stored = {entry["path"]: (str(number), entry) for number, entry in enumerate(filter(_is_leaf, description))}
    found = [stored[entry["path"]] for entry in filter(_is_leaf, describe("restore", like))]
    pairs = list(zip(leaves, found, strict=True))
    device = source.read({number: _plan(leaf, entry) for leaf, (number, entry) in pairs if number in source.device})
    data = {**source.host, **device}
    restored = [
        _python(entry) if entry["kind"] == "python" else _array(leaf, entry, data.get(number))
        for leaf, (number, entry) in pairs
    ]
    return jax.tree.unflatten(treedef, restored)


def _is_leaf(entry: Mapping[str, Any]) -> bool:
    return "kind" in entry


class Plan(NamedTuple):
    """How an array is to be read: into its place on the devices, or to the host where ``sharding`` is None."""

    shape: tuple[int, ...]
    dtype: Any
    sharding: jax.sharding.Sharding | None


class Source(NamedTuple):
    """Where the arrays of a stored tree come from: those on devices by ``read``, which gets a plan for each."""

    device: frozenset[str]
    host: Mapping[str, np.ndarray]
    read: Any


def _plan(like: Any, entry: Mapping[str, Any]) -> Plan:
    if _is_key(entry):
        return Plan((), None, None)
    dtype = jnp.dtype(entry["dtype"])
    return Plan(tuple(entry["shape"]), jnp.dtype(_plain_dtype(dtype)), _placement(like))


def _placement(like: Any) -> jax.sharding.Sharding | None:
    """The sharding to restore into; None for arrays that are where JAX puts them by itself, and for those of NumPy.

    An array that was not placed by anybody must not be when it returns: ``jit`` compiles another program for it.
    """
    if isinstance(like, jax.Array):
        return like.sharding if like.committed else None
    return like.sharding if isinstance(like, jax.ShapeDtypeStruct) else None


def _python(entry: Mapping[str, Any]) -> Any:
    value = entry["value"]
    return complex(*value) if entry["type"] == "complex" else value


def _array(like: Any, entry: Mapping[str, Any], data: Any) -> Any:
    """``data``, as it was written, as an array like ``like``; None where it is missing, or is not what was described.

    Arrays without elements were not written.
    """
    if (data is None and like.size) or (data is not None and data.dtype not in _written_dtypes(like, entry)):
        return None
    sharding = _placement(like)
    if _is_key(entry):
        if data is None:
            data = np.zeros(jax.eval_shape(jax.random.key_data, _abstract(like)).shape, np.uint32)
        return _compiled(_wrap_keys(_key_impl(like)), sharding)(np.asarray(data))
    if isinstance(data, jax.Array):  # where it belongs already
        return data if data.dtype == like.dtype else _compiled(_from_plain(like.dtype), sharding)(data)
    data = np.zeros(like.shape, like.dtype) if data is None else from_numpy_file(data, like.dtype)
    if isinstance(like, np.ndarray):
        return data
    if isinstance(like, np.generic):
        return data[()]
    if sharding is None:
        return jnp.array(data)  # a copy: memory that NumPy owns cannot be donated
    return jax.make_array_from_callback(like.shape, sharding, lambda index: data[index])


def _written_dtypes(like: Any, entry: Mapping[str, Any]) -> set[Any]:
    """What an array is written as by orbax and by NumPy."""
    if _is_key(entry):
        return {np.dtype(np.uint32)}
    return {_plain_dtype(like.dtype), to_numpy_file(np.zeros(0, like.dtype)).dtype, like.dtype}


@functools.lru_cache(maxsize=64)
def _compiled(function: Any, sharding: jax.sharding.Sharding | None) -> Any:
    """A program for each function and sharding, kept from one save to the next."""
    return jax.jit(function) if sharding is None else jax.jit(function, out_shardings=sharding)


@functools.cache
def _wrap_keys(impl: Any) -> Any:
    return functools.partial(jax.random.wrap_key_data, impl=impl)


def _is_key(entry: Mapping[str, Any]) -> bool:
    return entry["dtype"].startswith("key<")


def _abstract(like: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(like.shape, like.dtype)


def _key_impl(like: Any) -> Any:
    """The generator of a key, which an abstract one tells only while a program is traced."""
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), _abstract(like))
    return found[0]


def _to_plain(array: jax.Array) -> jax.Array:
    """The array that orbax writes in the place of this one."""
    if is_key(array):
        return _compiled(jax.random.key_data, None)(array)
    plain = _plain_dtype(array.dtype)
    if plain == array.dtype:
        return array
    return _compiled(_as_plain, array.sharding if array.committed else None)(array)


def _plain_dtype(dtype: Any) -> Any:
    """The dtype that an array of this one, no key, is written as by orbax."""
    if dtype.name in NARROW_INTEGERS:
        return np.dtype(NARROW_INTEGERS[dtype.name])
    return np.dtype(np.uint8) if _narrow_float_bits(dtype) else dtype


def _narrow_float_bits(dtype: Any) -> int:
    """8 or 4, the bits of a narrow float; 0 for all other dtypes."""
    bits = jnp.finfo(dtype).bits if jnp.issubdtype(dtype, jnp.floating) else 0
    return bits if bits <= 8 else 0


def _as_plain(array: jax.Array) -> jax.Array:
    plain = _plain_dtype(array.dtype)
    bits = _narrow_float_bits(array.dtype)
    if bits:
        array = jax.lax.bitcast_convert_type(array, jnp.dtype(f"uint{bits}"))
    return array.astype(plain)


@functools.cache
def _from_plain(dtype: Any) -> Any:
    bits = _narrow_float_bits(dtype)
    if not bits:
        return lambda array: array.astype(dtype)
    return lambda array: jax.lax.bitcast_convert_type(array.astype(jnp.dtype(f"uint{bits}")), dtype)


def to_numpy_file(array: np.ndarray) -> np.ndarray:
    """An array that NumPy's files hold, in the place of one of a dtype that NumPy does not know itself."""
    if array.dtype.name in NARROW_INTEGERS:
        return array.astype(NARROW_INTEGERS[array.dtype.name])
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.isbuiltin == 2 else array


def from_numpy_file(array: np.ndarray, dtype: Any) -> np.ndarray:
    """The array of this dtype in whose place ``to_numpy_file``, or orbax, wrote another."""
    if array.dtype == dtype:
        return array
    return array.astype(dtype) if dtype.name in NARROW_INTEGERS else array.view(dtype)


def dtype_of(name: str) -> Any:
    """The dtype that writes itself so, those of JAX included."""
    return jnp.dtype(name)
