"""The order of the examples: a bijection that can be read at any position and that is random for statistics.

All seeds are fixed. The limit of 1e-3 on p-values is that of a test which is read once, not of one that is repeated.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxopt_lessons.train import shuffle

SIZES = [*range(1, 41), *range(63, 68), *range(255, 259), 1000, 1009, *range(4095, 4099), 60000]
EPOCHS = (0, 1, 7)


def words(seed):
    return shuffle.seed_words(jax.random.key(seed))


_compiled = jax.jit(shuffle.permuted, static_argnums=1)


def entries(positions, n, epoch, seed=0):
    """Small sizes are compiled, for speed; for others the operations are shared by all vectors of one length."""
    function = _compiled if n <= shuffle.SORTED_UP_TO else shuffle.permuted
    return np.asarray(function(jnp.asarray(positions, jnp.uint32), n, words(seed), jnp.int32(epoch)))


@functools.cache
def permutation(n, epoch, seed=0):
    return entries(np.arange(max(n, 4098)) % n if n > shuffle.SORTED_UP_TO else np.arange(n), n, epoch, seed)[:n]


@functools.partial(jax.jit, static_argnums=(0,))
def _orders(n, words, epochs):
    positions = jnp.arange(n, dtype=jnp.uint32)
    return jax.vmap(lambda words, epoch: shuffle.permuted(positions, n, words, epoch))(words, epochs)


@functools.cache
def orders(n, by="epoch", seed=3, count=None):
    """Many permutations ``[count, n]``: the first epochs of one key, or the first epoch of as many keys."""
    count = count or max(40 * n, 2000)
    if by == "epoch":
        return np.asarray(_orders(n, jnp.tile(words(seed), (count, 1)), jnp.arange(count)))
    keys = jax.vmap(shuffle.seed_words)(jax.random.split(jax.random.key(seed), count))
    return np.asarray(_orders(n, keys, jnp.zeros(count, jnp.int32)))


# ---------------------------------------------------------------------------------------------------------------------
# A permutation
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
def test_every_epoch_is_a_bijection(n):
    for epoch in EPOCHS:
        order = permutation(n, epoch)
        assert order.dtype == np.int32
        np.testing.assert_array_equal(np.sort(order), np.arange(n))


@pytest.mark.parametrize("n", [1, 2, 5, *range(15, 41), *SIZES[40:]])
def test_an_entry_can_be_had_without_the_others(n):
    for epoch in EPOCHS[1:]:
        for position in {0, n // 3, n - 2 if n > 1 else 0, n - 1}:
            assert entries([position], n, epoch) == permutation(n, epoch)[position]


@pytest.mark.parametrize("n", [11, 17, 142, 4097])
def test_all_entries_can_be_had_without_the_others(n):
    @jax.jit
    def alone(positions):
        return jax.vmap(lambda one: shuffle.permuted(one[None], n, words(0), jnp.int32(1))[0])(positions)

    np.testing.assert_array_equal(alone(jnp.arange(n, dtype=jnp.uint32)), permutation(n, 1))


@pytest.mark.parametrize("n", [2**31 - 1, 2**31 - 2**16, 1_431_655_767, 10**9])
def test_entries_of_huge_permutations_are_distinct_and_in_range(n):
    inner = np.random.default_rng(0).choice(n - 2000, 48_000, replace=False, shuffle=False) + 1000
    positions = np.concatenate([np.arange(1000), inner, np.arange(n - 1000, n)])
    found = entries(positions, n, 3).astype(np.int64)
    assert found.min() >= 0
    assert found.max() < n
    assert len(np.unique(found)) == 50_000
    assert abs(found.mean() / n - 0.5) < 4 / np.sqrt(12 * 50_000)


@pytest.mark.parametrize("n", [1, 7, 16, 17, 41, 100])
@pytest.mark.parametrize("epoch", [0, 5])
def test_positions_beyond_the_end_go_on_into_the_next_epochs(n, epoch):
    first, length = n - 1, 2 * n + 4 if n <= 16 else 60
    following = np.concatenate([permutation(n, epoch + i, seed=1) for i in range(7)])
    np.testing.assert_array_equal(entries(first + np.arange(length), n, epoch, seed=1), following[first:][:length])


@pytest.mark.parametrize(
    ("n", "first"),
    [
        (10, [1, 3, 0, 4, 2, 7, 8, 6, 5, 9]),
        (34, [14, 32, 23, 33, 29, 4, 11, 28, 6, 25]),
        (5000, [446, 4718, 1166, 1695, 2313, 3826, 4441, 1527, 3423, 2730]),
    ],
)
def test_the_order_is_the_same_in_every_release(n, first):
    """Else a run that is saved with one release and goes on with the next would see other examples."""
    seed = jnp.array([0x12345678, 0x9ABCDEF0], jnp.uint32)
    assert shuffle.permuted(jnp.arange(10, dtype=jnp.uint32), n, seed, jnp.int32(3)).tolist() == first


@pytest.mark.parametrize("n", [5, 41])
def test_vmap_over_keys_is_the_loop_over_keys(n):
    keys = jax.random.split(jax.random.key(2), 6)

    @jax.jit
    def order(key):
        return shuffle.permuted(jnp.arange(n, dtype=jnp.uint32), n, shuffle.seed_words(key), jnp.int32(4))

    together = jax.vmap(order)(keys)
    np.testing.assert_array_equal(together, [order(key) for key in keys])
    assert len(np.unique(np.asarray(together), axis=0)) == 6


# ---------------------------------------------------------------------------------------------------------------------
# A random one
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 16, 17, 34, 142])
@pytest.mark.parametrize("by", ["epoch", "key"])
def test_epochs_and_keys_agree_no_more_than_by_chance(n, by):
    """Two random permutations agree at one position on average, with variance 1."""
    several = orders(n, by)
    for lag in (1, 2, 256):
        agreements = np.sum(several[lag:] == several[:-lag], axis=1)
        assert abs(agreements.mean() - 1) < 4 / np.sqrt(len(agreements)), (lag, agreements.mean())
        assert abs(agreements.var() - 1) < 0.25, (lag, agreements.var())


@pytest.mark.parametrize("by", ["epoch", "key"])
def test_no_order_comes_twice(by):
    several = orders(34, by)
    assert len(np.unique(np.concatenate([several, orders(34, by, seed=9)]), axis=0)) == 2 * len(several)


@pytest.mark.parametrize("n", [2, 3, 5, 16, 17, 18, 20, 34, 41, 64, 142])
@pytest.mark.parametrize("by", ["epoch", "key"])
def test_every_position_holds_every_value_equally_often(n, by):
    """Position by value. Rows and columns have fixed sums, so ``X^2 (n-1)/n`` is chi-square with ``(n-1)^2``."""
    several = orders(n, by)
    table = np.zeros((n, n))
    np.add.at(table, (np.broadcast_to(np.arange(n), several.shape), several), 1)
    expected = len(several) / n
    assert_plausible(np.sum((table - expected) ** 2) / expected * (n - 1) / n, (n - 1) ** 2)


@pytest.mark.parametrize("n", [5, 16, 17, 34, 41, 142])
def test_every_pair_of_neighbours_is_equally_frequent(n):
    """The values at two neighbouring positions, over the epochs of one key: all n (n-1) pairs alike."""
    count = 20 * n * (n - 1)
    firsts = (0, n // 2, n - 2)
    positions = jnp.asarray([[first, first + 1] for first in firsts], jnp.uint32).reshape(-1)
    pairs = jax.jit(jax.vmap(lambda epoch: shuffle.permuted(positions, n, words(5), epoch)))(jnp.arange(count))
    for first, second in np.asarray(pairs).reshape(count, 3, 2).transpose(1, 2, 0):
        seen = np.bincount(first * n + second, minlength=n * n).reshape(n, n)
        assert np.all(np.diag(seen) == 0)
        assert_plausible(np.sum((seen[~np.eye(n, dtype=bool)] - 20.0) ** 2) / 20, n * (n - 1) - 1)


@pytest.mark.parametrize("by", ["epoch", "key"])
def test_all_orders_of_four_are_equally_frequent(by):
    _, seen = np.unique(orders(4, by, count=24 * 500) @ np.array([64, 16, 4, 1]), return_counts=True)
    assert len(seen) == 24
    assert_plausible(np.sum((seen - 500.0) ** 2) / 500, 23)


@pytest.mark.parametrize("n", [34, 142, 4098])
def test_neighbours_stay_neighbours_no_more_than_by_chance(n):
    """In a random order ``2 (n-k) / n`` of the steps between neighbours are k or -k, with variance 2 at most."""
    several = orders(n, count=1000) if n > 1000 else orders(n)
    steps = np.abs(np.diff(several, axis=1))
    for size in (1, 2, int(np.sqrt(n)), n // int(np.sqrt(n))):
        expected = 2 * (n - size) / n
        mean = np.sum(steps == size, axis=1).mean()
        assert abs(mean - expected) < 4 * np.sqrt(2 / len(steps)), (size, mean, expected)


@pytest.mark.parametrize("n", [4098, 60000])
def test_parts_of_large_orders_are_mixed_evenly(n):
    """A table of 24 parts of the positions by 24 parts of the values, for each of 16 epochs."""
    parts, count = 24, 16
    part = np.arange(n) * parts // n
    size = np.bincount(part).astype(float)
    expected = np.outer(size, size) / n
    statistic = 0.0
    for epoch in range(count):
        table = np.zeros((parts, parts))
        np.add.at(table, (part, part[permutation(n, epoch)]), 1)
        statistic += np.sum((table - expected) ** 2 / expected) * (n - 1) / n
    assert_plausible(statistic, count * (parts - 1) ** 2)


def assert_plausible(statistic, degrees):
    """Neither more uneven nor more even than chance."""
    uneven, even = stats.chi2.sf(statistic, degrees), stats.chi2.cdf(statistic, degrees)
    assert min(uneven, even) > 1e-3, f"chi-square {statistic:.1f} with {degrees} degrees of freedom"
