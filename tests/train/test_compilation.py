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


# ---------------------------------------------------------------------------------------------------------------------
# Why something was compiled again
# ---------------------------------------------------------------------------------------------------------------------


def test_what_is_compiled_for_the_first_time_needs_no_reason():
    with compilation.count() as compiled:
        counted_double()(jnp.ones(2))
    assert (compiled, compiled.again) == (["double"], [])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (({"a": jnp.ones(3)},), "x['a'] was float32[2], is float32[3]"),
        (({"a": jnp.ones(2, jnp.int32)},), "x['a'] was float32[2], is int32[2]"),
        (({"b": jnp.ones(2)},), "x['a'] is gone; x['b'] is new"),
    ],
)
def test_another_argument_is_named(arguments, reason):
    @compilation.counted()
    def double(x):
        return jax.tree.map(lambda leaf: 2 * leaf, x)

    double({"a": jnp.ones(2)})
    with compilation.count() as outer, compilation.count() as compiled:
        double(*arguments)
    assert compiled.again == outer.again == [f"double was compiled again: {reason}"]


def test_another_sharding_is_named():
    @compilation.counted()
    def double(x):
        return 2 * x

    mesh = jax.make_mesh((8,), ("data",))
    double(jnp.ones(8))
    with compilation.count() as compiled:
        double(jax.device_put(jnp.ones(8), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))))
    assert len(compiled) == len(compiled.again) == 1
    assert compiled.again[0].startswith("double was compiled again: x was on no certain device, is NamedSharding(")


def test_many_differences_are_counted():
    @compilation.counted()
    def double(x):
        return [2 * leaf for leaf in x]

    double([jnp.ones(2)] * 5)
    with compilation.count() as compiled:
        double([jnp.ones(3)] * 5)
    assert compiled.again[0].endswith("x[2] was float32[2], is float32[3], and 2 more")


def test_functions_that_share_what_is_known_are_compared():
    known = {}
    first, second = (compilation.counted(known)(function) for function in (lambda x: x + 1, lambda x: x + 2))
    first(jnp.ones(2))
    with compilation.count() as compiled:
        second(jnp.ones(2))
    assert (len(compiled), compiled.again) == (1, [])
    with compilation.count() as compiled:
        second(jnp.ones(3))
    assert len(compiled.again) == 1
