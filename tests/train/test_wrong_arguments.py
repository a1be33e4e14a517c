"""What one may well try with ``fit``, and what the message says."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxopt_lessons as jl

STEP = jl.make_step(lambda w, x: (w - x) ** 2, jl.sgd(0.25))
STATE = jl.init_state(0.0, STEP)
DATA = jnp.array([2.0])


def fit(state=STATE, **options):
    return jl.fit(STEP, state, DATA, epochs=1, **options)


class Each(jl.Observer):
    every = 10  # pyright: ignore[reportAssignmentType]


NAMES: Any = ["loss"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"state": {"w": 0.0}},
            r"fit: state must be made by init_state\(params, step\); got \{'w': 0.0\} of type dict",
        ),
        (
            {"plan": jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])},
            r"fit: plan .* make_plan\(mesh\); got Mesh",
        ),
        ({"val": lambda epoch: [DATA]}, r"fit: val must be arrays .*; got function. Only the data to train on"),
        ({"val": iter([DATA])}, r"fit: val must be arrays .*; got list_iterator"),
        ({"observers": jl.EarlyStopping("loss")}, r"fit: observers must be a list of observers; got EarlyStopping\("),
        ({"observers": [Each()]}, r"fit: Each: every must be an Every, such as Every\(steps=10\); got 10"),
    ],
)
def test_message(options, message):
    with pytest.raises(TypeError, match=message):
        fit(**options)


def test_the_columns_of_a_figure_are_no_list():
    with pytest.raises(
        TypeError, match=r"plot: columns are given one by one, plot\('loss', 'val_loss'\); got \['loss'\]"
    ):
        fit().history.plot(NAMES)


def test_a_state_of_another_precision_is_refused_by_path():
    with jax.enable_x64(True):
        wide = jl.init_state({"w": jnp.zeros(3, "float64")}, jl.sgd(0.1))
    with pytest.raises(
        jl.InputError, match="^fit: the state has float64 at 'params/w', but JAX calculates with 32 bits"
    ):
        jl.fit(jl.make_step(lambda p, x: jnp.sum(p["w"]) * x, jl.sgd(0.1)), wide, jnp.ones(4), epochs=1)
