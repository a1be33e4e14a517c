"""What a leaf of a tree is: trainable or not, its dtype, the dtype to calculate in, complex numbers as real pairs."""

import functools
from typing import Annotated, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks
from jaxopt_lessons.types import Convert, PyTree

StateDtype: TypeAlias = Annotated[Any, Convert(_checks.state_dtype)]
"""An argument that chooses the dtype of a state; None for that of the parameters, float32 for half precision."""


def is_trainable(leaf: Any) -> bool:
    """Whether a leaf is a floating-point or complex array, or a Python float: something with a gradient."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        return isinstance(leaf, (float, complex))
    return jnp.issubdtype(dtype, np.inexact)


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed random keys."""
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def is_complex(leaf: Any) -> bool:
    return jnp.issubdtype(dtype_of(leaf), np.complexfloating)


def dtype_of(leaf: Any) -> np.dtype:
    """The dtype a leaf has inside JAX: NumPy's float64 is float32 there unless x64 is enabled."""
    aval = getattr(leaf, "aval", None)  # To ask isinstance of a tracer takes twenty times as long.
    if aval is not None:
        return aval.dtype
    return jnp.result_type(leaf) if isinstance(leaf, (int, float, complex, np.ndarray, np.generic)) else leaf.dtype


@functools.lru_cache(maxsize=1024)
def compute_dtype(*dtypes: Any) -> np.dtype:
    """The real dtype to calculate in: float64 if any of the dtypes is 64 bits to the number, else float32."""
    wide = any(jnp.finfo(dtype).bits == 64 for dtype in dtypes if jnp.issubdtype(dtype, np.inexact))
    return np.dtype(np.float64 if wide else np.float32)


def as_real(leaf: Any, dtype: Any) -> jax.Array:
    """The leaf in a real dtype; a complex one as pairs of real numbers along a new last axis."""
    array = jnp.asarray(leaf)
    return as_pairs(array, dtype) if is_complex(array) else array.astype(dtype)


def as_pairs(leaf: Any, dtype: Any) -> jax.Array:
    """Real and imaginary part along a new last axis; the imaginary part of a real leaf is 0."""
    array = jnp.asarray(leaf)
    return jnp.stack([jnp.real(array), jnp.imag(array)], axis=-1).astype(dtype)


def from_pairs(pairs: jax.Array, dtype: Any) -> jax.Array:
    """The complex array of which ``as_pairs`` made ``pairs``."""
    return jax.lax.complex(pairs[..., 0], pairs[..., 1]).astype(dtype)


def trainable(tree: PyTree) -> PyTree:
    """``tree`` with None in the place of every leaf that is not trainable."""
    return jax.tree.map(lambda leaf: leaf if is_trainable(leaf) else None, tree)
