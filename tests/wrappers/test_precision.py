"""Half-precision parameters that lose nothing: master weights, split master weights, Kahan, stochastic rounding."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bad_inputs import bad_input
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxopt_lessons as jl

WEIGHTS = ["master", "split", "split8", "kahan", "stochastic"]
HALF = [jnp.bfloat16, jnp.float16]
every_kind = pytest.mark.parametrize("weights", WEIGHTS)
every_dtype = pytest.mark.parametrize("dtype", HALF, ids=lambda dtype: dtype.__name__)


def policy(weights, inner, **others):
    return jl.with_precision(inner, weights=weights, **others)


def run(tx, params, grads):
    """The parameters at the end; and in float32, at each step, the parameters and those to evaluate.

    Stacks of half precision would be slow: XLA converts the whole of them at each step on a CPU.
    """

    def body(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        params = jl.apply_updates(params, updates)
        return (params, state), jl.tree.widen((params, jl.eval_params(tx, state, params)))

    (params, _), seen = jax.jit(lambda p, g: jax.lax.scan(body, (p, tx.init(p)), g))(params, grads)
    return params, *seen


def wide(x):
    return np.asarray(x, np.float64)


def constant(value, steps, shape):
    return jnp.full((steps, *shape), value, jnp.float32)


# -- the point of it --------------------------------------------------------------------------------------------------


@every_dtype
@every_kind
def test_adam_goes_from_one_to_minus_one_in_two_thousand_steps(weights, dtype):
    """The mean of a thousand weights: rounded at random, a single one may be 0.06 off at the end."""
    end, _, _ = run(policy(weights, jl.adam(1e-3)), jnp.ones(1000, dtype), constant(1.0, 2000, (1000,)))
    assert end.dtype == dtype
    assert wide(end).mean() == pytest.approx(-1.0, rel=0.02)
    assert wide(end).std() < 0.08
    if weights != "stochastic":
        np.testing.assert_allclose(wide(end), -1.0, rtol=0.02)


def test_bfloat16_alone_never_leaves_one():
    end, _, _ = run(jl.adam(1e-3), jnp.ones(3, jnp.bfloat16), constant(1.0, 2000, (3,)))
    np.testing.assert_array_equal(wide(end), 1.0)


@bad_input(42)
@every_dtype
@every_kind
def test_tiny_steps_add_up(weights, dtype):
    """4,000 steps of 1e-6, down from weights between 1 and 2; of 3e-5 for Kahan, whose memory is shorter."""
    start = jnp.linspace(1, 2, 1001)[:-1].astype(dtype)
    grads = constant(2.0**-15 if weights == "kahan" else 2.0**-20, 4000, (1000,))
    _, _, evaluated = run(policy(weights, jl.sgd(1.0)), start, grads)
    moved = wide(evaluated[-1]) - wide(start)
    assert moved.mean() == pytest.approx(-4000 * float(grads[0, 0]), rel=0.2 if weights == "stochastic" else 0.05)
    control, _, _ = run(jl.sgd(1.0), start, grads)
    np.testing.assert_array_equal(wide(control), wide(start))


@pytest.mark.parametrize("weights", ["split", "stochastic"])
def test_a_model_in_bfloat16_learns_as_in_float32(weights):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((400, 8)), jnp.float32)
    y = (x @ jnp.asarray(rng.standard_normal(8), jnp.float32) > 0).astype(jnp.float32)

    def loss(params, batch):
        x, y = batch
        return jl.losses.sigmoid_binary_cross_entropy(x @ params.astype(jnp.float32), y)

    def final(tx, dtype):
        params = jnp.full(8, 0.5, dtype)
        step = jl.make_step(loss, tx)
        out = jl.fit(step, jl.init_state(params, tx), (x, y), steps=800, batch_size=40, progress=False)
        return float(jnp.mean(loss(out.state.params, (x, y))))

    tx = jl.adamw(5e-4, weight_decay=0.0)
    expected, plain = final(tx, jnp.float32), final(tx, jnp.bfloat16)
    assert plain > expected + 0.2
    assert final(policy(weights, tx, moments=jnp.bfloat16), jnp.bfloat16) == pytest.approx(expected, abs=0.02)


# -- where the parameters land ----------------------------------------------------------------------------------------


def rounded(x, dtype):
    return np.asarray(jnp.asarray(x).astype(dtype), np.float32)


@every_dtype
@pytest.mark.parametrize("weights", ["master", "split", "split8", "kahan"])
def test_parameters_are_the_rounded_weights(weights, dtype):
    """Also across the binades and through zero, as long as a step does not more than halve a weight."""
    rng = np.random.default_rng(0)
    start = jnp.asarray(rng.choice([-1, 1], 500) * np.exp(rng.uniform(-6, 6, 500)), dtype)
    # A random walk of the logarithm.
    grads = jnp.asarray(rng.uniform(-0.3, 0.3, (200, 500)), jnp.float32)

    def init(params):
        return jl.EmptyState()

    def update(updates, state, params):
        return jax.tree.map(lambda g, p: g * p, updates, params), state

    _, params, evaluated = run(policy(weights, jl.GradientTransformation(init, update)), start, grads)
    params, evaluated = np.asarray(params, np.float32), np.asarray(evaluated, np.float32)
    unit = np.maximum(np.abs(params) * float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).smallest_subnormal))
    assert np.all(np.abs(params - evaluated) <= 0.5 * unit * (1.01 if weights in ("split8", "kahan") else 1))
    if weights == "master":
        np.testing.assert_array_equal(params, rounded(evaluated, dtype))


@every_dtype
def test_split_master_weights_are_master_weights(dtype):
    """Bit for bit, weights and parameters, but for ties; float16 from 6e-5 up."""
    rng = np.random.default_rng(1)
    start = jnp.asarray(rng.uniform(1, 2, 500), dtype)
    for scale in (1e-2, 1e-4, 1e-6):
        grads = jnp.asarray(scale * rng.standard_normal((500, 500)), jnp.float32)
        _, params, evaluated = run(policy("split", jl.sgd(1.0)), start, grads)
        _, expected_params, expected = run(policy("master", jl.sgd(1.0)), start, grads)
        np.testing.assert_array_equal(evaluated, expected)
        different = np.asarray(params) != np.asarray(expected_params)
        assert np.mean(different) < 1e-3
        ties = np.abs(wide(expected) - wide(params)) == np.abs(wide(expected) - wide(expected_params))
        assert np.all(ties[different])


@every_dtype
def test_the_master_is_the_float32_run_whatever_happens(dtype):
    """Steps that turn signs and halve weights do not all land; the next one makes them good."""
    rng = np.random.default_rng(2)
    start = jnp.asarray(rng.standard_normal(300), dtype)
    grads = jnp.asarray(rng.standard_normal((400, 300)), jnp.float32)
    _, params, evaluated = run(policy("master", jl.sgd(1.0)), start, grads)
    _, _, expected = run(jl.sgd(1.0), start.astype(jnp.float32), grads)
    np.testing.assert_array_equal(evaluated, expected)
    # Three roundings, of the master, of the step and of where it lands, by half a unit each at most.
    steps = np.abs(np.diff(np.asarray(params, np.float64), axis=0))
    unit = np.maximum(steps, np.abs(wide(params[1:]))) * float(jnp.finfo(dtype).eps)
    assert np.all(np.abs(wide(params[1:]) - wide(expected[1:])) <= 1.51 * unit)
    missed = np.asarray(params[1:], np.float32) != rounded(expected[1:], dtype)
    assert 0.01 < missed.mean() < 0.5, "the test meets steps that miss"


@every_dtype
@every_kind
def test_missed_landings_do_not_accumulate(weights, dtype):
    """To and fro between 1 and 0, each time a little less: the drift is a hundredth of what bfloat16 resolves in 1."""
    rng = np.random.default_rng(3)
    start = jnp.asarray(rng.uniform(0.9, 1.0, 500), dtype)
    grads = jnp.tile(jnp.array([0.999, -0.9985]), 1000)[:, None] * jnp.ones((1, 500))
    _, _, evaluated = run(policy(weights, jl.sgd(1.0)), start, grads)
    errors = wide(evaluated) - (wide(start) - np.cumsum(wide(grads), axis=0))
    bounds = {"master": 1e-5, "kahan": 1e-3, "split": 0.15, "split8": 0.15, "stochastic": 0.15}
    # One step in a hundred thousand in a row in one direction would be 1; that many random ones stay below this.
    scale = 1 if dtype == jnp.bfloat16 else 1 / 8
    assert np.abs(errors[-1].mean()) <= max(bounds[weights] * scale, 1e-4) / (5 if weights == "stochastic" else 1)


@every_dtype
@pytest.mark.parametrize("weights", ["split", "split8", "stochastic"])
def test_random_landings_are_right_on_average(weights, dtype):
    """Weights that turn their signs for ever: the errors are a random walk of half units, without a drift."""
    rng = np.random.default_rng(4)
    targets = rng.standard_normal((2001, 400))
    grads = jnp.asarray(targets[:-1] - targets[1:], jnp.float32)
    start = jnp.asarray(targets[0], dtype)
    _, _, evaluated = run(policy(weights, jl.sgd(1.0)), start, grads)
    errors = wide(evaluated) - (wide(start) - np.cumsum(wide(grads), axis=0))
    unit = float(jnp.finfo(dtype).eps)
    assert errors[-1].std() < unit * np.sqrt(2000)
    assert abs(errors[-1].mean()) < 4 * errors[-1].std() / np.sqrt(400)


@every_kind
def test_zero_updates_move_nothing(weights):
    params = jnp.asarray(np.random.default_rng(5).standard_normal(100), jnp.bfloat16)
    end, _, evaluated = run(policy(weights, jl.adam(0.1)), params, constant(0.0, 5, (100,)))
    np.testing.assert_array_equal(wide(end), wide(params))
    np.testing.assert_array_equal(wide(evaluated[-1]), wide(params))


@bad_input(39, 40)
@every_kind
def test_what_is_not_finite_is_seen(weights):
    tx = policy(weights, jl.sgd(0.1))
    params = jnp.ones(3, jnp.bfloat16)
    for bad in (np.nan, np.inf):
        updates, _ = tx.update(jnp.array([bad, 10.0, 20.0], jnp.bfloat16), tx.init(params), params)
        assert not np.isfinite(wide(updates)[0])
        assert np.all(wide(jl.apply_updates(params, updates))[1:] == [0, -1])


# -- what passes through ----------------------------------------------------------------------------------------------


@every_kind
def test_other_leaves_pass_through(weights):
    rng = np.random.default_rng(6)
    inner = jl.adamw(0.1, weight_decay=0.1)
    with jax.enable_x64(True):
        params = {
            "f32": jnp.asarray(rng.standard_normal(3), jnp.float32),
            "f64": jnp.asarray(rng.standard_normal(3), jnp.float64),
            "c64": jnp.asarray(rng.standard_normal(3) + 1j, jnp.complex64),
            "n": jnp.arange(3),
            "f": jax.nn.relu,
        }
        grads = {key: 2 * params[key] if key in ("f32", "f64", "c64") else None for key in params}
        tx = policy(weights, inner)
        state, expected_state = tx.init(params), inner.init(params)
        for _ in range(3):
            updates, state = tx.update(grads, state, params)
            expected, expected_state = inner.update(grads, expected_state, params)
        assert jax.tree.structure(updates) == jax.tree.structure(expected)
        for key in ("f32", "f64", "c64"):
            assert updates[key].dtype == params[key].dtype
            np.testing.assert_array_equal(updates[key], expected[key])
        own = [leaf for leaf in jax.tree.leaves(state) if leaf.shape]
        assert len(own) == len([leaf for leaf in jax.tree.leaves(expected_state) if leaf.shape]), "no state for them"
        weights_now = jl.eval_params(tx, state, params)
        assert weights_now["f"] is jax.nn.relu
        np.testing.assert_array_equal(weights_now["c64"], params["c64"])


@every_kind
def test_a_tree_of_many_dtypes(weights):
    """Each leaf gets what it would get alone."""
    grads = {"a": {"w": 1.0}, "b": [1.0, None, 1.0], "c": 1.0}
    dtypes = {"a": {"w": jnp.bfloat16}, "b": [jnp.float16, None, jnp.float32], "c": jnp.bfloat16}
    params = jax.tree.map(lambda dtype: jnp.full((2, 2), 1.5, dtype), dtypes)
    grads = jax.tree.map(lambda g: constant(g, 50, (2, 2)), grads)
    tx = policy(weights, jl.adam(1e-3))
    end, _, _ = run(tx, params, grads)
    assert jax.tree.map(lambda x: x.dtype, end) == jax.tree.map(jnp.dtype, dtypes)
    alone, _, _ = run(tx, {"b": [None, None, params["b"][2]]}, {"b": [None, None, grads["b"][2]]})
    np.testing.assert_array_equal(end["b"][2], alone["b"][2])
    alone, _, _ = run(tx, {"c": params["c"]}, {"c": grads["c"]})
    np.testing.assert_array_equal(wide(end["c"]), wide(alone["c"]))


# -- as a part of others ----------------------------------------------------------------------------------------------


@every_kind
def test_the_last_of_a_chain_sees_half_precision(weights):
    grads = constant(2.0, 300, (500,))
    start = jnp.ones(500, jnp.bfloat16)
    for tx in (
        jl.chain(jl.clip(1.0), policy(weights, jl.sgd(1e-3))),
        jl.chain(jl.clip(1.0), jl.chain(jl.identity(), jl.skip_nonfinite(policy(weights, jl.sgd(1e-3))))),
        jl.named_chain(("clip", jl.clip(1.0)), ("step", policy(weights, jl.sgd(1e-3)))),
        jl.partition({"all": policy(weights, jl.chain(jl.clip(1.0), jl.sgd(1e-3)))}, "all"),
        policy(weights, optax.chain(optax.clip(1.0), optax.sgd(1e-3))),
    ):
        end, _, _ = run(tx, start, grads)
        assert wide(end).mean() == pytest.approx(0.7, rel=0.02)


@every_kind
def test_an_average_inside_is_evaluated(weights):
    tx = policy(weights, jl.ema_params(jl.sgd(1e-3), 0.9))
    _, params, evaluated = run(tx, jnp.ones(500, jnp.bfloat16), constant(1.0, 200, (500,)))
    assert wide(evaluated[-1]).mean() > wide(params[-1]).mean() + 5e-3  # it lags ten steps behind
    now = jl.eval_params(tx, tx.init(params[-1].astype(jnp.bfloat16)), params[-1].astype(jnp.bfloat16))
    assert now.dtype == (jnp.bfloat16 if weights == "stochastic" else jnp.float32)


@every_kind
def test_hyperparameters_and_states_are_found(weights):
    tx = policy(weights, jl.adam(1e-3), moments=jnp.bfloat16)
    assert tx.replace(learning_rate=0.5) == policy(weights, jl.adam(0.5), moments=jnp.bfloat16)
    params = {"w": jnp.ones(2, jnp.bfloat16)}
    state = tx.init(params)
    names = jl.state_dict(tx, state)
    again = jl.load_state_dict(tx, params, names)
    jax.tree.map(np.testing.assert_array_equal, again, state)
    text = str(jax.tree_util.tree_structure(names))
    assert "scale_by_adam" in text
    assert "mu" in text


def test_with_precision_is_its_parts():
    inner = jl.adam(1e-3)
    pairs = {
        "master": jl.master_weights(inner),
        "split": jl.split_master_weights(inner),
        "split8": jl.split_master_weights(inner, bits=8),
        "kahan": jl.kahan(inner),
        "stochastic": jl.stochastic_rounding(inner, key=3),
    }
    params, grads = jnp.ones(10, jnp.bfloat16), constant(1.0, 20, (10,))
    for weights, tx in pairs.items():
        for a, b in zip(run(policy(weights, inner, key=3), params, grads), run(tx, params, grads), strict=True):
            np.testing.assert_array_equal(wide(a), wide(b))
    for a, b in zip(run(jl.with_precision(inner), params, grads), run(inner, params, grads), strict=True):
        np.testing.assert_array_equal(wide(a), wide(b))


# -- state ------------------------------------------------------------------------------------------------------------

BYTES = {"master": 4, "split": 2, "split8": 1, "kahan": 2, "stochastic": 0}


@every_dtype
@every_kind
def test_bytes_of_the_state(weights, dtype):
    params = jnp.ones(1000, dtype)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(policy(weights, jl.sgd(0.1)).init(params)) if leaf.shape)
    assert size == 1000 * BYTES[weights]


@every_kind
def test_the_state_is_a_carry_and_can_be_donated(weights):
    tx = policy(weights, jl.adam(1e-3), moments=jnp.bfloat16)
    params = {"a": jnp.ones((3, 2), jnp.bfloat16), "b": jnp.ones((), jnp.float16), "c": jnp.zeros((0, 2), jnp.bfloat16)}
    state = tx.init(params)
    updates, new = jax.eval_shape(tx.update, params, state, params)
    assert jax.tree.map(jax.typeof, state) == jax.tree.map(jax.typeof, new)
    assert jax.tree.map(jax.typeof, updates) == jax.tree.map(jax.typeof, params)
    abstract = jax.eval_shape(tx.init, params)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), abstract) == jax.tree.map(lambda x: (x.shape, x.dtype), state)

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return jl.apply_updates(params, updates), state

    grads = jax.tree.map(jnp.ones_like, params)
    step = jax.jit(step, donate_argnums=(0, 1))
    step(*step(params, state, grads), grads)


@every_kind
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_shardings_stay(weights, axis_type):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    sharding = NamedSharding(mesh, P("data"))
    here = jnp.linspace(1, 2, 32).reshape(16, 2).astype(jnp.bfloat16)
    params = jax.device_put(here, sharding)
    tx = policy(weights, jl.adam(1e-3), moments=jnp.bfloat16)
    with jax.set_mesh(mesh):
        state = tx.init(params)
        updates, new_state = jax.jit(tx.update)(params, state, params)
    for leaf in jax.tree.leaves((state, updates, new_state)):
        if leaf.shape == params.shape:
            assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
    alone, _ = tx.update(here, tx.init(here), here)
    np.testing.assert_array_equal(wide(updates), wide(alone))


@pytest.mark.parametrize("weights", ["master", "split", "kahan"])
def test_the_state_of_other_parameters_is_refused(weights):
    tx = policy(weights, jl.sgd(0.1))
    params = {"a": jnp.ones((2, 3), jnp.bfloat16)}
    shapes = [jnp.ones((3, 2), jnp.bfloat16), jnp.ones(3, jnp.bfloat16)]
    for other in ({"a": shapes[0]}, {"a": shapes[1]}, {"b": params["a"]}, [params["a"]]):
        with pytest.raises(jl.InputError, match="state"):
            tx.update(params, tx.init(other), params)


@every_kind
def test_jit_and_vmap(weights):
    tx = policy(weights, jl.adam(1e-2))
    stack = jnp.asarray(np.random.default_rng(7).uniform(1, 2, (4, 50)), jnp.bfloat16)

    def two(p):
        state = tx.init(p)
        u, state = tx.update(p, state, p)
        return tx.update(p, state, jl.apply_updates(p, u))[0]

    loop = np.stack([wide(two(p)) for p in stack])
    np.testing.assert_allclose(wide(jax.jit(jax.vmap(two))(stack)), loop, atol=0.01)
    np.testing.assert_array_equal(wide(jax.vmap(two)(stack)), loop)


@every_kind
def test_derivatives_pass_through_the_rounding(weights):
    def final(tx):
        params = jnp.ones(2, jnp.bfloat16)
        state = tx.init(params)
        for _ in range(2):
            updates, state = tx.update(jnp.ones(2, jnp.bfloat16), state, params)
            params = jl.apply_updates(params, updates)
        return jnp.sum(params.astype(jnp.float32))

    derivative = jax.grad(final)(policy(weights, jl.sgd(0.1)))
    assert float(jax.tree.leaves(derivative)[0]) == pytest.approx(-4.0, rel=0.02)


# -- random numbers ---------------------------------------------------------------------------------------------------


def walk(key, params, steps=30):
    tx = jl.stochastic_rounding(jl.sgd(1e-3), key)
    end, _, _ = run(tx, params, jax.tree.map(lambda p: constant(1.0, steps, p.shape), params))
    return end


def test_random_numbers_depend_on_key_count_and_path_alone():
    params = {"w": jnp.ones(200, jnp.bfloat16)}
    first = wide(walk(0, params)["w"])
    np.testing.assert_array_equal(wide(walk(0, params)["w"]), first)
    np.testing.assert_array_equal(wide(walk(jax.random.key(0), params)["w"]), first)
    assert np.any(wide(walk(1, params)["w"]) != first)
    both = walk(0, params | {"a": jnp.ones(200, jnp.bfloat16)})
    np.testing.assert_array_equal(wide(both["w"]), first)
    assert np.any(wide(both["a"]) != first)
    updates = [jl.stochastic_rounding(jl.sgd(1e-3)).update(params, s, params)[0]["w"] for s in states(params)]
    assert np.any(wide(updates[0]) != wide(updates[1]))


def states(params):
    tx = jl.stochastic_rounding(jl.sgd(1e-3))
    state = tx.init(params)
    return state, tx.update(params, state, params)[1]


def test_a_run_can_be_resumed():
    tx = policy("stochastic", jl.adam(1e-3), moments=jnp.bfloat16)
    params = jnp.ones(100, jnp.bfloat16)
    grads = jnp.asarray(np.random.default_rng(8).standard_normal((10, 100)), jnp.float32)
    whole, _, _ = run(tx, params, grads)
    state, update = tx.init(params), jax.jit(tx.update)
    for i, g in enumerate(grads):
        if i == 4:
            state = jl.load_state_dict(tx, params, jax.tree.map(np.asarray, jl.state_dict(tx, state)))
        updates, state = update(g, state, params)
        params = jl.apply_updates(params, updates)
    np.testing.assert_array_equal(wide(params), wide(whole))


# -- moments ----------------------------------------------------------------------------------------------------------


def second_moment(rounding, steps=3000):
    """The second moment after it was 4 and the gradients became 0.5."""
    tx = jl.moment_dtypes(jl.scale_by_adam(), rounding=rounding)
    params = jnp.zeros(500)
    state = tx.init(params)
    state = state._replace(inner=state.inner._replace(count=jnp.int32(10**6), nu=jnp.full(500, 4.0, jnp.bfloat16)))
    body = lambda state, g: (tx.update(g, state, params)[1], None)
    state, _ = jax.jit(lambda s: jax.lax.scan(body, s, constant(0.5, steps, (500,))))(state)
    assert state.inner.nu.dtype == jnp.bfloat16
    return wide(state.inner.nu)


def test_a_second_moment_rounded_to_the_nearest_stands_still():
    np.testing.assert_array_equal(second_moment("nearest"), 4.0)


def test_a_second_moment_rounded_at_random_does_not():
    exact = 0.25 + (4 - 0.25) * 0.999**3000
    nu = second_moment("stochastic")
    assert nu.mean() == pytest.approx(exact, rel=0.03)
    assert np.all(np.abs(nu - exact) < 0.5 * exact)


@pytest.mark.parametrize("inner", [jl.adamw(0.1), optax.adamw(0.1), jl.sgd(0.1, momentum=0.9), optax.adabelief(0.1)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=lambda dtype: dtype.__name__)
def test_moments_of_any_optimizer(inner, dtype):
    """The structure stays, the moments are bfloat16, and the steps nearly those of float32."""
    rng = np.random.default_rng(9)
    params = {"w": jnp.asarray(rng.standard_normal((4, 3)), dtype), "b": jnp.ones((), dtype)}
    tx, inner = jl.moment_dtypes(inner), jl.chain(inner)
    state, expected_state = tx.init(params), inner.init(params)
    assert jax.tree.structure(state.inner) == jax.tree.structure(expected_state[0])
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(state.inner) if leaf.shape}
    assert dtypes == {jnp.dtype(jnp.bfloat16)}
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(5):
            grads = jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape), dtype), params)
            updates, state = tx.update(grads, state, params)
            expected, expected_state = inner.update(grads, expected_state, params)
    assert jax.tree.map(lambda u: u.dtype, updates) == jax.tree.map(lambda p: p.dtype, params)
    for u, e in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(wide(u), wide(e), rtol=0.05, atol=3e-3)


class PostponedState(NamedTuple):
    """As under ``from __future__ import annotations``: ``nu`` is said to be one array, ``mu`` a tree of them."""

    mu: "Any"
    nu: "jax.Array | np.ndarray"


class UnreadableState(NamedTuple):
    """With a type that only a type checker knows, all that is known is that ``nu`` may be a tree."""

    mu: "OnlyForCheckers"  # noqa: F821
    nu: "OnlyForCheckers"  # noqa: F821


@pytest.mark.parametrize(("kind", "nu"), [(PostponedState, jnp.float32), (UnreadableState, jnp.bfloat16)])
def test_annotations_may_be_text(kind, nu):
    inner = optax.GradientTransformation(lambda params: kind(params, params), lambda g, s, p=None: (g, s))
    state = jl.moment_dtypes(inner, {"mu": jnp.bfloat16, "nu": jnp.bfloat16}).init(jnp.ones(3)).inner
    assert (state.mu.dtype, state.nu.dtype) == (jnp.bfloat16, nu)


def test_moments_by_name():
    params = jnp.ones(3)
    state = jl.moment_dtypes(jl.adam(0.1), {"nu": jnp.bfloat16, "mu": None}).init(params).inner
    assert (state[0].mu.dtype, state[0].nu.dtype) == (jnp.float32, jnp.bfloat16)
    state = jl.moment_dtypes(jl.adagrad(0.1), {"sum_of_squares": jnp.bfloat16}).init(params).inner
    assert state[0].sum_of_squares.dtype == jnp.bfloat16
    state = jl.moment_dtypes(jl.chain(jl.scale(1.0), jl.ema(0.9)), {"ema": "bfloat16"}).init({"nu": params}).inner
    assert state[1].ema["nu"].dtype == jnp.bfloat16
    state = jl.moment_dtypes(jl.chain(jl.ema(0.9), jl.scale_by_adam()), {"nu": jnp.bfloat16}).init({"nu": params}).inner
    assert state[0].ema["nu"].dtype == state[1].mu["nu"].dtype == jnp.float32, "a name of a parameter is no field"


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"moment_dtypes: dtypes\['nu'\] must be bfloat16 or float32, .*; got float16"):
        jl.moment_dtypes(jl.adam(0.1), {"nu": jnp.float16})
    with pytest.raises(ValueError, match=r"rounding must be one of 'stochastic', 'nearest'"):
        jl.moment_dtypes(jl.adam(0.1), rounding="up")
    with pytest.raises(jl.InputError, match=r"moment_dtypes: the state has no field nv: there are count, mu, nu"):
        jl.moment_dtypes(jl.adam(0.1), {"nv": jnp.bfloat16}).init(jnp.ones(2))
    with pytest.raises(ValueError, match=r"with_precision: weights must be one of 'master', .*; got 'masters'"):
        jl.with_precision(jl.adam(0.1), weights="masters")
    with pytest.raises(ValueError, match="bits must be 8 or 16; got 12"):
        jl.split_master_weights(jl.adam(0.1), bits=12)
    with pytest.raises(TypeError, match="key must be a seed"):
        jl.stochastic_rounding(jl.adam(0.1), key=0.5)


class TwoKindsOfState(NamedTuple):
    m: dict[str, jax.Array]
    v: jax.Array | np.ndarray


def test_a_state_of_ones_own_says_what_is_a_moment():
    def init(params):
        return TwoKindsOfState(params, jnp.ones(3))

    state = jl.moment_dtypes((init, lambda updates, state, params=None: (updates, state))).init({"w": jnp.ones(2)})
    assert (state.inner.m["w"].dtype, state.inner.v.dtype) == (jnp.bfloat16, jnp.float32)


@pytest.mark.parametrize("inner", [jl.mechanize(jl.adan(1.0)), optax.contrib.mechanize(optax.adan(1.0))])
@pytest.mark.parametrize("params", [jnp.ones(6), {"w": jnp.ones((2, 3))}])
def test_a_field_of_one_array_is_no_moment(inner, params):
    """Mechanic's bets are called as moments are; the state says that they are one array, and not a tree."""
    with jax.numpy_dtype_promotion("standard"):
        state = jl.moment_dtypes(inner).init(params).inner
    assert {state.m.dtype, state.v.dtype, state.r.dtype, state.s.dtype} == {jnp.dtype(jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(state.base_optimizer_state[0].m)} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(state.base_optimizer_state[0].v)} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(state.x0)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    "compose",
    [
        lambda tx: jl.chain(tx, jl.scale(0.5)),
        lambda tx: jl.chain(jl.clip(1.0), jl.chain(tx), jl.identity()),
        jl.cautious,
        jl.mechanize,
        jl.flatten,
        lambda tx: jl.lookahead(tx, 5, 0.5),
        lambda tx: jl.sam(tx, jl.sgd(0.1)),
        lambda tx: jl.sam(jl.sgd(0.1), tx, opaque_mode=True),
        lambda tx: jl.schedule_free(tx, 0.1),
    ],
)
@pytest.mark.parametrize("wrapper", [jl.kahan, jl.master_weights, jl.stochastic_rounding, jl.split_master_weights])
def test_nothing_comes_after_the_rounding(compose, wrapper):
    """A step that is changed after it was rounded for its parameter misses it: refused when it is composed."""
    with pytest.raises(ValueError, match="Let the precision wrapper be the last and outermost one"):
        compose(wrapper(jl.sgd(0.1)))
    jl.chain(jl.clip(1.0), wrapper(jl.sgd(0.1)))


class Named(NamedTuple):
    v: jax.Array


def test_the_name_of_a_parameter_is_not_that_of_a_moment():
    """Fields of the parameters may be called as moments are; the slow weights of a lookahead stay what they are."""
    tx = jl.moment_dtypes(jl.lookahead(jl.chain(jl.scale_by_adam(), jl.scale(-0.1)), 5, 0.5))
    inner = tx.init(Named(jnp.ones(4))).inner
    assert inner.slow.v.dtype == jnp.float32
    assert inner.fast_state[0].mu.v.dtype == inner.fast_state[0].nu.v.dtype == jnp.bfloat16
    only_nu = jl.moment_dtypes(jl.adam(0.1), {"nu": jnp.bfloat16}).init({"nu": jnp.ones(4)}).inner[0]
    assert (only_nu.mu["nu"].dtype, only_nu.nu["nu"].dtype) == (jnp.float32, jnp.bfloat16)
    with pytest.raises(jl.InputError, match="trace"):
        jl.moment_dtypes(jl.adam(0.1), {"trace": jnp.bfloat16}).init({"trace": jnp.ones(4)})


@pytest.mark.parametrize(
    "wrapper", [jl.kahan, jl.split_master_weights, jl.master_weights], ids=["kahan", "split", "master"]
)
def test_a_state_of_other_parameters_is_refused(wrapper):
    tx = wrapper(jl.sgd(0.1))
    state, others = tx.init({"a": jnp.ones(2, jnp.bfloat16)}), {"b": jnp.ones(2, jnp.bfloat16)}
    with pytest.raises(jl.InputError, match=f"^{tx.name}: updates and state differ in structure. .* at 'a|b', where"):
        tx.update(others, state, others)
    with pytest.raises(jl.InputError, match=f"^{tx.name}: .* differ in structure"):
        jl.eval_params(tx, state, others)
