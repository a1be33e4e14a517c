"""Reduce on plateau beyond its row of the table: real sequences of losses, NaN among them, per epoch, in a scan."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bad_inputs import bad_input

import jaxopt_lessons as jl

LOSSES = np.random.default_rng(0).uniform(0.5, 1.5, 60) * np.linspace(1.5, 0.7, 60)
SETTINGS = [
    {"patience": 2},
    {"factor": 0.5, "patience": 3, "rtol": 0.0, "atol": 0.05},
    {"factor": 0.7, "patience": 1, "cooldown": 2},
    {"factor": 0.5, "patience": 1, "accumulation_size": 5},
    {"factor": 0.5, "patience": 1, "accumulation_size": 3, "cooldown": 1, "min_scale": 0.3},
]


def run(tx, losses):
    """The scales and the states after each update, in one scan."""
    gradient = jnp.ones(2)

    def body(state, loss):
        updates, state = tx.update(gradient, state, value=loss)
        return state, (updates[0], state)

    _, (scales, states) = jax.lax.scan(body, tx.init(gradient), jnp.asarray(losses))
    return np.asarray(scales), states


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_is_optax(settings):
    """All fields of the state too, at every step."""
    ours, states = run(jl.reduce_on_plateau(**settings), LOSSES)
    with jax.numpy_dtype_promotion("standard"):
        theirs, expected = run(optax.contrib.reduce_on_plateau(**settings), LOSSES)
    assert len(np.unique(ours)) > 2
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert states._fields == expected._fields
    for name in states._fields:
        np.testing.assert_allclose(getattr(states, name), getattr(expected, name), rtol=2e-6, err_msg=name)


@pytest.mark.oracle
def test_is_torch_with_one_more_patience():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, cooldown=1, min_lr=0.1)
    theirs = []
    losses = [*LOSSES[:20], np.nan, np.inf, *LOSSES[20:]]
    for loss in losses:
        scheduler.step(loss)
        theirs.append(optimizer.param_groups[0]["lr"])
    ours, _ = run(jl.reduce_on_plateau(factor=0.5, patience=3, cooldown=1, min_scale=0.1), losses)
    assert len(np.unique(theirs)) > 3
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@bad_input(46)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_value_is_no_improvement(bad):
    scales, states = run(jl.reduce_on_plateau(factor=0.5, patience=2), [1.0, bad, bad, 0.5])
    np.testing.assert_allclose(scales, [1, 1, 0.5, 0.5])
    np.testing.assert_allclose(states.best_value, [1, 1, 1, 0.5])
    scales, states = run(jl.reduce_on_plateau(factor=0.5, patience=2), [bad, 1.0, 0.5, 0.5])
    np.testing.assert_allclose(states.best_value, [np.inf, 1, 0.5, 0.5])
    np.testing.assert_allclose(scales, 1)
    scales, _ = run(jl.reduce_on_plateau(factor=0.5, patience=2), [bad, bad, 1.0])
    np.testing.assert_allclose(scales, [1, 0.5, 0.5])


@bad_input(46)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_value_does_not_spoil_its_mean(bad):
    tx = jl.reduce_on_plateau(factor=0.5, patience=1, accumulation_size=3)
    losses = [2.0, bad, 4.0, bad, bad, 1.0, bad, bad, bad, 0.5, 0.5, 0.5]
    scales, states = run(tx, losses)
    np.testing.assert_allclose(states.best_value[2::3], [8 / 3, 1, 1, 0.5], rtol=1e-6)
    np.testing.assert_allclose(scales[2::3], [1, 1, 0.5, 0.5])
    assert not np.any(np.isnan(states.avg_value))
    assert np.all(states.avg_value[2::3] == 0)


@bad_input(46)
def test_huge_values_do_not_overflow():
    tx = jl.reduce_on_plateau(patience=1, accumulation_size=4)
    _, states = run(tx, [3e38, 3e38, 3e38, 3e38, -3e38, 3e38, -3e38, -3e38])
    np.testing.assert_allclose(states.best_value[3::4], [3e38, -1.5e38], rtol=1e-6)


def test_once_an_epoch_in_training():
    """With the number of updates of an epoch it judges mean losses of epochs."""
    per_epoch = 4
    tx = jl.chain(
        jl.sgd(0.0), jl.reduce_on_plateau(factor=0.5, patience=2, accumulation_size=per_epoch)
    )  # the loss never falls
    step = jl.make_step(lambda params, batch: (params - batch) ** 2, tx)
    state = jl.init_state(jnp.ones(()), tx, key=0)
    out = jl.fit(step, state, jnp.arange(8.0), epochs=6, batch_size=2)
    plateau = out.state.opt_state[1]
    assert plateau.scale == 0.25  # epochs 1 (the first), 2 + 3, 4 + 5 no better, 6
    assert (plateau.plateau_count, plateau.count) == (1, 0)


def test_fewer_values_or_less_patience_in_the_middle_of_a_run():
    """replace does not make it wait for a number that is past."""
    tx = jl.reduce_on_plateau(factor=0.5, patience=10, accumulation_size=10)
    state = tx.init(jnp.ones(()))
    for _ in range(5):
        _, state = tx.update(jnp.ones(()), state, value=1.0)
    _, state = tx.replace(accumulation_size=2).update(jnp.ones(()), state, value=1.0)
    assert (state.count, state.best_value) == (0, 1)
    state = state._replace(plateau_count=jnp.int32(8))
    _, state = tx.replace(accumulation_size=1, patience=3).update(jnp.ones(()), state, value=1.0)
    assert state.scale == 0.5


def test_a_state_of_optax_goes_on():
    settings = {"factor": 0.5, "patience": 2, "accumulation_size": 2}
    theirs, ours, params = optax.contrib.reduce_on_plateau(**settings), jl.reduce_on_plateau(**settings), jnp.ones(2)
    with jax.numpy_dtype_promotion("standard"):
        state = theirs.init(params)
        for loss in LOSSES[:9]:
            _, state = theirs.update(params, state, value=loss)
        converted = jl.convert_state(ours, params, state)
        for loss in LOSSES[9:30]:
            expected, state = theirs.update(params, state, value=loss)
            updates, converted = ours.update(params, converted, value=jnp.float32(loss))
            np.testing.assert_allclose(updates, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 1.0}, r"factor must be a finite number in \(0, 1\); got 1.0"),
        ({"factor": 0.0}, "factor must be"),
        ({"patience": 0}, "patience must be a whole number"),
        ({"rtol": -0.1}, "rtol must be"),
        ({"rtol": 1.5}, "rtol must be"),
        ({"atol": -0.1}, "atol must be"),
        ({"rtol": 0.0}, "rtol, atol or both must be above 0"),
        ({"cooldown": -1}, "cooldown must be"),
        ({"accumulation_size": 0}, "accumulation_size must be"),
        ({"min_scale": -0.1}, "min_scale must be"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        jl.reduce_on_plateau(**arguments)


def test_a_value_is_needed():
    tx = jl.reduce_on_plateau()
    state = tx.init(jnp.ones(2))
    with pytest.raises(jl.InputError, match="reduce_on_plateau: needs value"):
        tx.update(jnp.ones(2), state)
    with pytest.raises(jl.InputError, match="reduce_on_plateau: value must be the loss, one real number"):
        tx.update(jnp.ones(2), state, value=jnp.ones(2))
    assert jl.contrib.reduce_on_plateau is jl.reduce_on_plateau
