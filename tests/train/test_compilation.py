"""The counter of compilations: every trace of a counted function, in the thread and block that asked."""

import threading

import jax
import jax.numpy as jnp
import pytest
from training_problems import backend_compiles

from jaxopt_lessons.train import compilation


def counted_double():
    @compilation.counted()
    def double(x):
        return 2 * x

    return double


def test_a_compilation_is_counted_once_with_its_name():
    double = counted_double()
    with compilation.count() as compiled:
        assert double(3.0) == 6.0
        assert double(4.0) == 8.0
    assert compiled == ["double"]
    with compilation.count() as compiled:
        double(5.0)
    assert compiled == []


def test_another_shape_or_dtype_is_another_compilation():
    double = counted_double()
    with compilation.count() as compiled:
        for x in (jnp.ones(2), jnp.ones(3), jnp.ones(2), jnp.ones(2, jnp.int32)):
            double(x)
    assert compiled == ["double"] * 3


def test_it_counts_what_jax_compiles():
    double, x = counted_double(), jnp.ones(7)
    with backend_compiles() as events, compilation.count() as compiled:
        double(x)
        double(x)
    assert len(events) == len(compiled) == 1


def test_outside_of_a_block_nothing_is_counted():
    double = counted_double()
    assert double(3.0) == 6.0
    with compilation.count() as compiled:
        double(3.0)
    assert compiled == []


def test_blocks_inside_blocks_report_to_both():
    first, second, third = (counted_double() for _ in range(3))
    with compilation.count() as outer:
        first(1.0)
        with compilation.count() as inner:
            second(1.0)
        assert outer == ["double", "double"]
        third(1.0)
    assert inner == ["double"]
    assert outer == ["double"] * 3


def test_a_block_ends_when_it_raises():
    double = counted_double()

    def fails():
        with compilation.count() as inner:
            compiled.append(inner)
            raise RuntimeError("inside")

    compiled = []
    with compilation.count() as outer:
        with pytest.raises(RuntimeError, match="inside"):
            fails()
        double(1.0)
    assert compiled == [[]]
    assert outer == ["double"]


def test_threads_count_for_themselves():
    here, there = counted_double(), counted_double()
    counts = []

    def other_thread():
        with compilation.count() as compiled:
            there(1.0)
        counts.append(compiled)

    with compilation.count() as compiled:
        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
        here(1.0)
    assert counts == [["double"]]
    assert compiled == ["double"]


def test_options_are_those_of_jit():
    @compilation.counted(static_argnums=(1,))
    def repeat(x, times):
        return jnp.tile(x, times)

    with compilation.count() as compiled:
        assert repeat(jnp.ones(2), 3).shape == (6,)
        assert repeat(jnp.ones(2), 2).shape == (4,)
        assert repeat(jnp.ones(2), 3).shape == (6,)
    assert compiled == ["repeat", "repeat"]


def test_a_counted_function_has_its_own_name_and_passes_keywords():
    @compilation.counted(static_argnames=("power",))
    def raise_to(x, *, power):
        """Documented."""
        return x**power

    assert raise_to.__name__ == "raise_to"
    assert raise_to.__doc__ == "Documented."
    assert raise_to(jnp.float32(3), power=2) == 9
    assert "pjit" in str(jax.make_jaxpr(lambda x: raise_to(x, power=2))(1.0)) or "jit" in str(
        jax.make_jaxpr(lambda x: raise_to(x, power=2))(1.0)
    )
