"""Rounding on the bits: the same as casts, whatever the compiler does, and right on average where it is random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input

from jaxopt_lessons import rounding

DTYPES = [jnp.bfloat16, jnp.float16]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def cast(x, dtype):
    with np.errstate(over="ignore", invalid="ignore"):
        return x.astype(jnp.dtype(dtype)).astype(np.float32)


def numbers(dtype):
    """Ordinary numbers, every binade, halves between two neighbours and what is beside them, and the ends."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    held = rng.integers(0, 2**16, 100_000).astype(np.uint16).view(jnp.dtype(dtype)).astype(np.float32)
    half = np.uint32(1 << (22 - jnp.finfo(dtype).nmant))
    beside = rng.integers(-1, 2, held.size).astype(np.int64)
    ties = (held.view(np.uint32).astype(np.int64) + half + beside).astype(np.uint32).view(np.float32)
    units = (rng.integers(0, 1024, 100_000) + 0.5).astype(np.float32) * np.float32(2.0**-24)
    units = (units.view(np.uint32) + beside).astype(np.uint32).view(np.float32)
    ordinary = rng.standard_normal(100_000).astype(np.float32)
    largest = np.float32(jnp.finfo(dtype).max)
    ends = np.array([0, -0.0, np.inf, -np.inf, np.nan, largest, -largest], np.float32)
    x = np.concatenate([bits, held, ties, units, ordinary, ordinary * np.float32(1e-5), ends])
    return x[(np.abs(x) >= jnp.finfo(jnp.float32).tiny) | (x == 0) | np.isnan(x)]


@every_dtype
@pytest.mark.parametrize("compiled", [False, True])
def test_round_nearest_is_a_cast(dtype, compiled):
    x = numbers(dtype)
    function = jax.jit(rounding.round_nearest, static_argnums=1) if compiled else rounding.round_nearest
    actual, expected = np.asarray(function(x, dtype)), cast(x, dtype)
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(np.signbit(actual), np.signbit(expected))


@every_dtype
def test_random_and_directed_rounding_give_a_neighbour(dtype):
    x = numbers(dtype)
    x = x[np.abs(x) <= float(jnp.finfo(dtype).max)]
    low, high = (np.asarray(f(jnp.asarray(x), dtype)) for f in (rounding.round_down, rounding.round_up))
    anyway = np.asarray(rounding.stochastic_round(jnp.asarray(x), dtype, jax.random.key(0)))
    for result in (low, high, anyway):
        np.testing.assert_array_equal(result, cast(result, dtype))
        assert np.all(np.isfinite(result))
    np.testing.assert_array_less(low, np.nextafter(x, np.float32(np.inf)))
    np.testing.assert_array_less(np.nextafter(x, np.float32(-np.inf)), high)
    assert np.all((anyway == low) | (anyway == high))
    held = cast(x, dtype) == x
    np.testing.assert_array_equal(low[held], x[held])
    np.testing.assert_array_equal(high[held], x[held])
    between = ~held & (np.abs(x) > 1e-7)
    assert np.all(low[between] < high[between])


@every_dtype
@pytest.mark.parametrize("x", [1.001, -3.3, 5e-5, 2e-6, 60000.7])
def test_stochastic_rounding_is_right_on_average(dtype, x):
    results = np.asarray(
        rounding.stochastic_round(jnp.full(100_000, x, jnp.float32), dtype, jax.random.key(1)), np.float64
    )
    assert len(np.unique(results)) == 2
    assert abs(results.mean() - np.float32(x)) < 4 * results.std() / np.sqrt(results.size)


@bad_input(41)
@every_dtype
def test_what_is_too_large_becomes_infinite_as_in_a_cast(dtype):
    largest = float(jnp.finfo(dtype).max)
    for key in range(20):
        inside = rounding.stochastic_round(jnp.float32(largest * (1 - 1e-6)), dtype, jax.random.key(key))
        assert float(inside) <= largest
    if dtype == jnp.float16:
        assert float(rounding.stochastic_round(jnp.float32(1e5), dtype, jax.random.key(0))) == np.inf
        assert float(rounding.round_nearest(jnp.float32(-1e5), dtype)) == -np.inf


@every_dtype
def test_derivatives_pass_through(dtype):
    x = jnp.array([1.001, -3.0])
    for function in (rounding.round_nearest, lambda x, d: rounding.stochastic_round(x, d, jax.random.key(0))):
        np.testing.assert_array_equal(jax.grad(lambda x, f=function: jnp.sum(3 * f(x, dtype)))(x), [3, 3])


def test_the_same_key_gives_the_same_numbers():
    x = jnp.linspace(1, 2, 1000)
    first, again, other = (rounding.stochastic_round(x, jnp.bfloat16, jax.random.key(key)) for key in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_spacing():
    x = jnp.array([1.0, 1.5, 2.0, -0.75, 0.0])
    np.testing.assert_array_equal(rounding.spacing(x, jnp.bfloat16)[:4], [2**-7, 2**-7, 2**-6, 2**-8])
    np.testing.assert_array_equal(rounding.spacing(x, jnp.float16), [2**-10, 2**-10, 2**-9, 2**-11, 2**-24])
