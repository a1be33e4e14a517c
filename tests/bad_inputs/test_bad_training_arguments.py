"""Every argument of every function of training and inspection with every kind of value that it cannot be.

A call that works stands in the table for each of them; one argument at a time gets a number of the wrong kind, text, a
list, a bool, None or an object. What an argument takes is said in the table; all else must be refused by an error that
names the function and the argument and says what came, not by one from inside of JAX, NumPy or Python.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lessons as jl
from bad_inputs import bad_input

X = np.arange(8.0, dtype=np.float32)


def loss(w, x):
    return (w - x) ** 2


def bowl(w, x):
    return jnp.sum(w**2) + 0 * jnp.mean(x)


STEP = jl.make_step(loss, jl.sgd(0.25))
STATE = jl.init_state(0.0, STEP)
BATCHES = jl.minibatches(X, 2)
MESH = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
PARAMS = {"w": jnp.ones(2)}
EVERY = jl.Every(epochs=1)


def lane(point, key):
    return {"loss": point["rate"] ** 2}


def start(point, key):
    return jnp.float32(0)


def train(point, state, steps):
    return state, {"loss": point["rate"] ** 2}


WRONG: dict[str, Any] = {
    "nan": math.nan,
    "minus one": -1,
    "zero": 0,
    "one": 1,
    "half": 0.5,
    "text": "1e-3",
    "list": [1],
    "bool": True,
    "none": None,
    "object": object,
    "dict": {"a": "b"},
}
"""What comes, by name. What an argument takes of these is said in the table below, for each argument."""

WHOLE = "one"
FROM_0 = "zero one"
NUMBER = "minus one, zero one half"
WEIGHT = "zero one half"
SWITCH = "zero one bool"
PATH = "text"
ANY = "nan minus one zero one half text list bool none object dict"


@dataclass(frozen=True)
class Call:
    """A call that works.

    Attributes:
      function: what is called.
      arguments: all that it must have or that is tried.
      takes: for each argument that is tried, what it takes of ``WRONG``.
      error: what the message begins with, if it is not the name of the function.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    takes: Mapping[str, str]
    error: str = ""

    @property
    def owner(self) -> str:
        return self.error or self.function.__name__


CALLS = {
    "minibatches": Call(
        jl.minibatches,
        {"data": X, "batch_size": 2, "shuffle": True, "remainder": "keep", "on_host": False},
        {"data": "", "batch_size": WHOLE + " none", "shuffle": SWITCH, "remainder": "", "on_host": SWITCH + " none"},
    ),
    "make_step": Call(
        jl.make_step,
        {"loss_fn": loss, "tx": jl.sgd(0.25), "accumulate": 2, "metrics": (), "stateful": False, "policy": None},
        {
            "loss_fn": "object",
            "tx": "",
            "accumulate": WHOLE + " none",
            "metrics": "",
            "stateful": SWITCH,
            "policy": "none",
        },
    ),
    "init_state": Call(
        jl.init_state,
        {"params": 0.0, "tx": STEP, "key": 0, "model_state": None},
        {"tx": "", "key": FROM_0 + " minus one"},
    ),
    "make_scan": Call(
        jl.make_scan,
        {"step": STEP, "length": 2, "unroll": 1},
        {"step": "", "length": WHOLE, "unroll": WHOLE},
    ),
    "make_epoch": Call(
        jl.make_epoch, {"step": STEP, "batches": BATCHES, "unroll": 1}, {"batches": "", "unroll": WHOLE}
    ),
    "fit": Call(
        jl.fit,
        {"step": STEP, "state": STATE, "data": X, "epochs": 1, "batch_size": 4},
        {
            "step": "",
            "state": "",
            "data": "object",
            "batch_size": WHOLE + " none",
            "epochs": FROM_0 + " none",
            "chunk_steps": WHOLE + " none",
            "shuffle": SWITCH,
            "remainder": "",
            "observers": "",
            "plan": "none",
            "resume": SWITCH,
        },
    ),
    "fit steps": Call(jl.fit, {"step": STEP, "state": STATE, "data": X, "steps": 1}, {"steps": FROM_0 + " none"}),
    "fit val": Call(
        jl.fit,
        {"step": STEP, "state": STATE, "data": X, "steps": 1, "val": X, "val_batch_size": 4, "val_loss_fn": loss},
        {"val_batch_size": WHOLE + " none", "val_loss_fn": "none object"},
    ),
    "evaluate": Call(
        jl.evaluate,
        {"loss_fn": loss, "params": 0.0, "data": X, "batch_size": 2},
        {"loss_fn": "object", "data": "", "batch_size": WHOLE + " none", "policy": "none"},
    ),
    "lr_find": Call(
        jl.lr_find,
        {"step": STEP, "state": STATE, "batches": BATCHES, "low": 1e-3, "high": 1.0, "steps": 10},
        {"step": "", "state": "", "batches": "", "low": "half", "high": "one half", "steps": ""},
    ),
    "sweep": Call(
        jl.sweep,
        {"run": lane, "space": {"rate": [0.1, 0.2]}, "seeds": 1, "how": "vmap"},
        {"run": "object", "space": "dict", "seeds": WHOLE + " list", "how": WHOLE},
    ),
    "successive_halving": Call(
        jl.successive_halving,
        {"init": start, "train": train, "space": {"rate": [0.1, 0.2]}, "rungs": [1], "seeds": 1, "eta": 2},
        {
            "init": "object",
            "train": "object",
            "space": "dict",
            "rungs": "list",
            "eta": "",
            "seeds": WHOLE + " list",
            "metric": "none",
            "mode": "",
            "how": WHOLE,
        },
    ),
    "make_plan": Call(
        jl.make_plan,
        {"mesh": MESH, "zero": 0, "axis": "data", "min_size": 1},
        {"mesh": "", "zero": FROM_0, "axis": "none", "min_size": WHOLE},
    ),
    "with_ema": Call(jl.with_ema, {"step": STEP, "decay": 0.9}, {"step": "", "decay": "zero half"}),
    "with_guard": Call(jl.with_guard, {"step": STEP}, {"step": ""}),
    "with_plan": Call(
        jl.with_plan,
        {"step": STEP, "plan": jl.make_plan(MESH), "ragged": False},
        {"step": "", "plan": "", "ragged": SWITCH},
    ),
    "Policy": Call(
        jl.Policy,
        {"compute": "float16", "loss_scale": 2.0, "growth_interval": 5, "cast_batch": True},
        {"compute": "", "loss_scale": "one none", "growth_interval": WHOLE, "cast_batch": SWITCH},
    ),
    "Every": Call(
        jl.Every,
        {},
        {"steps": WHOLE, "epochs": WHOLE, "seconds": "one half"},
    ),
    "BestWeights": Call(jl.BestWeights, {}, {"monitor": PATH, "mode": "", "every": ""}),
    "EarlyStopping": Call(
        jl.EarlyStopping,
        {},
        {
            "monitor": PATH,
            "patience": WHOLE,
            "min_delta": WEIGHT,
            "mode": "",
            "every": "",
            "check_finite": SWITCH,
            "divergence": "none one half zero minus one",
        },
    ),
    "ReduceOnPlateau": Call(
        jl.ReduceOnPlateau,
        {},
        {
            "monitor": PATH,
            "factor": "half",
            "patience": WHOLE,
            "min_delta": WEIGHT,
            "cooldown": FROM_0,
            "min_scale": WEIGHT,
            "mode": "",
            "hyperparameter": PATH,
            "every": "",
        },
    ),
    "Rollback": Call(
        jl.Rollback,
        {},
        {"monitor": PATH, "factor": "", "window": WHOLE, "every": "", "most": WHOLE},
    ),
    "Checkpoint": Call(jl.Checkpoint, {"directory": "a"}, {"directory": PATH, "every": "", "keep": WHOLE + " none"}),
    "CSV": Call(jl.CSV, {"path": "a"}, {"path": PATH, "every": ""}),
    "TensorBoard": Call(jl.TensorBoard, {"logdir": "a"}, {"logdir": PATH, "every": ""}),
    "Profile": Call(jl.Profile, {"logdir": "a"}, {"logdir": PATH, "steps": ""}),
    "Lambda": Call(jl.Lambda, {"function": print}, {"function": "object", "every": "", "needs_state": SWITCH}),
    "save": Call(
        jl.save,
        {"directory": "a", "tree": PARAMS},
        {"directory": PATH, "step": FROM_0 + " none", "keep": WHOLE + " none"},
    ),
    "restore": Call(jl.restore, {"directory": "a", "like": PARAMS}, {"directory": PATH, "step": FROM_0 + " one none"}),
    "latest_step": Call(jl.latest_step, {"directory": "a"}, {"directory": PATH}),
    "Stream": Call(jl.Stream, {"data": [X]}, {"data": "list"}),
    "grid": Call(
        lambda **a: jl.grid(a.pop("factory"), **a),
        {"factory": jl.sgd, "learning_rate": [0.1]},
        {"factory": "object"},
        "grid",
    ),
    "hyperparams": Call(jl.hyperparams, {"tx": jl.sgd(0.1), "state": ()}, {"tx": ""}),
    "set_hyperparams": Call(
        jl.set_hyperparams, {"tx": jl.sgd(0.1), "changes": {"learning_rate": 0.2}}, {"tx": "", "changes": "dict"}
    ),
    "state_dict": Call(jl.state_dict, {"tx": jl.sgd(0.1), "state": ()}, {"tx": ""}),
    "load_state_dict": Call(
        jl.load_state_dict,
        {"tx": jl.sgd(0.1), "params": PARAMS, "state": {}},
        {"tx": "", "state": "dict", "cast": SWITCH},
    ),
    "convert_state": Call(
        jl.convert_state, {"tx": jl.sgd(0.1), "params": PARAMS, "state": ()}, {"tx": "", "count": FROM_0 + " none"}
    ),
    "eval_params": Call(jl.eval_params, {"tx": jl.sgd(0.1), "state": (), "params": PARAMS}, {"tx": ""}),
    "group_labels": Call(jl.group_labels, {"tx": jl.sgd(0.1), "params": PARAMS}, {"tx": ""}),
    "with_extra_args_support": Call(jl.with_extra_args_support, {"tx": jl.sgd(0.1)}, {"tx": ""}),
    "measure_with_ema": Call(
        jl.measure_with_ema, {"measure": jl.global_norm, "decay": 0.5}, {"measure": "object", "decay": "zero half"}
    ),
    "linear_batch_scaling": Call(
        jl.linear_batch_scaling,
        {"learning_rate": 0.1, "batch_size": 8, "reference_batch_size": 4},
        {"learning_rate": WEIGHT, "batch_size": WHOLE, "reference_batch_size": WHOLE},
    ),
    "sqrt_batch_scaling": Call(
        jl.sqrt_batch_scaling,
        {"learning_rate": 0.1, "batch_size": 8, "reference_batch_size": 4},
        {"learning_rate": WEIGHT, "batch_size": WHOLE, "reference_batch_size": WHOLE},
    ),
    "fraction_of": Call(jl.fraction_of, {"total": 8}, {"total": WHOLE}),
    "explain": Call(
        jl.explain,
        {"tx": jl.sgd(0.1), "params": PARAMS},
        {"tx": "", "steps": WHOLE + " none", "every_leaf": SWITCH},
    ),
    "plot": Call(
        jl.plot,
        {"thing": jl.linear_to_zero(0.1, 5), "steps": 5},
        {
            "thing": "",
            "steps": "one none",
            "ax": "none",
            "log": SWITCH,
            "steps_per_epoch": "one none",
            "quantity": PATH,
            "constants": SWITCH,
        },
    ),
    "trajectory": Call(
        jl.inspect.trajectory,
        {"step": STEP, "state": STATE, "data": X, "steps": 2, "batch_size": 4},
        {
            "step": "",
            "state": "",
            "data": "",
            "steps": "one",
            "batch_size": WHOLE + " none",
            "shuffle": SWITCH,
            "remainder": "",
            "every": WHOLE,
            "opt_state": SWITCH,
            "limit": WHOLE,
        },
    ),
    "landscape": Call(
        jl.inspect.landscape,
        {"loss_fn": bowl, "params": PARAMS["w"], "data": X, "resolution": 3},
        {
            "loss_fn": "object",
            "data": "none",
            "directions": "none",
            "through": "none",
            "extent": "none one half",
            "resolution": "",
            "batch_size": WHOLE + " none",
            "key": FROM_0 + " minus one",
            "policy": "none",
        },
    ),
    "curvature": Call(
        jl.inspect.curvature,
        {"loss_fn": bowl, "params": PARAMS["w"], "data": X, "steps": 2, "probes": 2},
        {
            "loss_fn": "object",
            "data": "none",
            "batch_size": WHOLE + " none",
            "key": FROM_0 + " minus one",
            "steps": "",
            "probes": "",
            "tolerance": "none zero one half",
            "policy": "none",
        },
    ),
    "noise_scale": Call(
        jl.inspect.noise_scale,
        {"loss_fn": bowl, "params": PARAMS["w"], "data": X},
        {
            "loss_fn": "object",
            "data": "",
            "batch_size": WHOLE + " none",
            "group": WHOLE,
            "key": FROM_0 + " minus one",
            "policy": "none",
        },
    ),
    "check_optimizer": Call(
        jl.testing.check_optimizer,
        {"tx": jl.sgd(0.1)},
        {"tx": "", "extra": "none dict object", "except_": "none"},
    ),
}
"""A call of each function."""


NOT_TRIED = {
    "agree": "takes what bool() takes, on every process",
    "is_main": "has no arguments",
    "apply_updates": "takes two trees: tests/test_tree.py",
    "init_empty_state": "its argument does not matter",
    "global_norm": "takes a tree",
    "scale_gradient": "takes an array, and a number that is checked as a hyperparameter: tests/test_elementwise.py",
    "gradient_transformation": "takes a function: tests/test_value.py",
    "schedule": "takes a function: tests/schedules",
    "skip_large_updates": "is called by MultiSteps",
    "skip_not_finite": "is called by MultiSteps",
    "incremental_update": "takes trees: tests/wrappers",
    "periodic_update": "takes trees: tests/wrappers",
    "per_example_global_norm_clip": "takes trees: tests/test_noise.py",
    "per_example_layer_norm_clip": "takes trees: tests/test_noise.py",
    "equinox_loss": "takes a module: tests/test_interop.py",
    "nnx_loss": "takes a module: tests/test_interop.py",
    "optuna_sweep": "takes a study of optuna: tests/train/test_optuna.py",
    "Observer": "is derived from",
}
"""Public functions that are not in the table, and why."""


def public_functions() -> set[str]:
    """The functions and observers of the library, without factories of transformations and schedules."""
    found = set()
    for module in (jl, jl.inspect, jl.testing):
        for name, thing in vars(module).items():
            kind = getattr(getattr(thing, "_specification", None), "kind", None)
            is_factory = kind in (jl.Schedule, jl.GradientTransformation) or "MultiSteps" in name
            is_public = not name.startswith("_") and getattr(thing, "__module__", "").startswith("jaxopt_lessons")
            is_observer = isinstance(thing, type) and issubclass(thing, jl.Observer)
            if is_public and not is_factory and (inspect.isfunction(thing) or is_observer):
                found.add(name)
    return found


def test_every_public_function_is_tried():
    tried_too = {name.split()[0] for name in CALLS} & public_functions()
    assert public_functions() - tried_too == set(NOT_TRIED)


@pytest.mark.parametrize("name", CALLS)
def test_every_argument_of_a_call_exists(name):
    call = CALLS[name]
    if name != "grid":
        inspect.signature(call.function).bind_partial(
            **call.arguments, **dict.fromkeys(call.takes.keys() - call.arguments.keys())
        )


def tried() -> list[tuple[str, str, str]]:
    return [
        (name, argument, kind)
        for name, call in CALLS.items()
        for argument, takes in call.takes.items()
        for kind in WRONG
        if kind not in takes.replace("minus one", "minus-one").split() and not (kind == "minus one" and kind in takes)
    ]


OF_INPUT = {"nan": [2], "text": [3], "list": [3], "bool": [16]}


@pytest.mark.parametrize(
    ("name", "argument", "kind"),
    [
        pytest.param(
            name,
            argument,
            kind,
            id=f"{name}-{argument}-{kind}",
            marks=[bad_input(*OF_INPUT[kind])] if kind in OF_INPUT else [],
        )
        for name, argument, kind in tried()
    ],
)
def test_wrong_arguments_are_refused_by_name(name, argument, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = CALLS[name]
    with pytest.raises((Exception,)) as caught:
        call.function(**{**call.arguments, argument: WRONG[kind]})
    text = str(caught.value)
    assert type(caught.value) in (TypeError, ValueError, jl.InputError), f"{type(caught.value).__name__}: {text}"
    # ``fit`` and its like hand data and the size of batches on to ``minibatches``.
    owners = [call.owner, "data"] if argument == "data" else [call.owner]
    owners += ["minibatches"] if argument in ("batch_size", "shuffle", "remainder") else []
    owners += [f"grid of {name}" for name in ("sgd", "object")]
    assert any(text.startswith(f"{owner}: ") for owner in owners), text
    assert argument in text, text
    assert "got " in text or argument in ("data", "metrics", "metric", "except_"), text


RUNS = {
    "fit": lambda step: jl.fit(step, STATE, X, epochs=1),
    "trajectory": lambda step: jl.inspect.trajectory(step, STATE, X, 2),
}


# -- arguments that have changed places, and others of the wrong kind -------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jl.make_step(jl.sgd(0.1), loss), r"make_step: loss_fn must be a function \(params, batch\) -> loss"),
        (
            lambda: jl.make_step(STEP, jl.sgd(0.1)),
            r"make_step: loss_fn .* a step already\. Its loss .* step\.loss_fn\.$",
        ),
        (lambda: jl.init_state(jl.sgd(0.1), PARAMS), "init_state: tx must be a gradient transformation"),
        (lambda: jl.fit(STATE, STEP, X, epochs=1), "fit: step must be a step, made by make_step"),
        (lambda: jl.fit(STEP, X, STATE, epochs=1), "fit: state must be made by init_state"),
        (lambda: jl.evaluate(0.0, loss, X), r"evaluate: loss_fn must be a function \(params, batch\) -> loss"),
        (lambda: jl.lr_find(STATE, STEP, BATCHES), "lr_find: step must be made by make_step"),
        (lambda: jl.lr_find(STEP, BATCHES, STATE), "lr_find: state must be made by init_state"),
        (lambda: jl.make_scan(3, STEP), "make_scan: step must be a step, made by make_step"),
        (lambda: jl.make_epoch(BATCHES, STEP), "make_epoch: step must be a step, made by make_step"),
        (lambda: jl.make_scan(STEP, 2)(BATCHES, STATE), "make_scan: state must be made by init_state"),
        (lambda: jl.make_scan(STEP, 2)(STATE, X), "make_scan: batches must be made by minibatches"),
        (lambda: jl.make_epoch(STEP, BATCHES)(X), "make_epoch: state must be made by init_state"),
        (lambda: jl.sweep({"rate": [0.1]}, lane), "sweep: "),
        (lambda: jl.with_plan(jl.make_plan(MESH), STEP), "with_plan: step must be a step, made by make_step"),
        (lambda: jl.hyperparams((), jl.sgd(0.1)), "hyperparams: tx must be a gradient transformation"),
        (lambda: jl.save(PARAMS, "a"), "save: directory must be a path; got {"),
        (lambda: jl.inspect.trajectory(STATE, STEP, X), "trajectory: step must be a step, made by make_step"),
        (lambda: jl.inspect.landscape(0.0, loss, X), "landscape: loss_fn must be a function"),
        (lambda: jl.explain(PARAMS, jl.sgd(0.1)), "explain: tx must be a gradient transformation"),
        (lambda: jl.Every(), "Every: say one of steps, epochs and seconds; got none"),
        (lambda: jl.Every(steps=1, epochs=1), "Every: say one of steps, epochs and seconds; got steps and epochs"),
        (lambda: jl.fit(STEP, STATE, X), r"fit: say either epochs=\.\.\. or steps=\.\.\., and not both"),
        (lambda: jl.fit(STEP, STATE, X, epochs=1, steps=1), r"fit: say either epochs=\.\.\. or steps=\.\.\."),
    ],
)
def test_arguments_that_have_changed_places_are_named(call, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        call()


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (
            lambda state: state,
            TypeError,
            r"step must be a function \(state, batch\) -> .*, whose arguments are \(state\)",
        ),
        (lambda a, b, c, d: a, TypeError, r"step must be .*, whose arguments are \(a, b, c, d\)"),
        (
            lambda state, batch: None,
            jl.InputError,
            r"the step <lambda> must return \(state, dict of metrics\); got NoneType",
        ),
        (lambda state, batch: state.params, jl.InputError, r"must return \(state, dict of metrics\); got \w*Tracer"),
        (
            lambda state, batch: (state, 1.0),
            jl.InputError,
            r"must return .*; got TrainState, float\. A loss function is",
        ),
        (lambda state, batch: (state, {}, 1), jl.InputError, r"must return .*; got TrainState, dict, int\. A loss"),
    ],
)
@pytest.mark.parametrize("run", RUNS)
def test_functions_that_are_no_step_are_named(run, function, error, message):
    with pytest.raises(error, match=message):
        RUNS[run](function)


@pytest.mark.parametrize("run", RUNS)
def test_a_loss_function_in_the_place_of_a_step_gets_a_note(run):
    with pytest.raises(TypeError, match="unsupported operand") as caught:
        RUNS[run](loss)
    assert caught.value.__notes__[0] == (
        "It came from a function that was given as a step and called as step(state, batch). A loss function is made a "
        "step by make_step(loss_fn, tx)."
    )


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda w, x: jnp.sum(x > w), "int32"),
        (lambda w, x: x > w, "bool"),
        (lambda w, x: (jnp.sum(x > w), {"mean": w}), "int32"),
        (lambda w, x: jl.Weighted(jnp.sum(x > w), jnp.float32(8)), "int32"),
    ],
)
@pytest.mark.parametrize("accumulate", [None, 2])
def test_a_loss_without_a_derivative_is_refused(function, kind, accumulate):
    step = jl.make_step(function, jl.sgd(0.1), accumulate=accumulate)
    with pytest.raises(jl.InputError, match=f"the loss must be floating point to have a derivative; got {kind}\\."):
        step(jl.init_state(0.0, step), X)
    assert jl.evaluate(function, 3.5, X)["loss"] > 0, "it may be measured"


def test_float64_without_x64_is_refused():
    message = "^Policy: compute cannot be float64 while JAX calculates in float32; switch x64 on first"
    for make in (lambda: jl.Policy("float64"), lambda: jl.make_step(loss, jl.sgd(0.1), policy="float64")):
        with pytest.raises(ValueError, match=message):
            make()
    with jax.enable_x64(True):
        assert jl.Policy("float64").compute == np.float64


@pytest.mark.parametrize("mode", ["ranking", "best", "table"])
def test_the_good_end_of_what_is_no_loss_must_be_said(mode):
    def run(point, key):
        return {"accuracy": point["rate"]}

    found = jl.sweep(run, {"rate": [0.1, 0.9, 0.5]})
    message = f"^{mode}: is the best 'accuracy' the smallest or the largest\\? Say mode='min' or mode='max'\\.$"
    with pytest.raises(ValueError, match=message):
        getattr(found, mode)()
    with pytest.raises(ValueError, match=message):
        getattr(found, mode)("accuracy")
    assert float(found.best(mode="max")["rate"]) == pytest.approx(0.9)
    assert float(found.best(mode="min")["rate"]) == pytest.approx(0.1)
    losses = jl.sweep(lane, {"rate": [0.9, 0.1]})
    assert float(losses.best()["rate"]) == pytest.approx(0.1)


@pytest.mark.parametrize("bad", [3, "ax", None, [1]], ids=str)
def test_axes_that_are_none_are_refused(bad):
    figures = {
        "sweep": jl.sweep(lane, {"rate": [0.1, 0.2]}).plot,
        "lr_find": jl.LearningRates(np.array([0.1, 1.0]), np.array([2.0, 1.0]), np.array([2.0, 1.0])).plot,
        "schedule": lambda ax: jl.plot(jl.linear_to_zero(0.1, 5), ax=ax),
    }
    for plot in figures.values():
        if bad is None:
            assert plot(ax=bad) is not None
        else:
            with pytest.raises(TypeError, match=r"^plot: ax must be the axes of a matplotlib figure; got .* of type "):
                plot(ax=bad)


def test_a_plateau_of_a_pair_of_functions_says_what_to_write():
    inner = jl.sgd(0.1)
    step = jl.make_step(loss, jl.GradientTransformation(inner.init, inner.update))
    message = "^ReduceOnPlateau: the optimizer is a pair of functions, in which no learning_rate can be replaced"
    with pytest.raises(TypeError, match=message):
        jl.fit(step, jl.init_state(0.0, step), X, epochs=1, observers=[jl.ReduceOnPlateau("loss")])
    step = jl.make_step(loss, jl.chain((inner.init, lambda u, s, p=None, **e: (u, s)), jl.scale_by_learning_rate(0.1)))
    jl.fit(step, jl.init_state(0.0, step), X, epochs=1, observers=[jl.ReduceOnPlateau("loss")])
