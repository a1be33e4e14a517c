"""What single members of Adam's family promise beyond the table."""

from fractions import Fraction
from math import comb, factorial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bad_inputs import bad_input

import jaxopt_lessons as jl
from jaxopt_lessons.schedules.rectification import _LANGEVIN, terms_held


def trajectory(tx, grads):
    state, updates = tx.init(grads[0]), []
    for g in grads:
        u, state = tx.update(g, state, grads[0])
        updates.append(u)
    return np.stack(updates)


def random_gradients(steps=20, dtype=np.float32):
    return list(jnp.asarray(np.random.default_rng(0).standard_normal((steps, 50)), dtype))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jl.rprop(0.1, eta_minus=1.0), r"rprop: eta_minus must be a finite number in \(0, 1\)"),
        (lambda: jl.rprop(0.1, eta_minus=0.0), r"rprop: eta_minus must be"),
        (lambda: jl.rprop(0.1, eta_plus=1.0), r"rprop: eta_plus must be a finite number in \(1, inf\)"),
        (lambda: jl.rprop(0.0), r"rprop: learning_rate must be"),
        (
            lambda: jl.rprop(0.1, min_step_size=1.0, max_step_size=0.1),
            r"\(min_step_size, max_step_size\) must increase",
        ),
        (lambda: jl.adadelta(eps=0.0), r"adadelta: eps must be"),
        (
            lambda: jl.scale_by_lion(mode="soft"),
            r"scale_by_lion: mode must be one of 'hard', 'smooth', 'refined'; got 'soft'",
        ),
    ],
)
def test_arguments_that_cannot_work_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_rprop_moves_at_its_first_step_and_rests_where_it_turned():
    """By hand: 0.1; same sign, 0.12; another sign, rest at half the size; then that size."""
    tx = jl.rprop(0.1)
    updates = trajectory(tx, [jnp.array([g]) for g in (3.0, 1e-3, -5.0, -1e-30, -2.0)])
    np.testing.assert_allclose(updates[:, 0], [-0.1, -0.12, 0.0, 0.06, 0.072], rtol=1e-6)


def test_rprop_compares_signs_of_gradients_too_small_to_multiply():
    tx = jl.rprop(0.1)
    updates = trajectory(tx, [jnp.array([1e-30]), jnp.array([1e-30]), jnp.array([-1e-30])])
    np.testing.assert_allclose(updates[:, 0], [-0.1, -0.12, 0.0], rtol=1e-6)


def test_amsgrad_of_the_paper_is_that_of_optax():
    """Without corrections there is one definition."""
    arguments = {"b1": 0.8, "b2": 0.95, "eps": 1e-3, "bias_correction_mu": False, "bias_correction_nu": False}
    with jax.enable_x64(True):
        grads = random_gradients(dtype=np.float64)
        ours, theirs = (trajectory(package.scale_by_amsgrad(**arguments), grads) for package in (jl, optax))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_amsgrad_keeps_the_maximum_of_the_average_that_is_not_corrected():
    """One early outlier: its share of the average is 1 - b2 whenever it comes; optax gives the first one all of it."""
    grads = [jnp.array([10.0]), *[jnp.array([1.0])] * 200]
    with jax.numpy_dtype_promotion("standard"):
        ours, theirs = (trajectory(package.scale_by_amsgrad(b1=0.0, b2=0.99), grads)[-1, 0] for package in (jl, optax))
    assert ours == pytest.approx(np.sqrt(1 - 0.99**201), rel=1e-3)  # 0.93: the average is 1 at every step
    assert theirs == pytest.approx(0.1, rel=1e-3)


def test_yogi_does_not_move_without_gradients_at_its_default_start():
    assert not np.any(trajectory(jl.scale_by_yogi(), [jnp.zeros(3)] * 3))


@pytest.mark.parametrize("b2", [0.0, 0.3, 0.9, 0.99, 0.999, 0.9999])
@pytest.mark.parametrize("t", [1, 2, 5, 6, 10, 100, 1000, 10**5, 10**9, 2**31 - 1])
def test_terms_held(b2, t):
    """rho in float32 to the last digits: rho_inf - 2 t b2^t / (1 - b2^t) would have lost all of them."""
    b = np.longdouble(np.float32(b2))
    with np.errstate(under="ignore"):
        exact = 2 / (1 - b) - 1 - 2 * t * b**t / (1 - b**t)
    rho, _ = terms_held(jnp.float32(b2), jnp.int32(t))
    assert float(rho) == pytest.approx(float(exact), rel=2e-6)


def test_the_series_of_rectification_has_the_coefficients_of_its_function():
    """coth(y) - 1/y is the sum of 2^(2k) B_2k / (2k)! y^(2k-1), with Bernoulli's numbers."""
    bernoulli = [Fraction(1)]
    for n in range(1, 2 * len(_LANGEVIN) + 1):
        bernoulli.append(-sum(comb(n + 1, k) * bernoulli[k] for k in range(n)) / Fraction(n + 1))
    exact = [4**k * bernoulli[2 * k] / factorial(2 * k) for k in range(1, len(_LANGEVIN) + 1)]
    assert [float(c) for c in exact] == pytest.approx(_LANGEVIN, rel=1e-15)


@pytest.mark.parametrize("b2", [0.9, 0.999, 0.999999])
@pytest.mark.parametrize("t", [1, 2, 5, 30, 1000])
def test_terms_held_in_double_precision(b2, t):
    power = Fraction(b2) ** t
    exact = 2 / (1 - Fraction(b2)) - 1 - 2 * t * power / (1 - power)
    with jax.enable_x64(True):
        rho, _ = terms_held(jnp.asarray(b2), jnp.int32(t))
        assert float(rho) == pytest.approx(float(exact), rel=1e-13)


def test_radam_in_float32_at_its_default_betas():
    grads = random_gradients()
    single = trajectory(jl.scale_by_radam(), grads)
    with jax.enable_x64(True):
        double = trajectory(jl.scale_by_radam(), [g.astype(jnp.float64) for g in grads])
    # 0.999 rounded to float32 is off by 1e-8, and rho_inf by 1e-5 of itself.
    np.testing.assert_allclose(single, double, rtol=2e-5, atol=2e-6)


@bad_input(39, 40)
def test_sign_methods_show_what_is_not_finite():
    """The sign of an overflow would be a step like any other, and nobody would see it."""
    grads = jnp.array([jnp.inf, -jnp.inf, jnp.nan, 3e38, 1e-30])
    for tx in (jl.scale_by_sign(), jl.scale_by_lion(), jl.scale_by_rprop(1.0, max_step_size=1.5)):
        u, _ = tx.update(grads, tx.init(grads))
        np.testing.assert_array_equal(u, [np.inf, -np.inf, np.nan, 1.0, 1.0])


def test_state_of_nadam_keeps_the_product_of_momenta_as_exactly_as_the_leaves():
    for dtype, x64 in ((jnp.float32, True), (jnp.bfloat16, False), (jnp.float64, True)):
        with jax.enable_x64(x64):
            params = jnp.ones(2, dtype)
            state = jl.scale_by_nadam().init(params)
            _, state = jl.scale_by_nadam().update(params, state, params)
            assert state.mu_product.dtype == (jnp.float64 if dtype == jnp.float64 else jnp.float32)
            assert float(state.mu_product) == pytest.approx(0.9 * (1 - 0.5 * 0.96**0.004), rel=1e-6)
