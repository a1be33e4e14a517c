"""Trials of Optuna in lanes are the trials that Optuna would run one after the other."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from training_problems import assert_near, backend_compiles, network, noisy_loss, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train import compilation, lanes

optuna.logging.set_verbosity(logging.WARNING)

BATCHES = jl.minibatches(regression(11), 4, remainder="wrap")
STEP = jl.make_step(noisy_loss, jl.adam(0.1))
SPACE = {"learning_rate": FloatDistribution(1e-4, 1.0, log=True), "b1": FloatDistribution(0.0, 0.95)}


def train(hp, key):
    step = STEP.replace(**hp)
    _, metrics = jl.make_scan(step, 6)(jl.init_state(network(), step.tx, key=key), BATCHES)
    return {"loss": metrics["loss"]}


def parabola(hp, key):
    loss = (hp["x"] - 2) ** 2 + hp["n"].astype(jnp.float32) + 0.1 * jax.random.normal(key)
    return {"loss": loss, "n": hp["n"]}


TOY = {"x": FloatDistribution(-8.0, 8.0), "n": IntDistribution(1, 5)}


def random_study(seed=0, **arguments):
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed), **arguments)


# ---------------------------------------------------------------------------------------------------------------------
# The numbers
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "how"), [(3, "map"), (4, "vmap"), (100, "shard")])
def test_trials_are_those_of_a_study_that_runs_one_after_the_other(batch, how):
    seeds = [3, 8]
    one = jax.jit(train)

    def objective(trial):
        hp = {
            "learning_rate": jnp.float32(trial.suggest_float("learning_rate", 1e-4, 1.0, log=True)),
            "b1": jnp.float32(trial.suggest_float("b1", 0.0, 0.95)),
        }
        return float(np.mean([one(hp, jax.random.key(seed))["loss"][-1] for seed in seeds]))

    sequential, together = random_study(), random_study()
    sequential.optimize(objective, n_trials=7)
    result = jl.optuna_sweep(together, train, SPACE, seeds, trials=7, batch=batch, how=how)
    assert [trial.params for trial in together.trials] == [trial.params for trial in sequential.trials]
    assert [trial.number for trial in together.trials] == list(range(7))
    assert all(trial.state == TrialState.COMPLETE for trial in together.trials)
    told = [trial.value for trial in together.trials]
    np.testing.assert_allclose(told, [trial.value for trial in sequential.trials], 1e-5)
    assert np.ptp(told) > 0.1
    assert together.best_params == sequential.best_params == result.best()
    assert result.points == [trial.params for trial in together.trials]
    assert result.seeds == seeds
    assert result.values["loss"].shape == (7, 2, 6)
    np.testing.assert_allclose(result.mean(), told, 1e-12)
    expected = jl.sweep(train, result.points, seeds, how="map")
    assert_near(result.values, jax.tree.map(np.asarray, expected.values), 1e-5)


def test_the_sampler_learns_from_what_it_is_told():
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
    result = jl.optuna_sweep(study, parabola, TOY, trials=60, batch=6)
    first, last = result.mean()[:12], result.mean()[-24:]
    assert np.median(last) < np.median(first) / 3
    assert abs(result.best()["x"] - 2) < 0.5
    assert result.best()["n"] == 1
    assert result.best() == study.best_params


def test_a_round_is_told_before_the_next_one_is_asked():
    seen = []

    class Watching(optuna.samplers.RandomSampler):
        def before_trial(self, study, trial):
            states = [other.state for other in study.get_trials(deepcopy=False)]
            seen.append((states.count(TrialState.COMPLETE), states.count(TrialState.RUNNING)))

    jl.optuna_sweep(optuna.create_study(sampler=Watching(seed=0)), parabola, TOY, trials=5, batch=2)
    assert seen == [(0, 1), (0, 2), (2, 1), (2, 2), (4, 1)]


def test_the_direction_is_that_of_the_study():
    study = random_study(direction="maximize")
    result = jl.optuna_sweep(study, parabola, TOY, trials=9, batch=4)
    assert study.best_params == result.best(mode="max")
    assert result.best(mode="max") != result.best()


def test_a_study_goes_on():
    """Trials of before stay, the result has those of the call, and queued trials come first."""
    study = random_study()
    jl.optuna_sweep(study, parabola, TOY, trials=3)
    study.enqueue_trial({"x": 2, "n": 1})
    result = jl.optuna_sweep(study, parabola, TOY, trials=4)
    assert len(study.trials) == 7
    assert result.points == [trial.params for trial in study.trials[3:]]
    assert result.points[0] == {"x": 2.0, "n": 1}
    assert type(result.points[0]["x"]) is float
    assert study.best_trial.number == 3


def test_several_objectives():
    study = random_study(directions=["minimize", "maximize"])
    result = jl.optuna_sweep(study, parabola, TOY, 2, trials=5, batch=3, metric=["loss", "n"])
    expected = np.stack([result.mean("loss"), result.mean("n")], axis=1)
    np.testing.assert_allclose([trial.values for trial in study.trials], expected, 1e-12)
    assert np.ptp(expected[:, 1]) > 0


def test_numbers_arrive_in_the_dtype_of_their_distribution():
    """Whatever the numbers of a round are: 1 of the choices 1 and 0.5 is a float."""
    dtypes = []

    def run(hp, key):
        dtypes.append({name: str(value.dtype) for name, value in hp.items()})
        return hp["x"] + hp["n"].astype(jnp.float32) + hp["c"] + hp["k"].astype(jnp.float32)

    space = {**TOY, "c": CategoricalDistribution([1, 0.5]), "k": CategoricalDistribution([16, 64])}
    result = jl.optuna_sweep(random_study(), run, space, trials=8, batch=1)
    assert dtypes == [{"x": "float32", "n": "int32", "c": "float32", "k": "int32"}]
    kinds = {name: {type(point[name]) for point in result.points} for name in space}
    assert kinds == {"x": {float}, "n": {int}, "c": {float}, "k": {int}}
    assert {point["c"] for point in result.points} == {0.5, 1.0}
    assert {point["k"] for point in result.points} == {16, 64}
    sums = [sum(point.values()) for point in result.points]
    np.testing.assert_allclose(result.values[:, 0], sums, 1e-6)


def test_keys_may_be_among_the_outputs():
    result = jl.optuna_sweep(
        random_study(), lambda hp, key: {"loss": hp["x"], "key": key}, {"x": TOY["x"]}, 2, trials=3, batch=2
    )
    words = jax.random.key_data(result.values["key"])
    expected = jax.random.key_data(jnp.stack([jax.random.key(0), jax.random.key(1)]))
    np.testing.assert_array_equal(words, np.broadcast_to(expected, (3, *expected.shape)))
    assert isinstance(result.values["loss"], np.ndarray)


# ---------------------------------------------------------------------------------------------------------------------
# Trials that fail
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_lanes_that_diverged_are_told_to_have_failed(bad):
    """One of the two seeds, for positive x."""

    def run(hp, key):
        return {"loss": jnp.where((hp["x"] > 0) & (jax.random.normal(key) > 0), bad, -hp["x"])}

    study = random_study()
    result = jl.optuna_sweep(study, run, {"x": TOY["x"]}, 2, trials=11, batch=4)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL if point["x"] > 0 else TrialState.COMPLETE for point in result.points]
    assert {*states} == {TrialState.FAIL, TrialState.COMPLETE}
    assert study.best_params == result.best()


def test_one_of_the_objectives_is_enough_to_fail():
    study = random_study(directions=["minimize", "minimize"])
    jl.optuna_sweep(
        study, lambda hp, key: {"a": hp["x"], "b": jnp.log(hp["x"])}, {"x": TOY["x"]}, trials=6, metric=["a", "b"]
    )
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL if t.params["x"] < 0 else TrialState.COMPLETE for t in study.trials]
    assert {*states} == {TrialState.FAIL, TrialState.COMPLETE}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_trials_of_a_round_that_raises_do_not_stay_open(monkeypatch, error):
    study, original, rounds = random_study(), lanes.run, []

    def run(*arguments):
        rounds.append(arguments)
        if len(rounds) == 2:
            raise error("the second round")
        return original(*arguments)

    monkeypatch.setattr(lanes, "run", run)
    with pytest.raises(error, match="the second round"):
        jl.optuna_sweep(study, parabola, TOY, trials=6, batch=2)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2 + [TrialState.FAIL] * 2


def test_an_error_while_asking_leaves_no_trial_open():
    class Broken(optuna.samplers.RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            if trial.number == 1 and name == "n":
                raise RuntimeError("no more")
            return super().sample_independent(study, trial, name, distribution)

    study = optuna.create_study(sampler=Broken(seed=0))
    with pytest.raises(RuntimeError, match="no more"):
        jl.optuna_sweep(study, parabola, TOY, trials=3)
    assert study.trials[0].state == TrialState.FAIL


# ---------------------------------------------------------------------------------------------------------------------
# Compilation
# ---------------------------------------------------------------------------------------------------------------------


def test_all_rounds_are_one_program():
    """The last one too, which has one trial of three."""
    traces = []

    def run(hp, key):
        traces.append(hp)
        return parabola(hp, key)

    study = random_study()
    with compilation.count() as compiled:
        result = jl.optuna_sweep(study, run, TOY, 2, trials=7, batch=3)
    assert compiled == ["run_lanes"]
    assert len(traces) == 1
    assert len(study.trials) == len(result.points) == result.values["loss"].shape[0] == 7
    with compilation.count() as compiled, backend_compiles() as events:
        jl.optuna_sweep(random_study(5), run, TOY, [4, 9], trials=5, batch=3)
    assert compiled == events == []
    assert len(traces) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------------------


def call(study=None, run=parabola, space=TOY, seeds=1, **arguments):
    study = random_study() if study is None else study
    try:
        jl.optuna_sweep(study, run, space, seeds, **{"trials": 2, **arguments})
    finally:
        assert not isinstance(study, optuna.Study) or not study.trials, "a wrong call asks for no trial"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"study": 3}, TypeError, "study must be an optuna.Study; got 3"),
        ({"run": 3}, TypeError, "run must be a function (hp, key) -> tree of arrays; got 3."),
        ({"space": [1.0]}, TypeError, "space must map names to distributions of Optuna; got [1.0]."),
        ({"space": {3: TOY["x"]}}, TypeError, "space must map names to distributions of Optuna"),
        ({"space": {}}, ValueError, "space is empty"),
        ({"space": {"x": [1.0, 2.0]}}, TypeError, "x must be a distribution of Optuna; got"),
        ({"space": {"x": IntDistribution(1, 2**31)}}, ValueError, "x has whole numbers above 2147483647."),
        ({"space": {"x": CategoricalDistribution([1, 2**31])}}, ValueError, "x has whole numbers above 2147483647."),
        (
            {"space": {"optimizer": CategoricalDistribution(["adam", "sgd"])}},
            TypeError,
            "optimizer has choices that are no numbers, ('adam', 'sgd'). All trials run in one program",
        ),
        ({"space": {"x": CategoricalDistribution([True, False])}}, TypeError, "x has choices that are no numbers"),
        ({"space": {"x": CategoricalDistribution([1.0, None])}}, TypeError, "x has choices that are no numbers"),
        ({"seeds": 0}, ValueError, "seeds must be at least 1; got 0."),
        ({"trials": 0}, ValueError, "trials must be at least 1; got 0."),
        ({"trials": 2.0}, TypeError, "trials must be a whole number; got 2.0"),
        ({"batch": 0}, ValueError, "batch must be at least 1; got 0."),
        ({"how": "pmap"}, ValueError, "how must be 'auto', 'vmap', 'map'"),
        ({"metric": "los"}, ValueError, "there is no metric 'los'. Did you mean 'loss'?"),
        ({"metric": ["loss", "n"]}, ValueError, "the study has 1 objectives, and metric names 2."),
        (
            {"space": {**TOY, "y": TOY["x"]}},
            ValueError,
            "run does not use hp['y']: all its values would be one.",
        ),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error) as raised:
        call(**arguments)
    assert str(raised.value).startswith("optuna_sweep: " + message)


def test_numbers_that_change_shapes_are_refused():
    """JAX's own error, with a note."""
    with pytest.raises(jax.errors.ConcretizationTypeError) as raised:
        call(run=lambda hp, key: jnp.sum(jnp.ones(int(hp["n"]))) * hp["x"])
    assert any("the training is traced" in note for note in raised.value.__notes__)


def test_several_objectives_need_several_metrics():
    with pytest.raises(ValueError, match="^optuna_sweep: the study has 2 objectives, and metric names 1."):
        call(random_study(directions=["minimize", "maximize"]))


def test_without_optuna(uninstalled):
    uninstalled("optuna")
    with pytest.raises(ImportError, match="^optuna_sweep needs optuna: pip install optuna"):
        jl.optuna_sweep(None, parabola, TOY, trials=1)
