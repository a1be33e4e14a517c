"""The precision of weights and moments. In float32, and so in most tests of the table, nothing of it is to be seen."""

import jaxopt_lessons as jl
from cases.adam import adam
from cases.case import Case
from cases.momentum import sgd

NUMPY = {"sgd": sgd, "adam": adam}
SGD, ADAM = jl.sgd(0.1), jl.adam(0.1)
FIELDS = frozenset({"count", "mu", "nu", "inner"})
EXEMPT = {
    "optax": "optax has none",
    "half_precision_is_calculated_in_float32": "it lets the parameters land elsewhere than rounded updates would",
}


def run(grads, params, inner, **precision):
    return NUMPY[inner.name](grads, params, **inner.arguments)


def row(name, fields, silent=(), needs_params=True, exempt=EXEMPT, **arguments):
    return Case(
        name,
        run,
        {"inner": SGD, **arguments},
        {"inner": ADAM},
        silent=silent,
        needs_params=needs_params,
        fields=FIELDS | fields,
        minimizes={"inner": ADAM},
        exempt=exempt,
    )


CASES = [
    row("master_weights", {"master"}),
    row("split_master_weights", {"residual"}, ("bits",)),
    row("kahan", {"compensation"}),
    row("stochastic_rounding", set(), ("key",)),
    row(
        "moment_dtypes",
        set(),
        ("dtypes", "rounding", "key"),
        needs_params=False,
        exempt={"optax": "optax has none"},
        dtypes="float32",
    ),
    row("with_precision", {"master"}, ("moments", "weights", "rounding", "key"), weights="master"),
]
