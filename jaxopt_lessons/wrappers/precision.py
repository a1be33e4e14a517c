"""One policy for the precision of weights and moments, around any optimizer.

    with_precision(adamw(1e-3), weights="split", moments=jnp.bfloat16)
    == split_master_weights(moment_dtypes(adamw(1e-3), jnp.bfloat16))

========================================  =====================  =================  =====
AdamW, bytes a parameter                  weights                moments            sum
========================================  =====================  =================  =====
float32                                   4                      8                  12
bfloat16, nothing done: it stalls         2                      8                  10
``weights="master"``                      2 + 4                  8                  14
``weights="split"``                       2 + 2                  8                  12
``weights="kahan"``                       2 + 2                  8                  12
``weights="split8"``                      2 + 1                  8                  11
``weights="stochastic"``                  2                      8                  10
``"split"``, ``moments=jnp.bfloat16``     2 + 2                  4                  8
``"stochastic"``, ``moments=...``         2                      4                  6
========================================  =====================  =================  =====

Gradients come on top, with 2 bytes or 4. ``"split"`` is the first choice: a model in bfloat16, the small updates of
float32, and no more memory than that takes. The rules, what each of them loses, and the papers are in the files of the
parts; a table in ``master_weights``.
"""

from typing import Any, Literal

from jaxopt_lessons import _checks, tree
from jaxopt_lessons.core import Transformation, gradient_transformation
from jaxopt_lessons.wrappers.kahan import kahan
from jaxopt_lessons.wrappers.master_weights import master_weights
from jaxopt_lessons.wrappers.moment_dtypes import chosen_fields, moment_dtypes
from jaxopt_lessons.wrappers.split_master_weights import split_master_weights
from jaxopt_lessons.wrappers.stochastic_rounding import stochastic_rounding

_WEIGHTS = ("master", "split", "split8", "kahan", "stochastic")


@gradient_transformation
def with_precision(
    inner: Transformation,
    *,
    moments: Any = None,
    weights: Literal["master", "split", "split8", "kahan", "stochastic"] | None = None,
    rounding: Literal["stochastic", "nearest"] = "stochastic",
    key: tree.Key = 0,
) -> Any:
    """Lets an optimizer train bfloat16 or float16 parameters without losing small updates, and in less memory.

    It must be the outermost transformation or the last of a chain: what comes after it would spoil the rounding.

    Args:
      inner: the optimizer.
      moments: ``jnp.bfloat16`` for the moments, or a dict by the names of their fields, as in ``moment_dtypes``; None
        for float32.
      weights: ``"master"``, ``"split"`` or ``"split8"``, ``"kahan"``, ``"stochastic"``: what keeps the small updates
        of half-precision parameters, see ``master_weights``, ``split_master_weights`` (16 or 8 bits), ``kahan`` and
        ``stochastic_rounding``; None for nothing.
      rounding: of the moments: ``"stochastic"`` or ``"nearest"``.
      key: where the random numbers start: a seed, or a key of ``jax.random``.

    Raises:
      ValueError: an argument is none of those named here.

    >>> tx = with_precision(jl.adam(1e-3), weights="kahan", moments=jnp.bfloat16)
    >>> state = tx.init(jnp.ones(1, jnp.bfloat16))
    >>> state.compensation, state.inner.inner[0].mu
    (Array([0], dtype=bfloat16), Array([0], dtype=bfloat16))
    """
    if moments is not None:
        chosen_fields("with_precision", "moments", moments)
        inner = moment_dtypes(inner, moments, rounding=rounding, key=key)
    if weights is None:
        return inner
    _checks.one_of("with_precision", "weights", weights, _WEIGHTS)
    if weights == "stochastic":
        return stochastic_rounding(inner, key)
    if weights == "split8":
        return split_master_weights(inner, 8)
    return {"master": master_weights, "split": split_master_weights, "kahan": kahan}[weights](inner)
