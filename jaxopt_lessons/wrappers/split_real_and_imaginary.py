"""Complex parameters for optimizers of real ones: each complex leaf is two real leaves inside.

    (u_re, u_im) = inner((g_re, g_im))
    u = u_re + i * u_im

The rules of this library treat a complex number as a pair of real ones anyway, and are the same with and without it,
unless what a leaf is matters to them: those that have a meaning for axes (factored moments, matrices) refuse complex
leaves and take two real ones, and norms of single leaves become those of the parts. Rules of optax need it where they
square a gradient without its conjugate.

State: that of ``inner``, with a pair ``(real, imaginary)`` where the parameters have a complex leaf.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import tree
from jaxopt_lessons.core import Functions, Part, Transformation, gradient_transformation
from jaxopt_lessons.types import Params, PyTree, State, Updates


class SplitRealAndImaginaryState(NamedTuple):
    inner_state: State


@gradient_transformation
def split_real_and_imaginary(inner: Transformation) -> Any:
    """Lets a transformation see every complex leaf as two real ones.

    Args:
      inner: the transformation; in its state, too, a complex leaf is a pair ``(real, imaginary)``.

    >>> tx = split_real_and_imaginary(jl.clip(1.0))
    >>> tx.update(jnp.array([3 + 0.5j]), tx.init(jnp.zeros(1, jnp.complex64)))[0]
    Array([1.+0.5j], dtype=complex64)
    """

    def init(params: Params) -> SplitRealAndImaginaryState:
        return SplitRealAndImaginaryState(inner.init(split(params)))

    def update(updates: Updates, state: SplitRealAndImaginaryState, params: Params | None = None, **extra: Any) -> Any:
        if params is not None:
            updates = tree.cast_like(updates, params)  # A real gradient of a complex parameter gets a part of zeros.
        halves, inner_state = inner.update(split(updates), state.inner_state, split(params), **extra)
        return joined(halves, updates), SplitRealAndImaginaryState(inner_state)

    def parts(state: SplitRealAndImaginaryState) -> list[Part]:
        return [Part("inner", inner, state.inner_state)]

    def eval_params(state: SplitRealAndImaginaryState, params: Params) -> Params:
        return joined(inner.eval_params(state.inner_state, split(params)), params)

    return Functions(init, update, parts, eval_params)


def split(x: PyTree) -> PyTree:
    """``x`` with a pair ``(real, imaginary)`` in the place of each complex leaf."""
    return jax.tree.map(lambda leaf: (jnp.real(leaf), jnp.imag(leaf)) if _is_complex(leaf) else leaf, x)


def joined(halves: PyTree, like: PyTree) -> PyTree:
    """``halves`` with a complex leaf in the place of each pair where ``like`` has one."""
    return jax.tree.map(lambda leaf, half: jax.lax.complex(*half) if _is_complex(leaf) else half, like, halves)


def _is_complex(leaf: Any) -> bool:
    return tree.is_trainable(leaf) and jnp.iscomplexobj(leaf)
