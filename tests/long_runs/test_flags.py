"""JAX's strict settings, each alone and all at once: NaNs raise, nothing is transferred or promoted unasked, x64 is on.

The suite promotes neither dtypes nor ranks anywhere (``conftest``); here the other settings come on top. The guard
stands around compiled updates, and around each chunk of ``fit``, whose host part brings data to the device. NaN
is looked for in legal runs only. Not here is ``jax_debug_infs``: the best loss of nothing is infinite, as it should be.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from cases import CONTRACT
from schedule_rows import ROWS
from training_problems import example_loss, network, noisy_loss, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train.programs import Compiled

SETTINGS = {
    "debug_nans": lambda: jax.debug_nans(True),
    "enable_x64": lambda: jax.enable_x64(True),
    "transfer_guard": lambda: jax.transfer_guard("disallow"),
    "checking_leaks": jax.checking_leaks,
    "disable_jit": jax.disable_jit,
}
TOGETHER = ["debug_nans", "enable_x64", "transfer_guard", "checking_leaks"]
"""Without compilation there is nothing to be guarded: each operation brings its constants to the device."""

ALONE = [pytest.param([name], id=name, marks=pytest.mark.long) for name in SETTINGS]
all_settings = pytest.mark.parametrize("settings", [pytest.param(TOGETHER, id="together"), *ALONE])


@contextlib.contextmanager
def under(settings):
    with contextlib.ExitStack() as stack:
        for name in settings:
            stack.enter_context(SETTINGS[name]())
        yield


def tree_of(seed):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jax.device_put(rng.standard_normal(shape).astype(np.float32))
    return {"w": draw(3, 2), "b": draw(2)}


@bad_input(53)
@all_settings
@pytest.mark.parametrize("case", CONTRACT, ids=lambda case: case.name)
def test_an_update_of_every_row(case, settings):
    tx, params, grads = case.make(), tree_of(0), tree_of(1)
    update = jax.jit(case.update(tx))
    state = tx.init(params)
    with under(settings):
        for _ in range(2):
            updates, state = update(grads, state, params)
    for leaf, of_params in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True):
        assert leaf.dtype == of_params.dtype
        assert np.isfinite(leaf).all()


@all_settings
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_every_schedule(row, settings):
    schedule = getattr(jl, row.name)(**row.arguments)
    counts = jax.device_put(np.array([0, 1, 5, 100, 2**31 - 1], np.int32))
    with under(settings):
        values = jax.jit(jax.vmap(schedule))(counts)
    assert np.isfinite(values).all()


DATA = regression(24)


def stream(epoch):
    return (tuple(x[i : i + 8] for x in DATA) for i in (0, 8, 16))


def step_of(**options):
    return jl.make_step(noisy_loss, jl.adam(jl.cosine_decay_schedule(0.05, 20)), **options)


RUNS = {
    "plain": lambda: (step_of(), DATA, {"batch_size": 8}),
    "batches of two sizes": lambda: (step_of(), DATA, {"batch_size": 10}),
    "padded": lambda: (jl.make_step(example_loss, jl.sgd(0.1)), DATA, {"batch_size": 10, "remainder": "pad"}),
    "wrapped": lambda: (step_of(), DATA, {"batch_size": 10, "remainder": "wrap"}),
    "on the host": lambda: (step_of(), jl.minibatches(DATA, 8, on_host=True), {}),
    "stream": lambda: (step_of(), stream, {}),
    "accumulate": lambda: (step_of(accumulate=2), DATA, {"batch_size": 8}),
    "norms": lambda: (step_of(metrics=["gradient_norm", "update_ratio"]), DATA, {"batch_size": 8}),
    "ema": lambda: (jl.with_ema(step_of(), 0.9), DATA, {"batch_size": 8, "val": DATA}),
    "guard": lambda: (jl.with_guard(step_of()), DATA, {"batch_size": 8}),
    "policy": lambda: (jl.make_step(example_loss, jl.sgd(0.1), policy="bfloat16"), DATA, {"batch_size": 8}),
    "observers": lambda: (
        step_of(),
        DATA,
        {"batch_size": 8, "val": DATA, "observers": [jl.BestWeights(), jl.EarlyStopping(), jl.Rollback()]},
    ),
    "step by step": lambda: (step_of(), DATA, {"batch_size": 8, "loop": "steps"}),
    "plan": lambda: (step_of(), DATA, {"batch_size": 8, "plan": jl.make_plan(jax.make_mesh((8,), ("data",)))}),
}


def guarded(run):
    """A chunk of ``fit`` that may transfer nothing but the hyperparameters it is called with, which are on the host."""

    def run_guarded(compiled, *arguments):
        compiled._leaves = jax.device_put(compiled._leaves)
        with jax.transfer_guard_host_to_device("disallow"), jax.transfer_guard_device_to_host("disallow"):
            return run(compiled, *arguments)

    return run_guarded


@all_settings
@pytest.mark.parametrize("run", RUNS)
def test_fit(run, settings, monkeypatch):
    step, data, options = RUNS[run]()
    state = jl.init_state(network(), step)
    if "transfer_guard" in settings:
        for name in ("run_in_memory", "run_given"):
            monkeypatch.setattr(Compiled, name, guarded(getattr(Compiled, name)))
    with under([name for name in settings if name != "transfer_guard"]):
        out = jl.fit(step, state, data, epochs=2, progress=False, **options)
    assert np.isfinite(out.history["loss"]).all()
    assert {leaf.dtype for leaf in jax.tree.leaves(out.state.params)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", ["debug_nans", "enable_x64", "transfer_guard", "checking_leaks"])
def test_the_settings_are_on(name):
    """The control: what each of them is there to refuse or to change."""
    leaked = []

    @jax.jit
    def leaks(x):
        leaked.append(x)
        return 2 * x

    with under([name]):
        if name == "debug_nans":
            with pytest.raises(FloatingPointError):
                jax.jit(lambda x: jnp.log(x))(jnp.float32(-1))
        elif name == "enable_x64":
            assert jnp.asarray(1.0).dtype == np.float64
        elif name == "transfer_guard":
            with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
                jax.jit(lambda x: 2 * x)(np.ones(3, np.float32))
        else:
            with pytest.raises(Exception, match="Leaked"):
                leaks(jnp.float32(1))
