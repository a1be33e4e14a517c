"""PyTorch as an oracle, in float64. Runs where the extra ``oracles`` is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import weights_in_float64

import jaxopt_lessons as jl

pytestmark = pytest.mark.oracle

PAIRS = {
    "sgd": (jl.sgd(0.1), lambda torch, p: torch.optim.SGD(p, lr=0.1)),
    "momentum": (jl.sgd(0.1, 0.8), lambda torch, p: torch.optim.SGD(p, lr=0.1, momentum=0.8)),
    "nesterov": (
        jl.sgd(0.1, 0.8, nesterov=True),
        lambda torch, p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True),
    ),
    "rmsprop": (
        jl.rmsprop(0.1, 0.8, eps=1e-3, eps_in_sqrt=False),
        lambda torch, p: torch.optim.RMSprop(p, lr=0.1, alpha=0.8, eps=1e-3),
    ),
    "centered rmsprop": (
        jl.rmsprop(0.1, 0.8, eps=1e-3, eps_in_sqrt=False, centered=True),
        lambda torch, p: torch.optim.RMSprop(p, lr=0.1, alpha=0.8, eps=1e-3, centered=True),
    ),
    "rmsprop with momentum": (
        jl.rmsprop(0.1, 0.8, eps=1e-3, eps_in_sqrt=False, momentum=0.7),
        lambda torch, p: torch.optim.RMSprop(p, lr=0.1, alpha=0.8, eps=1e-3, momentum=0.7),
    ),
    "adagrad": (
        jl.adagrad(0.1, 0.2, eps=0.0),  # the two put eps in different places
        lambda torch, p: torch.optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.2, eps=0.0),
    ),
    "adam": (
        jl.adam(0.1, 0.8, 0.95, eps=1e-3),
        lambda torch, p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.95), eps=1e-3),
    ),
    "adamw": (
        jl.adamw(0.1, 0.8, 0.95, eps=1e-3, weight_decay=0.3),
        lambda torch, p: torch.optim.AdamW(p, lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3),
    ),
    "rprop": (
        jl.rprop(0.1, 0.6, 1.3, 0.05, 0.2),
        lambda torch, p: torch.optim.Rprop(p, lr=0.1, etas=(0.6, 1.3), step_sizes=(0.05, 0.2)),
    ),
    "rprop from outside its limits": (
        jl.rprop(1.0, max_step_size=0.2),
        lambda torch, p: torch.optim.Rprop(p, lr=1.0, step_sizes=(1e-6, 0.2)),
    ),
    "adadelta": (
        jl.adadelta(2.0, 0.8, eps=1e-3, weight_decay=0.1),
        lambda torch, p: torch.optim.Adadelta(p, lr=2.0, rho=0.8, eps=1e-3, weight_decay=0.1),
    ),
    "adamax": (
        jl.adamax(0.1, 0.8, 0.95, eps=1e-3),
        lambda torch, p: torch.optim.Adamax(p, lr=0.1, betas=(0.8, 0.95), eps=1e-3),
    ),
    "nadam": (
        jl.nadam_dozat(0.1, 0.8, 0.95, eps=1e-3, momentum_decay=0.1),
        lambda torch, p: torch.optim.NAdam(p, lr=0.1, betas=(0.8, 0.95), eps=1e-3, momentum_decay=0.1),
    ),
    "radam": (
        jl.radam(0.1, 0.8, 0.95, eps=0.0),  # torch has eps beside the uncorrected root
        lambda torch, p: torch.optim.RAdam(p, lr=0.1, betas=(0.8, 0.95), eps=0.0),
    ),
    "radam at its default betas": (jl.radam(0.1, eps=0.0), lambda torch, p: torch.optim.RAdam(p, lr=0.1, eps=0.0)),
    "amsgrad": (
        jl.amsgrad(0.1, 0.8, 0.95, eps=1e-3),
        lambda torch, p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.95), eps=1e-3, amsgrad=True),
    ),
    "clip by norm, then adam": (
        jl.chain(jl.clip_by_global_norm(0.5), jl.adam(0.1)),
        lambda torch, p: torch.optim.Adam(p, lr=0.1),
    ),
}


@pytest.fixture
def torch():
    """PyTorch with float64 as its default, which is then the dtype of the scalars in its states too."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("kind", ["real", "complex"])
def test_twenty_steps(name, kind, torch):
    """The same weights after twenty steps with gradients that depend on the weights."""
    tx, make = PAIRS[name]
    rng = np.random.default_rng(0)
    start, noise = rng.standard_normal((4, 3)), rng.standard_normal((20, 4, 3))
    if kind == "complex":
        start, noise = start + 1j * start[::-1], noise + 1j * noise[::-1]

    weights = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = make(torch, [weights])
    for n in noise:
        weights.grad = torch.from_numpy(n) + 0.5 * weights.detach()
        if "clip" in name:
            # torch adds 1e-6 to the norm
            weights.grad *= min(1.0, 0.5 / float(weights.grad.abs().pow(2).sum().sqrt()))
        optimizer.step()

    params = weights_in_float64(tx, start, noise)
    tolerance = 1e-12 if "adamw" not in name else 1e-11
    np.testing.assert_allclose(params, weights.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "name", ["cross_entropy", "binary_cross_entropy_with_logits", "huber_loss", "mse_loss", "soft_margin"]
)
def test_losses(name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 5)) * 3, rng.standard_normal((6, 5))
    labels = rng.integers(0, 5, 6)
    with jax.enable_x64(True):
        ours = {
            "cross_entropy": lambda: jl.losses.softmax_cross_entropy_with_integer_labels(x, labels),
            "binary_cross_entropy_with_logits": lambda: jl.losses.sigmoid_binary_cross_entropy(x, y > 0),
            "huber_loss": lambda: jl.losses.huber_loss(x, y, delta=0.7),
            "mse_loss": lambda: jl.losses.squared_error(x, y),
            "soft_margin": lambda: jl.losses.softmax_cross_entropy(x, np.exp(y) / np.exp(y).sum(1, keepdims=True)),
        }[name]()
    f, tx, ty = torch.nn.functional, torch.from_numpy(x), torch.from_numpy(y)
    theirs = {
        "cross_entropy": lambda: f.cross_entropy(tx, torch.from_numpy(labels), reduction="none"),
        "binary_cross_entropy_with_logits": lambda: f.binary_cross_entropy_with_logits(
            tx, (ty > 0).double(), reduction="none"
        ),
        "huber_loss": lambda: f.huber_loss(tx, ty, delta=0.7, reduction="none"),
        "mse_loss": lambda: f.mse_loss(tx, ty, reduction="none"),
        "soft_margin": lambda: f.cross_entropy(tx, torch.softmax(ty, 1), reduction="none"),
    }[name]()
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-12)


AVERAGES = {
    "ema": (
        lambda tx: jl.ema_params(tx, 0.9, debias=False),
        lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn(0.9)},
    ),
    "swa": (jl.swa_params, lambda utils: {}),
    "swa at the end of cycles": (lambda tx: jl.swa_params(tx, start=5, every=3), lambda utils: {}),
}


@pytest.mark.parametrize("name", AVERAGES)
def test_averages_of_parameters(name):
    """``torch.optim.swa_utils``, updated after the same steps."""
    torch = pytest.importorskip("torch")
    make, arguments = AVERAGES[name]
    start, every = (5, 3) if "cycles" in name else (0, 1)
    rng = np.random.default_rng(0)
    model = torch.nn.Linear(3, 4, bias=False).double()
    weights = model.weight
    first = weights.detach().numpy().copy()
    optimizer = torch.optim.Adam([weights], lr=0.1)
    averaged = torch.optim.swa_utils.AveragedModel(model, **arguments(torch.optim.swa_utils))
    noise = rng.standard_normal((20, *first.shape))
    for t, n in enumerate(noise, 1):
        weights.grad = torch.from_numpy(n) + 0.5 * weights.detach()
        optimizer.step()
        if t > start and (t - start) % every == 0:
            averaged.update_parameters(model)

    with jax.enable_x64(True):
        tx, params = make(jl.adam(0.1)), jnp.asarray(first)
        state = tx.init(params)
        for n in noise:
            updates, state = tx.update(jnp.asarray(n) + 0.5 * params, state, params)
            params = jl.apply_updates(params, updates)
        actual = jl.eval_params(tx, state, params)
    np.testing.assert_allclose(actual, averaged.module.weight.detach().numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (5,), (2, 4, 3)], ids=str)
def test_adafactor(shape):
    """torch factors the last two axes, here the largest, limits the learning rate and adds a tiny eps elsewhere."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    first, noise = rng.standard_normal(shape), rng.standard_normal((20, *shape))
    weights = torch.nn.Parameter(torch.from_numpy(first.copy()))
    optimizer = torch.optim.Adafactor([weights], lr=0.5, beta2_decay=-0.7, eps=(1e-15, 1e-3))
    for n in noise:
        weights.grad = torch.from_numpy(n) + 0.5 * weights.detach()
        optimizer.step()

    def rate(count):
        return jnp.minimum(0.5, 1 / jnp.sqrt(count.astype(jnp.float64) + 1))

    tx = jl.adafactor(rate, min_dim_size_to_factor=1, decay_rate=0.7)
    with jax.enable_x64(True):
        params = jnp.asarray(first)
        state = tx.init(params)
        for n in noise:
            updates, state = tx.update(jnp.asarray(n) + 0.5 * params, state, params)
            params = jl.apply_updates(params, updates)
    np.testing.assert_allclose(params, weights.detach().numpy(), rtol=1e-7, atol=1e-7)
