"""Learning-rate schedules, drawn before anything is trained.

    python examples/plot_schedules.py

draws two figures: a gallery of the library's schedules, and everything that is scheduled in one optimizer. It needs
matplotlib: ``pip install matplotlib``.

The cells (``# %%``) run one by one in an editor that knows them.
"""

# %% What is drawn

import argparse
from pathlib import Path

from matplotlib.figure import Figure

import jaxopt_lessons as jl

FIGURES = Path(__file__).parent / "figures"
STEPS = 1000
PEAK = 1e-3

# %% A gallery: schedules of 1,000 updates with a peak of 0.001, by what they are good for

GALLERY = {
    "a line down": {
        "linear_to_zero": jl.linear_to_zero(PEAK, STEPS),
        "polynomial, power 2": jl.polynomial_schedule(PEAK, 0.0, 2.0, STEPS),
        "rex": jl.rex_schedule(PEAK, STEPS),
    },
    "a half cosine": {
        "cosine_decay": jl.cosine_decay_schedule(PEAK, STEPS),
        "with warm-up": jl.warmup_cosine_decay_schedule(0.0, PEAK, 100, STEPS),
    },
    "a plateau (wsd)": {
        "1-sqrt": jl.wsd_schedule(0.0, PEAK, 100, 600, 300),
        "linear": jl.wsd_schedule(0.0, PEAK, 100, 600, 300, cooldown="linear"),
    },
    "by the epoch, as in the course": {
        "inverse_time": jl.inverse_time_decay(PEAK, 1.0, steps_per_epoch=100, staircase=True),
        "k / sqrt(epoch)": jl.inverse_square_root_decay(PEAK, steps_per_epoch=100, staircase=True),
    },
    "stairs": {
        "halving": jl.halving_schedule(PEAK, 200),
        "multistep_decay": jl.multistep_decay(PEAK, [500, 750], 0.1),
        "by hand": jl.manual_schedule({0: 5e-4, 300: 8e-4, 900: 2e-4}),
    },
    "curves without an end": {
        "exponential_decay": jl.exponential_decay(PEAK, 300, 0.5),
        "noam": jl.noam_schedule(512, 200, factor=PEAK / jl.noam_schedule(512, 200)(199)),
    },
    "up and down, once": {
        "cosine_onecycle": jl.cosine_onecycle_schedule(STEPS, PEAK),
        "linear_onecycle": jl.linear_onecycle_schedule(STEPS, PEAK),
    },
    "up and down, again": {
        "restarts": jl.cosine_decay_restarts(PEAK, 143, t_mul=2),
        "cyclic": jl.cyclic_schedule(PEAK / 10, PEAK, 125, mode="triangular2"),
    },
    "of your own": {
        "warm-up, hold, decay": jl.warmup(150, PEAK, from_zero=True)
        .then(jl.constant_schedule(PEAK).hold(350))
        .then(jl.rex_schedule(PEAK, 500)),
        "repeated": jl.linear_to_zero(PEAK / 2, 250).repeat(),
    },
}


def gallery() -> Figure:
    """All of them in small panels, three by three."""
    figure = Figure(figsize=(10.5, 8.5), layout="constrained", dpi=120)
    axes = figure.subplots(3, 3, sharex=True, sharey=True)
    for ax, (title, schedules) in zip(axes.flat, GALLERY.items(), strict=True):
        jl.plot({name: one / PEAK for name, one in schedules.items()}, STEPS, ax=ax, quantity=f"learning rate / {PEAK}")
        ax.set_title(title, fontsize="medium", loc="left")
        ax.label_outer()
    axes[0, 0].set_ylim(0, 1.35)  # room for the legends
    return figure


# %% One optimizer, everything in it that changes

OPTIMIZER = jl.chain(
    jl.clip_by_global_norm(1.0),
    jl.adamw(
        jl.warmup(100, PEAK, from_zero=True).then(jl.cosine_decay_schedule(PEAK, 900)),
        b1=jl.cosine_onecycle_momentum_schedule(STEPS, pct_start=0.1),
        weight_decay=jl.manual_schedule({0: 0.0, 100: 0.1, 700: 0.05}),
    ),
)


def optimizer() -> Figure:
    """A panel for each scheduled hyperparameter, the others below."""
    return jl.plot(OPTIMIZER, STEPS, steps_per_epoch=100, constants=True)


# %% Drawing them


def main(arguments: list[str] | None = None) -> list[Path]:
    """Draws both figures and returns where they are."""
    parser = argparse.ArgumentParser(description="draws schedules")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="the directory to save them in")
    directory = parser.parse_args(arguments).figures
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in {"schedules": gallery, "plot_optimizer": optimizer}.items():
        paths.append(directory / f"{name}.png")
        draw().savefig(paths[-1])
        print(f"figure: {paths[-1]}")
    return paths


if __name__ == "__main__":
    main()
