"""The cautious mask and cautious weight decay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input

import jaxopt_lessons as jl


def second_update(tx, first, second):
    params = jnp.zeros_like(first)
    _, state = tx.update(first, tx.init(params), params)
    return tx.update(second, state, params)[0]


def test_no_weight_moves_against_its_gradient():
    rng = np.random.default_rng(0)
    tx, params = jl.cautious(jl.sgd(0.1, momentum=0.99)), jnp.zeros(50)
    state, masked = tx.init(params), 0
    for g in jnp.asarray(rng.standard_normal((20, 50)), jnp.float32):
        updates, state = tx.update(g, state, params)
        assert np.all(updates * g <= 0)
        masked += int(jnp.sum(updates == 0))
    assert 300 < masked < 700


def test_the_others_step_further():
    """Of four entries one turned round: the other three move by 4/3."""
    first, second = jnp.full(4, 2.0), jnp.array([2.0, 2.0, 2.0, -0.1])
    plain = second_update(jl.sgd(1.0, momentum=0.9), first, second)
    masked = second_update(jl.cautious(jl.sgd(1.0, momentum=0.9)), first, second)
    np.testing.assert_allclose(masked[:3], plain[:3] * 4 / 3, rtol=1e-6)
    assert masked[3] == 0


def test_the_share_has_a_floor():
    first, second = jnp.full(4, 2.0), jnp.array([2.0, -0.1, -0.1, -0.1])
    masked = second_update(jl.cautious(jl.sgd(1.0, momentum=0.9), eps=0.5), first, second)
    np.testing.assert_allclose(masked, [-2 * 3.8, 0, 0, 0], rtol=1e-6)


def test_a_gradient_across_the_momentum_of_all_entries():
    first, second = jnp.full(2, 2.0), jnp.full(2, -0.1)
    for eps in (0.0, 1e-3):
        assert np.all(second_update(jl.cautious(jl.sgd(1.0, momentum=0.9), eps=eps), first, second) == 0)


@bad_input(39, 40)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_masked_entry_that_is_not_finite_is_seen(bad):
    masked = second_update(jl.cautious(jl.sgd(1.0, momentum=0.9)), jnp.array([bad, 1.0]), jnp.array([-1.0, 1.0]))
    assert not np.isfinite(masked[0])
    assert np.isfinite(masked[1])


def test_the_part_inside_is_found():
    tx = jl.cautious(jl.adam(0.1))
    state = tx.init(jnp.zeros(2))
    (part,) = tx.parts(state)
    assert (part.name, part.tx) == ("inner", jl.adam(0.1))
    assert part.state is state


def test_foreign_transformations_can_be_inside():
    optax = pytest.importorskip("optax")
    first, second = jnp.array([1.0, -2.0, 3.0]), jnp.array([-0.5, -1.0, 0.5])
    with jax.numpy_dtype_promotion("standard"):
        ours, theirs = (second_update(jl.cautious(tx), first, second) for tx in (jl.adam(0.1), optax.adam(0.1)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_cautious_decay_leaves_growing_weights_alone():
    tx = jl.add_cautious_weight_decay(0.5)
    params = jnp.array([2.0, 2.0, -2.0, -2.0, 2.0, 0.0])
    u = jnp.array([1.0, -1.0, 1.0, -1.0, 0.0, 1.0])
    updates, _ = tx.update(u, tx.init(params), params)
    np.testing.assert_array_equal(updates, [2.0, -1.0, 1.0, -2.0, 1.0, 1.0])
