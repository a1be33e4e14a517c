"""``check_optimizer``: the whole contract of a transformation, asked of any ``(init, update)`` pair.

A property is a function of a ``Subject`` that returns if the optimizer has it and else raises ``Failed``, or
``NotApplicable`` with the reason. Its name is the name of the property and the first line of its docstring the promise.
"""

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks
from jaxopt_lessons.core import GradientTransformation, as_transformation, pair_of_functions
from jaxopt_lessons.inspect import rules
from jaxopt_lessons.testing import as_value, counters, dtypes, programs, states, trees, values
from jaxopt_lessons.testing.report import FAILED, NOT_APPLICABLE, PASSED, Report, Row
from jaxopt_lessons.testing.subject import (
    Failed,
    NotApplicable,
    Subject,
    brief,
    default_core,
    default_params,
    trainable,
)
from jaxopt_lessons.types import Params, Range

Property = Callable[[Subject], None]

THEMES = (states, dtypes, trees, values, programs, counters, as_value)
PROPERTIES: dict[str, Property] = {check.__name__: check for theme in THEMES for check in theme.PROPERTIES}
"""All properties by name, in the order of the report."""


def check_optimizer(
    tx: Any,
    params: Params | None = None,
    *,
    extra: Mapping[str, Any] | Callable[[Params], Mapping[str, Any]] | None = None,
    except_: Mapping[str, str] | None = None,
    only: Sequence[str] | None = None,
    tolerance: float = 1e-6,
) -> Report:
    """Asks an optimizer for everything that training code relies on, and says what it lacks.

    Trees of every kind, mixtures of dtypes, gradients that are zero, huge, infinite or do not fit, ``jit``, ``scan``,
    ``vmap`` and ``grad``, counters at their end: what holds for every optimizer of this library. A line of a test::

        check_optimizer(my_optimizer(1e-2)).raise_if_failed()

    Args:
      tx: the optimizer, of this library, optax or one's own: a transformation, or a pair of functions.
      params: parameters to try it on, a tree of arrays, for an optimizer that fits only some (by names in a mask, for
        instance). Leaves that cannot be trained are left out. By default a small tree that has matrices, vectors, a
        number, a leaf without entries, None and half precision. Some properties are asked with trees of their own.
      extra: the keyword arguments of ``update``: a dict, or a function ``extra(params)`` that returns it. By default
        they are found out, by trial: none; ``value=`` (a loss of 1); ``value=``, ``grad=`` and ``value_fn=``.
      except_: properties that the optimizer cannot have, by name, with the reasons. They are asked all the same: one
        that holds is a failure, since its reason is out of date.
      only: names of the properties to ask for, one at least; by default all.
      tolerance: how far numbers that come from two programs may be apart, relative to the largest entry of a leaf; from
        0 to below 1.

    Returns:
      A ``Report``: ``.passed``, ``.failures``, ``.rows``, ``.raise_if_failed()``; it prints as a table.

    Raises:
      TypeError: ``tx`` is no optimizer, or an argument has the wrong type.
      ValueError: a name in ``except_`` or ``only`` is no property, ``only`` is empty, ``tolerance`` is out of range,
        ``params`` has nothing to train, or ``update`` needs an argument that is not known.

    >>> def init(params):
    ...     return jax.tree.map(jnp.zeros_like, params)
    >>> def update(updates, state, params=None):
    ...     state = jax.tree.map(lambda m, g: 0.9 * m + g, state, updates)
    ...     return jax.tree.map(lambda m: -0.1 * m, state), state
    >>> report = check_optimizer((init, update), only=["vmap_equals_loop", "gradient_shapes_are_checked"])
    >>> report.passed, report["vmap_equals_loop"].outcome
    (False, 'passed')
    >>> print(report.failures[0].message)
    the gradient at 'dense/bias' is a scalar: expected an error, update returned float32[3], float32[3,2]
    """
    names = list(PROPERTIES)
    chosen = names if only is None else _checks.some_of("check_optimizer", "only", only, names)
    _checks.require(bool(chosen), "check_optimizer: only is empty: nothing would be asked, and all would pass.")
    reasons = _reasons(except_, names)
    subject = make_subject(tx, params, extra, tolerance)
    rows: list[Row] = []
    does_not_run = False
    for name in chosen:
        if does_not_run:
            row = Row(name, promise(PROPERTIES[name]), NOT_APPLICABLE, "update does not run: see runs.")
        else:
            row = ask(PROPERTIES[name], subject)
            does_not_run = name == "runs" and row.outcome == FAILED
        rows.append(_excepted(row, reasons.get(name)))
    called_with = tuple(subject.extra(subject.params))
    return Report(repr(tx) if subject.is_value else _name_of(tx), tuple(rows), called_with)


def ask(check: Property, subject: Subject) -> Row:
    """The row of one property."""
    name, says = check.__name__, promise(check)
    try:
        check(subject)
    except NotApplicable as reason:
        return Row(name, says, NOT_APPLICABLE, str(reason))
    except Failed as failure:
        return Row(name, says, FAILED, str(failure))
    except Exception as error:  # of the optimizer
        return Row(name, says, FAILED, f"raised {brief(error)}{_where(error)}")
    return Row(name, says, PASSED)


def promise(check: Property) -> str:
    return (check.__doc__ or "").splitlines()[0]


def make_subject(
    tx: Any,
    params: Params | None,
    extra: Mapping[str, Any] | Callable[[Params], Mapping[str, Any]] | None,
    tolerance: float = 1e-6,
) -> Subject:
    made = as_transformation("check_optimizer", "tx", tx)
    _checks.number("check_optimizer", "tolerance", tolerance, Range(0, 1, includes_high=False))
    core = default_core() if params is None else None
    params = default_params() if params is None else trainable(params)
    if not any(leaf.size for leaf in jax.tree.leaves(params)):
        raise ValueError("check_optimizer: params has no array with numbers to train.")
    if extra is not None and not callable(extra) and not isinstance(extra, Mapping):
        raise TypeError(f"check_optimizer: extra must be a dict or a function of the parameters; got {extra!r}.")
    if extra is None:
        given = _found_extra(made, params if core is None else core)
    else:
        given = extra if callable(extra) else lambda _: extra
    _check_extra(given(params if core is None else core))
    is_value = not made.made_by(pair_of_functions)
    return Subject(made, params, given, core=core, tolerance=tolerance, is_value=is_value)


def _check_extra(found: Any) -> None:
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise TypeError(
            f"check_optimizer: extra must be, or return, a dict of keyword arguments by their names; got {found!r}."
        )
    taken = [name for name in ("updates", "state", "params") if name in found]
    _checks.require(not taken, lambda: f"check_optimizer: extra has {taken[0]!r}, which update gets anyway.")


def _found_extra(tx: GradientTransformation, params: Params) -> Callable[[Params], Mapping[str, Any]]:
    """The first of the usual sets of extra arguments with which ``update`` can be traced."""
    usual = (lambda _: {}, lambda _: {"value": jnp.float32(1)}, _for_line_search)
    for extra in usual:
        try:
            jax.eval_shape(lambda p, extra=extra: tx.update(p, tx.init(p), p, **extra(p)), params)
        except Exception:
            continue
        return extra
    needed = rules.extra_arguments(tx)
    for name, owners in needed.items():
        if name != "value":
            raise ValueError(
                f"check_optimizer: {', '.join(owners)} needs {name}: call check_optimizer(tx, extra={{{name!r}: ...}})."
            )
    return usual[0]


def _for_line_search(params: Params) -> Mapping[str, Any]:
    def value_fn(p: Params) -> jax.Array:
        return sum((jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(p)), jnp.float32(0))

    return {"value": value_fn(params), "grad": jax.grad(value_fn)(params), "value_fn": value_fn}


def _reasons(except_: Mapping[str, str] | None, names: list[str]) -> Mapping[str, str]:
    if except_ is None:
        return {}
    if not isinstance(except_, Mapping):
        raise TypeError(f"check_optimizer: except_ must map names of properties to reasons; got {except_!r}.")
    _checks.some_of("check_optimizer", "except_", list(except_), names)
    for name, reason in except_.items():
        if not isinstance(reason, str) or not reason.strip():
            raise TypeError(f"check_optimizer: except_[{name!r}] must say why, in words; got {reason!r}.")
    return except_


def _excepted(row: Row, reason: str | None) -> Row:
    if reason is None or row.outcome == NOT_APPLICABLE:
        return row
    if row.outcome == PASSED:
        message = f"except_ says it does not hold ({reason}), and it holds: take it out."
        return row._replace(outcome=FAILED, message=message)
    return row._replace(outcome=NOT_APPLICABLE, message=f"except_: {reason}")


def _name_of(tx: Any) -> str:
    update = tx[1] if isinstance(tx, tuple) else tx.arguments["update"]
    return f"(init, update) of {getattr(update, '__module__', None)}.{getattr(update, '__qualname__', repr(update))}"


def _where(error: BaseException) -> str:
    """The last line of code that is neither of JAX nor of these checks."""
    own, jax_files = os.path.dirname(__file__) + os.sep, os.path.dirname(jax.__file__) + os.sep
    frames = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in frames if not frame.filename.startswith((own, jax_files))]
    return f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
