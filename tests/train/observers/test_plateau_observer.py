"""``ReduceOnPlateau``: the learning rate beside PyTorch's, and what else happens to the step."""

import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from observer_runs import fit, script
from training_problems import assert_same, example_loss, network

import jaxopt_lessons as jl

STEPS = jl.Every(steps=1)
RNG = np.random.default_rng(0)
LOSSES = np.round(np.concatenate([np.linspace(3, 1, 12), 1 + RNG.standard_normal(28) / 4]), 2)


def rates(losses, tx=None, weights=None, **settings):
    """The learning rate of each step of a run with these losses."""
    options = script(losses, weights=weights)
    step = jl.make_step(options["step"].loss_fn, tx or jl.sgd(0.5))
    options |= {"step": step, "state": jl.init_state(0.0, step)}
    observer = jl.ReduceOnPlateau("loss", every=STEPS, **settings)
    return fit(**options, observers=[observer])


@bad_input(46)
@pytest.mark.oracle
@pytest.mark.parametrize(
    "settings",
    [
        {"factor": 0.5, "patience": 2},
        {"factor": 0.1, "patience": 1},
        {"factor": 0.5, "patience": 3, "cooldown": 4},
        {"factor": 0.5, "patience": 2, "min_delta": 0.2},
        {"factor": 0.5, "patience": 2, "min_scale": 0.2},
        {"factor": 0.5, "patience": 2, "mode": "max", "min_delta": 0.1, "cooldown": 1},
    ],
)
@pytest.mark.parametrize("losses", [LOSSES, np.where(np.arange(40) % 7 == 6, np.nan, LOSSES)], ids=["finite", "nan"])
def test_the_rates_are_those_of_pytorch(settings, losses):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode=settings.get("mode", "min"),
        factor=settings["factor"],
        patience=settings["patience"] - 1,
        threshold=settings.get("min_delta", 0.0),
        threshold_mode="abs",
        cooldown=settings.get("cooldown", 0),
        min_lr=0.5 * settings.get("min_scale", 0.0),
        eps=0.0,
    )
    expected = []
    for loss in losses.astype(np.float32):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(float(loss))
    result = rates(losses, **settings)
    np.testing.assert_allclose(result.history["learning_rate"], expected, rtol=1e-6)
    assert len(set(expected)) >= 2
    assert result.observed["ReduceOnPlateau"].scale == pytest.approx(optimizer.param_groups[0]["lr"] / 0.5, rel=1e-12)


def test_by_hand():
    result = rates([5, 4, 4, 4, 3, 3, 3, 3], factor=0.5, patience=2)
    assert result.history["learning_rate"].tolist() == [0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]
    result = rates([5, 5, 5, 5, 5, 5, 5, 5], factor=0.5, patience=1, cooldown=2)
    assert result.history["learning_rate"].tolist() == [0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125, 0.125]
    result = rates([5, 5, 5, 5, 5], factor=0.5, patience=1, min_scale=0.4)
    np.testing.assert_allclose(result.history["learning_rate"], [0.5, 0.5, 0.25, 0.2, 0.2], 1e-7)


def test_rows_without_weight_are_no_looks():
    losses = [5, 4, np.nan, 4, np.nan, np.nan, 4, 4]
    result = rates(losses, weights=[1, 1, 0, 1, 0, 0, 1, 1], factor=0.5, patience=2)
    assert result.history["learning_rate"].tolist() == [0.5] * 7 + [0.25]


def test_the_steps_use_the_rate():
    losses = np.ones(4)
    step = jl.make_step(lambda w, batch: w + 0 * batch["loss"], jl.sgd(1.0))
    options = script(losses) | {"step": step, "state": jl.init_state(0.0, step)}
    observer = jl.ReduceOnPlateau("loss", factor=0.5, patience=1, mode="max", every=STEPS)
    assert float(fit(**options, observers=[observer]).state.params) == -(1 + 1 + 0.5 + 0.25)


def test_nothing_compiles_again():
    def loss(params, batch):
        return example_loss(params, batch)

    step = jl.make_step(loss, jl.adam(0.05))
    options = {"step": step, "state": jl.init_state(network(), step)}
    plain = fit(**options)
    observer = jl.ReduceOnPlateau(factor=0.5, patience=1, min_delta=100.0)
    reduced = fit(**options, observers=[observer])
    assert plain.compiles > 0
    assert reduced.compiles == 0
    assert reduced.observed["ReduceOnPlateau"].scale == 0.125
    assert step.tx.arguments["learning_rate"] == 0.05


def test_a_schedule_is_multiplied_and_goes_on():
    schedule = jl.linear_schedule(1.0, 0.0, 8)
    result = rates([5, 4, 4, 4, 4, 4, 4, 4], tx=jl.sgd(schedule), factor=0.5, patience=2)
    scales = np.array([1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25])
    np.testing.assert_allclose(result.history["learning_rate"], scales * np.linspace(1, 0.125, 8), 1e-6)


def test_a_schedule_compiles_nothing_later():
    def loss(params, batch):
        return example_loss(params, batch)

    step = jl.make_step(loss, jl.sgd(jl.linear_schedule(1.0, 0.0, 20)))
    options = {"step": step, "state": jl.init_state(network(), step)}
    waits = fit(**options, observers=[jl.ReduceOnPlateau(factor=0.5, patience=100)])
    reduced = fit(**options, observers=[jl.ReduceOnPlateau(factor=0.5, patience=1, min_delta=100.0)])
    assert waits.compiles > 0
    assert reduced.compiles == 0
    assert reduced.observed["ReduceOnPlateau"].scale == 0.125


def test_a_function_as_schedule_is_multiplied():
    result = rates([5, 5, 5, 5], tx=jl.sgd(lambda count: 1.0 / (1 + count.astype(np.float32))), factor=0.5, patience=1)
    np.testing.assert_allclose(result.history["learning_rate"], [1, 1 / 2, 1 / 6, 1 / 16], 1e-6)


def test_another_hyperparameter():
    tx = jl.chain(jl.add_decayed_weights(0.25), jl.sgd(1.0))
    result = rates([5, 5, 5], tx=tx, factor=0.5, patience=1, hyperparameter="weight_decay")
    assert result.history["learning_rate"].tolist() == [1, 1, 1]
    assert result.observed["ReduceOnPlateau"].base == 0.25
    assert result.observed["ReduceOnPlateau"].scale == 0.25


def test_a_run_that_goes_on_multiplies_the_rate_it_is_given(tmp_path):
    """A new rate may go on, with the scale that was reached."""
    losses = [5, 5, 5, 5, 5, 5]

    def run(rate, steps, resume):
        options = script(losses)
        step = jl.make_step(options["step"].loss_fn, jl.sgd(rate))
        options |= {"step": step, "state": jl.init_state(0.0, step), "steps": steps}
        observer = jl.ReduceOnPlateau("loss", factor=0.5, patience=1, every=STEPS)
        return fit(**options, observers=[observer, jl.Checkpoint(tmp_path)], resume=resume)

    run(0.5, 3, False)
    with pytest.warns(UserWarning, match="^fit: the run goes on with other hyperparameters"):
        result = run(8.0, 6, True)
    assert result.history["learning_rate"].tolist() == [0.5, 0.5, 0.25, 2.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("tx", "name", "error", "message"),
    [
        (jl.sgd(0.1), "learning_rat", TypeError, "no argument 'learning_rat' to replace. Did you mean 'learning_rate'"),
        (jl.chain(jl.scale(0.5), jl.scale(0.5)), "step_size", ValueError, "'step_size' is ambiguous"),
        (jl.sgd(0.1), "momentum", ValueError, "^ReduceOnPlateau: momentum is None; there is no number to reduce"),
    ],
)
def test_a_hyperparameter_that_is_not_there_is_refused_before_the_first_step(tx, name, error, message):
    step = jl.make_step(lambda w, x: w * x, tx)
    with pytest.raises(error, match=message):
        fit(
            step,
            jl.init_state(0.0, step),
            np.ones(4, np.float32),
            val=None,
            observers=[jl.ReduceOnPlateau("loss", hyperparameter=name)],
        )


def test_a_plain_function_has_no_hyperparameters():
    step = lambda state, batch: (state._replace(cursor=state.cursor + 1), {"loss": jnp.zeros(())})
    with pytest.raises(TypeError, match="^ReduceOnPlateau: needs a step that make_step made; got <function"):
        fit(step, val=None, observers=[jl.ReduceOnPlateau("loss")])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"factor": 1.0}, ValueError, "^ReduceOnPlateau: factor must be"),
        ({"factor": 0.0}, ValueError, "^ReduceOnPlateau: factor must be"),
        ({"patience": 0}, ValueError, "^ReduceOnPlateau: patience must be at least 1; got 0"),
        ({"cooldown": -1}, ValueError, "^ReduceOnPlateau: cooldown must be at least 0; got -1"),
        ({"min_delta": -1.0}, ValueError, "^ReduceOnPlateau: min_delta must be"),
        ({"min_scale": 1.5}, ValueError, "^ReduceOnPlateau: min_scale must be"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        jl.ReduceOnPlateau(**arguments)


def test_without_a_plateau_nothing_changes():
    result = fit(observers=[jl.ReduceOnPlateau(patience=100)])
    assert_same(result.state, fit().state)
