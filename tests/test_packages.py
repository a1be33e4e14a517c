"""Other packages as oracles, in float64. Runs where the extra ``oracles`` is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
    """The package takes 0 for the gradient before the first; here nothing has changed then, as in the paper."""
    optimizer = package.MARS(parameters, lr=0.1, betas=(0.8, 0.95), gamma=0.1, eps=0.0, **arguments)
    (parameter,) = parameters

    def before_step(*_):
        parameter.grad.mul_(scale)
        if not optimizer.state[parameter]:
            optimizer.init_group(optimizer.param_groups[0])
            optimizer.state[parameter]["last_grad"].copy_(parameter.grad)

    optimizer.register_step_pre_hook(before_step)
    return optimizer


PAIRS = {
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

    with jax.enable_x64(True):
        params = jnp.asarray(start)
        state = tx.init(params)
        for n in noise:
            updates, state = tx.update(jnp.asarray(n) + 0.5 * params, state, params)
            params = jl.apply_updates(params, updates)
    tolerance = TOLERANCES.get(name, 1e-12)
    np.testing.assert_allclose(np.asarray(params), weights.detach().numpy(), rtol=tolerance, atol=tolerance)
