"""AMSGrad."""

import numpy as np

from cases.case import Case, at
from cases.scale import scale_by_learning_rate


def scale_by_amsgrad(
    grads,
    params,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    mu_dtype=None,
    bias_correction_mu=True,
    bias_correction_nu=True,
):
    m, v, largest, updates = 0.0, 0.0, 0.0, []
    for i, g in enumerate(grads):
        t, c1, c2 = i + 1, at(b1, i), at(b2, i)
        m = c1 * m + (1 - c1) * g
        v = c2 * v + (1 - c2) * g**2
        largest = np.maximum(largest, v)
        m_hat = m / (1 - c1**t) if bias_correction_mu else m
        v_hat = largest / (1 - c2**t) if bias_correction_nu else largest
        updates.append(m_hat / (np.sqrt(v_hat + at(eps_root, i)) + at(eps, i)))
    return updates


def amsgrad(grads, params, learning_rate, *moments, **arguments):
    return scale_by_learning_rate(scale_by_amsgrad(grads, params, *moments, **arguments), params, learning_rate)


AMSGRAD = {
    "b1": 0.8,
    "b2": 0.9,
    "eps": 1e-2,
    "eps_root": 1e-2,
    "bias_correction_mu": False,
    "bias_correction_nu": False,
}
FACTS = {
    "tolerance": 1e-5,  # without corrections the result has the relative error of 1 - 0.999 in float32
    "dtypes": ("mu_dtype",),
    "fields": frozenset({"count", "mu", "nu", "nu_max"}),
    "exempt": {"optax": "it takes the maximum of the corrected average; see test_amsgrad_of_the_paper and test_torch"},
}

CASES = [
    Case("scale_by_amsgrad", scale_by_amsgrad, {}, AMSGRAD, part_of="amsgrad", **FACTS),
    Case(
        "amsgrad",
        amsgrad,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **AMSGRAD},
        minimizes={"learning_rate": 0.1},
        **FACTS,
    ),
]
