"""Other packages as oracles, in float64. Runs where the extra ``oracles`` is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import weights_in_float64

import jaxopt_lessons as jl

pytestmark = pytest.mark.oracle


def yogi_from_zero(package, parameters):
    """The package starts the momentum at the first value of ``nu`` too; here it starts at 0, as in the paper."""
    optimizer = package.Yogi(
        parameters, lr=0.1, betas=(0.8, 0.95), eps=1e-2, initial_accumulator=1e-6, adam_debias=False
    )
    optimizer.init_group(optimizer.param_groups[0])
    for parameter in parameters:
        optimizer.state[parameter]["exp_avg"].zero_()
    return optimizer


def mars(package, parameters, scale=1.0, **arguments):
    """The package takes 0 for the gradient before the first, as the authors do; here nothing has changed then."""
    optimizer = package.MARS(parameters, lr=0.1, betas=(0.8, 0.95), gamma=0.1, eps=0.0, **arguments)
    (parameter,) = parameters

    def before_step(*_):
        parameter.grad.mul_(scale)
        if not optimizer.state[parameter]:
            optimizer.init_group(optimizer.param_groups[0])
            optimizer.state[parameter]["last_grad"].copy_(parameter.grad)

    optimizer.register_step_pre_hook(before_step)
    return optimizer


def adam_mini(package, parameters, name, **arguments):
    """The package knows blocks by the names of the parameters."""
    named = [(name, parameter) for parameter in parameters]
    return package.Adam_mini(named, 0.1, (0.8, 0.95), 1e-3, verbose=False, **arguments)


PAIRS = {
    "adam_mini of a neuron": (
        "adam_mini",
        jl.adam_mini(0.1, 0.8, 0.95, 1e-3, weight_decay=0.3, blocks=(0,)),
        lambda package, p: adam_mini(package, p, "mlp", weight_decay=0.3),
    ),
    "adam_mini of a head": (
        "adam_mini",
        jl.adam_mini(0.1, 0.8, 0.95, 1e-3, weight_decay=0.3, blocks=((0, 2),)),
        lambda package, p: adam_mini(package, p, "wq", weight_decay=0.3, dim=6, n_heads=6),  # 6 entries a head
    ),
    "adam_mini of a tensor": (
        "adam_mini",
        jl.adam_mini(0.1, 0.8, 0.95, 1e-3, blocks=()),
        lambda package, p: adam_mini(package, p, "norm"),
    ),
    "adam_mini of an entry": (
        "adam_mini",
        jl.adam_mini(0.1, 0.8, 0.95, 1e-3, blocks=(0, 1)),
        lambda package, p: adam_mini(package, p, "bias"),
    ),
    "came": (
        "came_pytorch",
        jl.came(0.01, weight_decay=0.3),
        lambda package, p: package.CAME(p, 0.01, weight_decay=0.3),
    ),
    "came with other numbers": (
        "came_pytorch",
        jl.came(0.01, 0.8, 0.95, 0.97, 1e-3, 1e-2, 0.7),
        lambda package, p: package.CAME(p, 0.01, (1e-3, 1e-2), 0.7, (0.8, 0.95, 0.97)),
    ),
    "lion": (
        "lion_pytorch",
        jl.lion(0.1, 0.8, 0.95, weight_decay=0.3),
        lambda package, p: package.Lion(p, lr=0.1, betas=(0.8, 0.95), weight_decay=0.3),
    ),
    "lion of pytorch_optimizer": (
        "pytorch_optimizer",
        jl.lion(0.1, 0.8, 0.95, weight_decay=0.3),
        lambda package, p: package.Lion(p, lr=0.1, betas=(0.8, 0.95), weight_decay=0.3),
    ),
    "yogi": ("pytorch_optimizer", jl.yogi(0.1, 0.8, 0.95, eps=1e-2), yogi_from_zero),
    "adabelief": (
        "pytorch_optimizer",
        jl.adabelief(0.1, 0.8, 0.95, eps=1e-4, eps_root=1e-4),
        lambda package, p: package.AdaBelief(p, lr=0.1, betas=(0.8, 0.95), eps=1e-4, rectify=False),
    ),
    "signum": (
        "pytorch_optimizer",
        jl.signum(0.1, 0.8),
        lambda package, p: package.SignSGD(p, lr=0.1, momentum=0.8),
    ),
    "adan": (
        "pytorch_optimizer",
        jl.adan(0.1, 0.9, 0.8, 0.95, eps=1e-3, eps_root=0.0, weight_decay=0.3),
        lambda package, p: package.Adan(p, 0.1, (0.9, 0.8, 0.95), 0.3, weight_decouple=True, eps=1e-3),
    ),
    # It adds eps before the correction.
    "laprop": (
        "pytorch_optimizer",
        jl.laprop(0.1, 0.8, 0.95, eps=0.0),
        lambda package, p: package.LaProp(p, lr=0.1, betas=(0.8, 0.95), eps=0.0),
    ),
    "qhm": (
        "pytorch_optimizer",
        jl.qhm(0.1, 0.8, 0.6),
        lambda package, p: package.QHM(p, lr=0.1, momentum=0.8, nu=0.6),
    ),
    "qhadam": (
        "pytorch_optimizer",
        jl.qhadam(0.1, 0.8, 0.95, 0.6, 0.7, eps=1e-3, weight_decay=0.3),
        lambda package, p: package.QHAdam(p, 0.1, (0.8, 0.95), (0.6, 0.7), 0.3, weight_decouple=True, eps=1e-3),
    ),
    "mars": (
        "pytorch_optimizer",
        jl.mars(0.1, 0.8, 0.95, gamma=0.1, eps=0.0, weight_decay=0.3),
        lambda package, p: mars(package, p, weight_decay=0.3),
    ),
    "mars without clipping": (
        "pytorch_optimizer",
        jl.chain(jl.scale(0.15), jl.mars(0.1, 0.8, 0.95, gamma=0.1, eps=0.0)),
        lambda package, p: mars(package, p, scale=0.15),
    ),
    "stable_adamw": (
        "pytorch_optimizer",
        jl.stable_adamw(0.1, 0.8, 0.95, eps=1e-3, weight_decay=0.3),
        lambda package, p: package.StableAdamW(p, lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3),
    ),
    "madgrad": (
        "pytorch_optimizer",
        jl.madgrad(0.1, 0.8, weight_decay=0.3),
        lambda package, p: package.MADGRAD(p, lr=0.1, momentum=0.8, weight_decay=0.3),
    ),
    "adam_atan2": (
        "adam_atan2_pytorch",
        jl.adam_atan2(0.1, 0.8, 0.9, a=1.1, b=0.7, weight_decay=0.3),
        lambda package, p: package.AdamAtan2(p, lr=0.1, betas=(0.8, 0.9), a=1.1, b=0.7, weight_decay=0.3),
    ),
    "cautious": (
        "adam_atan2_pytorch",
        jl.chain(
            jl.cautious(jl.scale_by_adam_atan2(0.8, 0.9), eps=1e-5, along_gradient=True),
            jl.scale_by_learning_rate(0.1),
        ),
        lambda package, p: package.AdamAtan2(p, lr=0.1, betas=(0.8, 0.9), cautious_factor=0.0),
    ),
    "add_cautious_weight_decay": (
        "adam_atan2_pytorch",
        jl.chain(jl.scale_by_adam_atan2(0.8, 0.9), jl.add_cautious_weight_decay(0.5), jl.scale_by_learning_rate(0.25)),
        lambda package, p: package.AdamAtan2(p, lr=0.25, betas=(0.8, 0.9), weight_decay=0.5, cautious_wd=True),
    ),
}

TOLERANCES = {
    # These add 1e-15 to the squares.
    "laprop": 1e-7,
    "mars": 1e-10,
    "mars without clipping": 1e-10,
    # This keeps the weights of its averages in float32.
    "qhadam": 1e-6,
}


@pytest.mark.parametrize("name", PAIRS)
def test_twenty_steps(name):
    """The same weights after twenty steps with gradients that depend on the weights."""
    torch = pytest.importorskip("torch")
    package_name, tx, make = PAIRS[name]
    package = pytest.importorskip(package_name)
    rng = np.random.default_rng(0)
    start, noise = rng.standard_normal((4, 3)), rng.standard_normal((20, 4, 3))

    weights = torch.nn.Parameter(torch.from_numpy(start.copy()))
    weights.grad = torch.zeros_like(weights)  # some of them look at it before the first step
    optimizer = make(package, [weights])
    for n in noise:
        weights.grad = torch.from_numpy(n) + 0.5 * weights.detach()
        optimizer.step()

    params = weights_in_float64(tx, start, noise)
    tolerance = TOLERANCES.get(name, 1e-12)
    np.testing.assert_allclose(params, weights.detach().numpy(), rtol=tolerance, atol=tolerance)


def test_came_on_vectors_and_on_stacks_of_matrices():
    """Vectors are not factored; of three axes the last two are."""
    torch, package = pytest.importorskip("torch"), pytest.importorskip("came_pytorch")
    rng = np.random.default_rng(0)
    first = rng.standard_normal(5), rng.standard_normal((2, 4, 3))
    weights = [torch.nn.Parameter(torch.from_numpy(x.copy())) for x in first]
    optimizer = package.CAME(weights, 0.01)
    tx = jl.came(0.01)
    with jax.enable_x64(True):
        params = tuple(map(jnp.asarray, first))
        state = tx.init(params)
        for _ in range(20):
            grads = [rng.standard_normal(x.shape) + 0.5 * x.detach().numpy() for x in weights]
            for weight, grad in zip(weights, grads, strict=True):
                weight.grad = torch.from_numpy(grad)
            optimizer.step()
            updates, state = tx.update(tuple(map(jnp.asarray, grads)), state, params)
            params = jl.apply_updates(params, updates)
    for ours, theirs in zip(params, weights, strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("adaptive", [False, True])
def test_sharpness_aware_minimization(adaptive):
    """Twenty steps on a function of two leaves, with the second gradient at the point the package climbed to."""
    torch, package = pytest.importorskip("torch"), pytest.importorskip("pytorch_optimizer")
    rng = np.random.default_rng(0)
    first = rng.standard_normal((4, 3)), rng.standard_normal(3)
    weights = [torch.nn.Parameter(torch.from_numpy(x.copy())) for x in first]
    optimizer = package.SAM(weights, torch.optim.Adam, rho=0.3, adaptive=adaptive, perturb_eps=0.0, lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = sum((x**4 / 4 + torch.sin(3 * x)).sum() for x in weights)
        loss.backward()
        return loss

    for _ in range(20):
        closure()
        optimizer.step(closure)

    climb = jl.adaptive_normalize(eta=0.0) if adaptive else jl.normalize()
    tx = jl.sam(jl.adam(0.1), jl.chain(climb, jl.scale(-0.3)), opaque_mode=True)

    def grad_fn(params, i=0):
        return jax.tree.map(lambda x: x**3 + 3 * jnp.cos(3 * x), params)

    with jax.enable_x64(True):
        params = tuple(map(jnp.asarray, first))
        state = tx.init(params)
        for _ in range(20):
            updates, state = tx.update(grad_fn(params), state, params, grad_fn=grad_fn)
            params = jl.apply_updates(params, updates)
    for ours, theirs in zip(params, weights, strict=True):
        # The package calculates the norm in float32.
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-7, atol=1e-7)


def test_lookahead():
    """Fast weights at every step, for two and a half cycles and more."""
    torch, package = pytest.importorskip("torch"), pytest.importorskip("pytorch_optimizer")
    rng = np.random.default_rng(0)
    first, noise = rng.standard_normal((4, 3)), rng.standard_normal((22, 4, 3))
    weights = torch.nn.Parameter(torch.from_numpy(first.copy()))
    optimizer = package.Lookahead(torch.optim.Adam([weights], lr=0.1), k=5, alpha=0.3, pullback_momentum="none")
    with jax.enable_x64(True):
        tx, params = jl.lookahead(jl.adam(0.1), sync_period=5, slow_step_size=0.3), jnp.asarray(first)
        state = tx.init(params)
        for n in noise:
            weights.grad = torch.from_numpy(n) + 0.5 * weights.detach()
            optimizer.step()
            updates, state = tx.update(jnp.asarray(n) + 0.5 * params, state, params)
            params = jl.apply_updates(params, updates)
            np.testing.assert_allclose(params, weights.detach().numpy(), rtol=1e-10, atol=1e-12)
