"""PyTorch's schedulers as oracles. Runs where the extra ``oracles`` is installed."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lessons as jl

pytestmark = pytest.mark.oracle

RATE, STEPS = 0.8, 40
BOTH = {"cycle_momentum": True}

PAIRS = {
    "StepLR": (jl.step_decay(RATE, 7, 0.3), {"step_size": 7, "gamma": 0.3}),
    "MultiStepLR": (jl.multistep_decay(RATE, [4, 5, 21], 0.3), {"milestones": [4, 5, 21], "gamma": 0.3}),
    "ExponentialLR": (jl.exponential_decay(RATE, 1, 0.9), {"gamma": 0.9}),
    "ConstantLR": (jl.piecewise_constant_schedule(RATE / 4, {9: 4.0}), {"factor": 0.25, "total_iters": 9}),
    "LinearLR": (
        jl.warmup_constant_schedule(RATE / 4, RATE, 9),
        {"start_factor": 0.25, "end_factor": 1.0, "total_iters": 9},
    ),
    "PolynomialLR": (jl.polynomial_schedule(RATE, 0.0, 1.7, 30), {"total_iters": 30, "power": 1.7}),
    "CosineAnnealingLR": (
        jl.cosine_decay_schedule(RATE, STEPS, alpha=0.1),
        {"T_max": STEPS, "eta_min": 0.1 * RATE},
    ),
    "CosineAnnealingWarmRestarts": (
        jl.cosine_decay_restarts(RATE, 3, t_mul=2, alpha=0.1),
        {"T_0": 3, "T_mult": 2, "eta_min": 0.1 * RATE},
    ),
    "CosineAnnealingWarmRestarts of one length": (
        jl.cosine_decay_restarts(RATE, 6, t_mul=1),
        {"T_0": 6, "T_mult": 1},
    ),
    "LambdaLR": (
        jl.noam_schedule(64, 8),
        {"lr_lambda": lambda t: 64**-0.5 * min((t + 1) ** -0.5, (t + 1) * 8**-1.5) / RATE},
    ),
    "OneCycleLR": (  # its last count is total_steps - 1, and its phases end one update earlier
        (jl.cosine_onecycle_schedule(40, 0.8, 0.3), jl.cosine_onecycle_momentum_schedule(40, 0.8, 0.95, 0.3)),
        {"max_lr": 0.8, "total_steps": 41, "pct_start": 13 / 41, "base_momentum": 0.8},
    ),
    "OneCycleLR in three phases": (
        (
            jl.linear_onecycle_schedule(40, 0.8, 0.3, 0.6),
            jl.linear_onecycle_momentum_schedule(40, 0.8, 0.95, 0.3, 0.6),
        ),
        {
            "max_lr": 0.8,
            "total_steps": 41,
            "pct_start": 13 / 41,
            "base_momentum": 0.8,
            "three_phase": True,
            "anneal_strategy": "linear",
        },
    ),
    **{
        f"CyclicLR {mode}": (
            (
                jl.cyclic_schedule(0.1, 0.8, 4, 7, mode=mode, gamma=0.95),
                jl.cyclic_schedule(0.9, 0.7, 4, 7, mode=mode, gamma=0.95),
            ),
            {
                "base_lr": 0.1,
                "max_lr": 0.8,
                "step_size_up": 4,
                "step_size_down": 7,
                "mode": mode,
                "gamma": 0.95,
                "base_momentum": 0.7,
                "max_momentum": 0.9,
            },
        )
        for mode in ("triangular", "triangular2", "exp_range")
    },
}


@pytest.mark.parametrize("name", PAIRS)
def test_torch(name):
    torch = pytest.importorskip("torch")
    schedules, arguments = PAIRS[name]
    schedules = schedules if isinstance(schedules, tuple) else (schedules,)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=RATE, momentum=0.9)
    scheduler = getattr(torch.optim.lr_scheduler, name.split()[0])(optimizer, **arguments)
    theirs = []
    for _ in range(STEPS + 1):
        (group,) = optimizer.param_groups
        theirs.append((float(group["lr"]), float(group["momentum"])))
        optimizer.step()
        scheduler.step() if len(theirs) <= STEPS else None
    for schedule, expected in zip(schedules, np.transpose(theirs), strict=False):
        np.testing.assert_allclose(schedule(jnp.arange(STEPS + 1)), expected, rtol=3e-6, atol=1e-7)
