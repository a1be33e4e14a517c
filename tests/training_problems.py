"""Small problems, comparisons and counters that the tests of training share."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_lessons as jl

REMAINDERS = ("keep", "drop", "pad", "wrap")
FEATURES = 3


def regression(examples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs ``[examples, 3]`` and targets ``[examples]`` of a noisy nonlinear function."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((examples, FEATURES)).astype(np.float32)
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.1 * rng.standard_normal(examples)
    return x, y.astype(np.float32)


def network(seed: int = 0, hidden: int = 5) -> dict[str, np.ndarray]:
    """Weights of a network 3-5-1, as NumPy arrays."""
    rng = np.random.default_rng(seed)
    return {
        "w1": (rng.standard_normal((FEATURES, hidden)) / np.sqrt(FEATURES)).astype(np.float32),
        "b1": np.zeros(hidden, np.float32),
        "w2": (rng.standard_normal(hidden) / np.sqrt(hidden)).astype(np.float32),
    }


def forward(params: Any, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """The network's outputs ``[examples]``; a key shifts the hidden units by a random number."""
    shift = 0.0 if key is None else (jax.random.key_data(key)[1] >> 8).astype(np.float32) / 2**24
    return jnp.tanh(x @ params["w1"] + params["b1"][None] + shift) @ params["w2"]


def example_loss(params: Any, batch: Any) -> jax.Array:
    """Squared errors ``[examples]``."""
    x, y = batch
    return (forward(params, x) - y) ** 2


def scalar_loss(params: Any, batch: Any) -> jax.Array:
    return jnp.mean(example_loss(params, batch))


def weighted_loss(params: Any, batch: Any) -> jl.Weighted:
    errors = example_loss(params, batch)
    return jl.Weighted(jnp.sum(errors), jnp.float32(errors.size))


def noisy_loss(params: Any, batch: Any, key: jax.Array | None) -> jax.Array:
    """Squared errors ``[examples]`` with noise: a loss that uses its key."""
    x, y = batch
    return (forward(params, x, key) - y) ** 2


def visits(params: jax.Array, batch: jax.Array) -> jl.Weighted:
    """With ``sgd(1.0)`` from zeros, parameter i counts how often row number i was in a batch."""
    return jl.Weighted(-jnp.sum(params[batch]), jnp.float32(1))


def quadratic(params: jax.Array, batch: Any) -> jax.Array:
    """Distances ``|p - c|^2 / 2`` to the rows of ``batch``: convex, with its minimum at the mean of the rows."""
    return 0.5 * jnp.sum((params[None] - batch) ** 2, axis=1)


def plain(leaf: Any) -> np.ndarray:
    """A leaf as a NumPy array, keys as their words."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def assert_same(got: Any, expected: Any) -> None:
    """Both trees have the same structure and dtypes, and the same bits."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        a, b = plain(a), plain(b)
        assert a.dtype == b.dtype, jax.tree_util.keystr(path)
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path), strict=True)


def assert_near(got: Any, expected: Any, tolerance: float = 1e-6) -> None:
    """Both trees have the same structure and, to an absolute and relative tolerance, the same numbers."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(plain(a), plain(b), tolerance, tolerance, err_msg=jax.tree_util.keystr(path))


def distance(a: Any, b: Any) -> float:
    """The largest difference between two trees, to show that a comparison could have failed."""
    return max(float(np.max(np.abs(plain(x) - plain(y)))) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@contextlib.contextmanager
def backend_compiles() -> Iterator[list[str]]:
    """Yields a list with an entry for each program that XLA compiles inside, as JAX itself reports them."""
    events: list[str] = []

    def listener(event: str, duration: float, **details: Any) -> None:
        if "backend_compile" in event:
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield events
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
