"""Optimizers that need no learning rate: global sums, values of the loss, distances from the start, schedule-free."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from bad_inputs import bad_input

import jaxopt_lessons as jl

GLOBAL = [
    jl.polyak_sgd(),
    jl.momo(0.3, weight_decay=0.1),
    jl.momo(1.0, lower_bound=-5.0, adapt_lower_bound=True),
    jl.momo_adam(0.3, weight_decay=0.1),
    jl.prodigy(estim_lr0=0.01),
    jl.dadapt_adamw(estim_lr0=0.01),
    jl.dog(init_step=("heuristic", 0.1)),
    jl.dowg(),
    jl.mechanize(jl.adam(1.0), s_init=0.01),
]
OTHERS = [
    jl.cocob(),
    jl.scale_by_distance_over_gradients(1e-2, global_scale=-1.0),
    jl.schedule_free_sgd(0.1),
    jl.schedule_free_adamw(0.1),
    jl.schedule_free_radam(0.1, b2=0.9),
]
every_one = pytest.mark.parametrize("tx", GLOBAL + OTHERS, ids=repr)
RNG = np.random.default_rng(0)
CURVATURE, CENTRE, START = RNG.uniform(0.3, 2, 10), RNG.standard_normal(10), RNG.standard_normal(10)
NOISE = RNG.standard_normal((30, 10))


def split(vector):
    return {"a": vector[:6].reshape(3, 2), "b": [vector[6:9], vector[9]]}


def loss_and_gradient(vector, i):
    """A noisy bowl; works on arrays of NumPy, JAX and torch."""
    away = vector - CENTRE
    return (CURVATURE * away**2).sum() / 2 + 1.0, CURVATURE * away + 0.3 * NOISE[i]


def descend(tx, steps=20, arrange=lambda vector: vector):
    """Weights after each step, as vectors, in float64; the optimizer sees ``arrange(vector)``."""
    with jax.enable_x64(True):
        vector = jnp.asarray(START)
        state, path = tx.init(arrange(vector)), []
        update = jax.jit(tx.update)
        for i in range(steps):
            value, grad = loss_and_gradient(np.asarray(vector), i)
            updates, state = update(arrange(jnp.asarray(grad)), state, arrange(vector), value=value)
            vector = vector + jax.flatten_util.ravel_pytree(updates)[0]
            path.append(np.asarray(vector))
    return np.stack(path), state


# -- sums over all leaves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tx", GLOBAL, ids=repr)
def test_several_leaves_are_one_vector(tx):
    expected, _ = descend(tx)
    np.testing.assert_allclose(descend(tx, arrange=split)[0], expected, rtol=1e-10, atol=1e-12)
    assert np.max(np.abs(expected - START)) > 1e-2


def test_layer_wise_dog_is_dog_of_each_leaf():
    layers = jl.scale_by_distance_over_gradients(0.1, global_scale=-1.0)
    grads, params = split(jnp.asarray(NOISE[0])), split(jnp.asarray(START))
    updates, _ = layers.update(grads, layers.init(params), params)
    for g, p, u in zip(*map(jax.tree.leaves, (grads, params, updates)), strict=True):
        tx = jl.dog(init_step=("heuristic", 0.1))
        np.testing.assert_allclose(u, tx.update(g, tx.init(p), p)[0], rtol=1e-6)


# -- robustness -------------------------------------------------------------------------------------------------------


@every_one
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32], ids=lambda d: d.__name__)
def test_zeros_for_a_long_time(tx, dtype):
    """Parameters of zero and gradients of zero: nothing moves, nothing overflows; then it descends all the same."""
    zeros = {"w": jnp.zeros((2, 3), dtype), "b": jnp.zeros(2, dtype)}

    def run(params, state, grads, loss, steps):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(grads, state, params, value=loss)
            return (jl.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, state), None, length=steps)[0]

    params, state = run(zeros, tx.init(zeros), zeros, 1.0, 300)
    assert all(not np.any(np.asarray(leaf, np.float32)) for leaf in jax.tree.leaves(params))
    assert all(np.all(np.isfinite(np.asarray(leaf, np.float32))) for leaf in jax.tree.leaves(state))
    params, _ = run(params, state, jax.tree.map(jnp.ones_like, zeros), 2.0, 10)
    values = [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(params)]
    assert all(np.all(np.isfinite(leaf)) for leaf in values)
    assert all(np.all(leaf < 0) for leaf in values)


@bad_input(41, 46)
@every_one
@pytest.mark.parametrize("value", [1e30, 1e-30, 0.0, -1e30])
def test_any_loss_and_huge_gradients_leave_finite_states(tx, value):
    params = {"w": jnp.ones(3), "b": jnp.zeros(2)}
    state = tx.init(params)
    for scale in (3e38, 1e-30, 1e20, 1.0, 0.0, 1e-10):
        grads = {"w": scale * jnp.array([1.0, -1.0, 0.3]), "b": jnp.array([scale, 1.0])}
        updates, state = tx.update(grads, state, params, value=value)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((updates, state))), scale


@every_one
def test_the_state_shares_nothing_with_the_params(tx):
    params = {"w": jnp.ones((2, 3)), "b": jnp.zeros(2)}
    state = tx.init(params)
    donated = jax.jit(lambda p, s: tx.update(p, s, p, value=1.0), donate_argnums=(0, 1))
    donated(params, state)
    assert not {id(leaf) for leaf in jax.tree.leaves(params)} & {id(leaf) for leaf in jax.tree.leaves(state)}


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float32], ids=lambda d: d.__name__)
def test_prodigy_after_a_first_gradient_of_zeros(dtype):
    """optax divides 0 by 0 there, and is NaN for ever."""
    tx, params = jl.prodigy(estim_lr0=1e-3), jnp.zeros(3, dtype)
    state = tx.init(params)
    for g in [0.0, *[1.0] * 20]:
        updates, state = tx.update(jnp.full(3, g, dtype), state, params)
        params = jl.apply_updates(params, updates)
    assert np.all(np.isfinite(np.asarray(params, np.float32)))
    assert float(state.estim_lr) > 1e-3


def test_dog_is_not_stopped_by_a_first_gradient_of_zeros():
    tx, params = jl.dog(init_step=("learning_rate", 0.5)), jnp.ones(2)
    _, state = tx.update(jnp.zeros(2), tx.init(params), params)
    updates, _ = tx.update(jnp.ones(2), state, params)
    np.testing.assert_allclose(updates, -0.5)


def test_mechanic_starts_where_the_run_starts():
    """Not where ``init`` was called: weights are often loaded in between."""
    tx, loaded = jl.mechanize(jl.sgd(1.0), s_init=0.5), jnp.array([100.0])
    updates, state = tx.update(jnp.array([4.0]), tx.init(jnp.zeros(1)), loaded)
    np.testing.assert_allclose(updates, [-2.0])
    np.testing.assert_array_equal(state.x0, loaded)


# -- the value of the loss --------------------------------------------------------------------------------------------

WITH_VALUE = [jl.polyak_sgd(), jl.momo(0.1, weight_decay=0.3), jl.momo_adam(0.1, weight_decay=0.3)]
with_value = pytest.mark.parametrize("tx", WITH_VALUE, ids=lambda tx: tx.name)


@with_value
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_no_number_rejects_the_step(tx, bad):
    params, g = jnp.array([1.0, -2.0]), jnp.array([0.5, 1.0])
    _, before = tx.update(g, tx.init(params), params, value=2.0)
    for grads in (g, jnp.array([np.nan, np.inf])):
        updates, after = tx.update(grads, before, params, value=jnp.float32(bad))
        assert not np.any(updates)
        if tx.name != "polyak_sgd":  # There the only state is the count of the scaling.
            jax.tree.map(np.testing.assert_array_equal, after, before)
        total = lambda g, params: jnp.sum(tx.update(g, before, params, value=jnp.float32(bad))[0])
        assert np.all(np.isfinite(jax.grad(total, argnums=(0, 1))(grads, params)))


@with_value
@pytest.mark.parametrize("value", [None, "low", True, np.ones(2), 1j], ids=repr)
def test_the_loss_is_one_number(tx, value):
    params = jnp.ones(2)
    with pytest.raises(jl.InputError, match=r"value must be the loss, one real number: call update\("):
        tx.update(params, tx.init(params), params, value=value)
    with pytest.raises(jl.InputError, match=r"needs value: call update\(updates, state, params, value=...\)"):
        tx.update(params, tx.init(params), params)
    for good in (2, 2.0, np.float64(2), jnp.bfloat16(2), jnp.int32(2)):
        tx.update(params, tx.init(params), params, value=good)


def test_polyak_halves_the_distance_and_does_not_stop_early():
    """optax stands still as soon as the squared norm of the gradient is below 1.2e-7."""
    tx, x = jl.polyak_sgd(max_learning_rate=10.0), jnp.array([1.0])
    for i in range(60):
        updates, _ = tx.update(x, tx.init(x), x, value=x[0] ** 2 / 2)
        x = jl.apply_updates(x, updates)
        np.testing.assert_allclose(x, 0.5 ** (i + 1), rtol=1e-5)


def test_polyak_steps_may_be_long():
    """A power of two keeps the squares of huge gradients in range; it must not take ordinary ones out of it."""
    g, x = jnp.array([20.0, 30.0]), jnp.ones(2)
    tx = jl.polyak_sgd(max_learning_rate=1e30)
    np.testing.assert_allclose(tx.update(g, tx.init(x), x, value=1.3e20)[0], [-2e18, -3e18], rtol=1e-6)


def test_polyak_below_the_bound():
    g, x = jnp.array([1e-3]), jnp.ones(1)
    uphill, stays = (jl.polyak_sgd(f_min=1.0, variant=variant) for variant in ("sps", "sps+"))
    np.testing.assert_allclose(uphill.update(g, uphill.init(x), x, value=0.0)[0], [1e-3])  # no longer than 1
    assert not np.any(stays.update(g, stays.init(x), x, value=0.0)[0])
    with pytest.raises(ValueError, match=r"variant"):
        jl.polyak_sgd(variant="sps-")


@pytest.mark.parametrize(
    ("free", "limited"),
    [
        (jl.momo(0.1, lower_bound=-1e6), jl.ema_momentum(0.1)),
        (jl.momo_adam(0.1, lower_bound=-1e6), jl.adam(0.1)),
        (jl.polyak_sgd(0.1, f_min=-1e6), jl.sgd(0.1)),
    ],
    ids=lambda tx: tx.name,
)
def test_with_a_bound_far_below_the_limit_is_the_learning_rate(free, limited):
    with jax.enable_x64(True):
        params = jnp.asarray(START)
        a, b = free.init(params), limited.init(params)
        first = NOISE[0] if free.name == "momo" else 0.0  # MoMo's average starts at the first gradient.
        if free.name == "momo":
            b = jax.tree.map(lambda leaf: jnp.asarray(first) if leaf.shape else leaf, b)
        for g in map(jnp.asarray, NOISE[:5]):
            u, a = free.update(g, a, params, value=1.0)
            v, b = limited.update(g, b, params)
            np.testing.assert_allclose(u, v, rtol=1e-12)


def test_momo_with_decay_is_the_proximal_step():
    """One step minimizes ``(x - p)^2 / (2 rate) + decay x^2 / 2 + max(f + <g, x - p>, 0)``."""
    p, g, f, rate, decay = 1.5, 2.0, 0.7, 0.8, 0.5
    tx = jl.momo(rate, weight_decay=decay)
    x = np.linspace(-3, 3, 2_000_001)
    best = x[np.argmin((x - p) ** 2 / (2 * rate) + decay * x**2 / 2 + np.maximum(f + g * (x - p), 0))]
    params = jnp.array([p])
    updates, _ = tx.update(jnp.array([g]), tx.init(params), params, value=f)
    np.testing.assert_allclose(p + updates, [best], atol=1e-5)


# -- schedule-free ----------------------------------------------------------------------------------------------------


def test_eval_params_is_the_mean_of_z():
    tx, params = jl.schedule_free_sgd(0.1, b1=0.7), jnp.array([3.0, -1.0])
    state, zs = tx.init(params), []
    np.testing.assert_allclose(jl.eval_params(tx, state, params), params)
    for _ in range(8):
        updates, state = tx.update(params, state, params)
        params = jl.apply_updates(params, updates)
        zs.append(state.z)
    mean = np.mean(zs, axis=0)
    np.testing.assert_allclose(jl.eval_params(tx, state, params), mean, rtol=1e-5)
    np.testing.assert_allclose(params, 0.7 * mean + 0.3 * zs[-1], rtol=1e-5)


def test_eval_params_is_found_at_any_depth():
    inner = jl.schedule_free_sgd(0.1, b1=0.7)
    params = {"a": jnp.array([3.0, -1.0]), "b": jnp.ones(2), "n": jnp.arange(2), "f": jax.nn.relu}
    grads = {"a": params["a"], "b": params["b"], "n": None, "f": None}
    nested = jl.chain(jl.clip(100.0), jl.masked(jl.chain(inner), lambda path, leaf: path == "a", unmasked="zero"))
    state, alone = nested.init(params), inner.init(params["a"])
    for _ in range(3):
        updates, state = nested.update(grads, state, params)
        _, alone = inner.update(grads["a"], alone, params["a"])
        params = jl.apply_updates(params, updates)
        evaluated = jl.eval_params(nested, state, params)
        np.testing.assert_allclose(evaluated["a"], jl.eval_params(inner, alone, params["a"]), rtol=1e-6)
        assert evaluated["b"] is params["b"]
        assert evaluated["f"] is jax.nn.relu
        grads = {**grads, "a": params["a"]}
    assert np.max(np.abs(evaluated["a"] - params["a"])) > 1e-3


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=lambda d: d.__name__)
def test_eval_params_has_the_dtypes_of_the_params(dtype):
    tx, params = jl.schedule_free_adamw(0.1), {"w": jnp.ones(3, dtype)}
    updates, state = tx.update(params, tx.init(params), params)
    assert state.z["w"].dtype == jnp.float32
    assert jl.eval_params(tx, state, jl.apply_updates(params, updates))["w"].dtype == dtype


def test_the_warm_up_is_that_of_the_authors():
    """First step 1/4 of the learning rate, and z moves by it at once."""
    tx, params = jl.schedule_free_sgd(1.0, warmup_steps=4), jnp.zeros(1)
    state, z = tx.init(params), [0.0]
    for _ in range(6):
        _, state = tx.update(jnp.ones(1), state, params)
        z.append(float(state.z[0]))
    np.testing.assert_allclose(np.diff(z), [-0.25, -0.5, -0.75, -1.0, -1.0, -1.0])
    assert float(state.max_lr) == 1.0


def test_a_state_of_optax_tells_the_count_of_schedule_free():
    theirs, params = optax.contrib.schedule_free_sgd(0.1), jnp.ones(2)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        state = theirs.init(params)
        for _ in range(3):
            _, state = theirs.update(params, state, params)
    assert int(jl.convert_state(jl.schedule_free_sgd(0.1), params, state).count) == 3


@pytest.mark.parametrize("make", [jl.schedule_free_sgd, jl.schedule_free_adamw])
def test_schedule_free_reaches_the_bottom_without_decay(make):
    """With noisy gradients the average is much nearer to the bottom than the weights that are trained."""
    tx, key = make(0.1), jax.random.key(0)
    params = jnp.full(4, 3.0)

    def step(carry, key):
        params, state = carry
        updates, state = tx.update(params + 2 * jax.random.normal(key, (4,)), state, params)
        return (jl.apply_updates(params, updates), state), None

    (params, state), _ = jax.lax.scan(step, (params, tx.init(params)), jax.random.split(key, 3000))
    evaluated = jl.eval_params(tx, state, params)
    assert np.linalg.norm(evaluated) < 0.2
    assert np.linalg.norm(evaluated) < np.linalg.norm(state.z) / 2


# -- the authors' packages --------------------------------------------------------------------------------------------


def torch_path(torch, make, steps=25, evaluate=False, needs_loss=False):
    """The weights of a torch optimizer on three parameters, as vectors, one row a step."""
    leaves = [torch.nn.Parameter(torch.from_numpy(np.array(leaf))) for leaf in jax.tree.leaves(split(START))]
    optimizer, path, averages = make(leaves), [], []
    for i in range(steps):
        vector = torch.cat([leaf.detach().reshape(-1) for leaf in leaves]).numpy()
        value, grad = loss_and_gradient(vector, i)
        for leaf, g in zip(leaves, jax.tree.leaves(split(grad)), strict=True):
            leaf.grad = torch.from_numpy(np.array(g))
        optimizer.step(**({"loss": torch.tensor(value)} if needs_loss else {}))
        path.append(torch.cat([leaf.detach().reshape(-1) for leaf in leaves]).numpy())
        if evaluate:
            optimizer.eval()
            averages.append(torch.cat([leaf.detach().reshape(-1) for leaf in leaves]).numpy())
            optimizer.train()
    return np.stack(averages if evaluate else path)


def our_path(tx, steps=25, evaluate=False):
    with jax.enable_x64(True):
        params = split(jnp.asarray(START))
        state, path, update = tx.init(params), [], jax.jit(tx.update)
        for i in range(steps):
            value, grad = loss_and_gradient(np.asarray(jax.flatten_util.ravel_pytree(params)[0]), i)
            updates, state = update(split(jnp.asarray(grad)), state, params, value=value)
            params = jl.apply_updates(params, updates)
            shown = jl.eval_params(tx, state, params) if evaluate else params
            path.append(np.asarray(jax.flatten_util.ravel_pytree(shown)[0]))
    return np.stack(path)


PACKAGES = {
    "prodigy": (
        "prodigyopt",
        jl.prodigy(0.8, (0.8, 0.95), eps=1e-3, estim_lr0=1e-3, weight_decay=0.1),
        lambda m: functools.partial(
            m.Prodigy, lr=0.8, betas=(0.8, 0.95), eps=1e-3, d0=1e-3, weight_decay=0.1, use_bias_correction=True
        ),
        1e-11,
    ),
    "prodigy with safeguard": (
        "prodigyopt",
        jl.prodigy(0.8, beta3=0.9, estim_lr_coef=0.5, safeguard_warmup=True, estim_lr0=1e-3),
        lambda m: functools.partial(
            m.Prodigy, lr=0.8, beta3=0.9, d_coef=0.5, safeguard_warmup=True, d0=1e-3, use_bias_correction=True
        ),
        1e-11,
    ),
    "dadapt": (
        "dadaptation",
        jl.dadapt_adamw(0.8, (0.8, 0.95), eps=1e-3, estim_lr0=1e-3, weight_decay=0.1),
        lambda m: functools.partial(
            m.DAdaptAdam,
            lr=0.8,
            betas=(0.8, 0.95),
            eps=1e-3,
            d0=1e-3,
            weight_decay=0.1,
            decouple=True,
            use_bias_correction=True,
        ),
        1e-11,
    ),
    "dog": (
        "dog",
        jl.dog(0.8, ("heuristic", 1e-2), eps=1e-3, weight_decay=0.1),
        lambda m: functools.partial(m.DoG, lr=0.8, reps_rel=1e-2, eps=1e-3, weight_decay=0.1),
        1e-11,
    ),
    "dog from a learning rate": (
        "dog",
        jl.dog(init_step=("learning_rate", 1e-2)),
        lambda m: functools.partial(m.DoG, init_eta=1e-2),
        1e-11,
    ),
    "layer-wise dog": (
        "dog",
        jl.scale_by_distance_over_gradients(1e-2, eps=1e-3, global_scale=-0.8),
        lambda m: functools.partial(m.LDoG, lr=0.8, reps_rel=1e-2, eps=1e-3),
        1e-11,
    ),
    "momo": (
        "momo",
        jl.momo(0.5, 0.8, 0.1, weight_decay=0.1),
        lambda m: functools.partial(m.Momo, lr=0.5, beta=0.8, lb=0.1, weight_decay=0.1),
        1e-6,  # The package keeps its averages of products in float32.
    ),
    "momo with an adapted bound": (
        "momo",
        jl.momo(0.5, 0.8, -3.0, adapt_lower_bound=True),
        lambda m: functools.partial(m.Momo, lr=0.5, beta=0.8, lb=-3.0, use_fstar=True),
        1e-6,
    ),
    "momo_adam": (
        "momo",
        jl.momo_adam(0.3, 0.8, 0.95, 1e-3, 0.1, weight_decay=0.1),
        lambda m: functools.partial(m.MomoAdam, lr=0.3, betas=(0.8, 0.95), eps=1e-3, lb=0.1, weight_decay=0.1),
        1e-6,
    ),
    "momo_adam with an adapted bound": (
        "momo",
        jl.momo_adam(0.3, 0.8, 0.95, 1e-3, -3.0, adapt_lower_bound=True),
        lambda m: functools.partial(m.MomoAdam, lr=0.3, betas=(0.8, 0.95), eps=1e-3, lb=-3.0, use_fstar=True),
        1e-6,
    ),
    "schedule_free_sgd": (
        "schedulefree",
        jl.schedule_free_sgd(0.3, 10, 0.8, 0.1, r=0.75),
        lambda m: functools.partial(m.SGDScheduleFree, lr=0.3, warmup_steps=10, momentum=0.8, weight_decay=0.1, r=0.75),
        1e-11,
    ),
    "schedule_free_adamw": (
        "schedulefree",
        jl.schedule_free_adamw(0.1, 10, 0.8, 0.95, 1e-3, 0.1, weight_lr_power=1.0, r=0.75),
        lambda m: functools.partial(
            m.AdamWScheduleFree,
            lr=0.1,
            warmup_steps=10,
            betas=(0.8, 0.95),
            eps=1e-3,
            weight_decay=0.1,
            weight_lr_power=1.0,
            r=0.75,
        ),
        1e-11,
    ),
    "schedule_free_radam": (
        "schedulefree",
        jl.schedule_free_radam(0.1, 0.8, 0.95, 1e-3, 0.1),
        lambda m: functools.partial(m.RAdamScheduleFree, lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
        1e-11,
    ),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", PACKAGES)
def test_package(name):
    """Twenty-five steps on three parameters, with gradients and losses that depend on the weights."""
    torch = pytest.importorskip("torch")
    package, tx, make, tolerance = PACKAGES[name]
    module = pytest.importorskip(package)
    theirs = functools.partial(torch_path, torch, needs_loss=package == "momo")
    averages = package == "schedulefree"

    def started(leaves):
        optimizer = make(module)(leaves)
        if averages:
            optimizer.train()
        return optimizer

    expected = theirs(started)
    assert np.max(np.abs(expected - START)) > 1e-2
    np.testing.assert_allclose(our_path(tx), expected, rtol=tolerance, atol=tolerance)
    if averages:
        np.testing.assert_allclose(our_path(tx, evaluate=True), theirs(started, evaluate=True), rtol=1e-9, atol=1e-9)
