"""Settings under which the whole suite runs: nothing is promoted or broadcast silently, and there are eight devices."""

import builtins
import os
import signal
import zlib

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in what a script starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def uninstalled(monkeypatch):
    """``uninstalled(package)``: from here on as on a machine where it is not installed."""
    original = builtins.__import__

    def hide(package):
        def without(name, *args, **kwargs):
            if name.partition(".")[0] == package:
                raise ImportError(name)
            return original(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)

    return hide


def pytest_addoption(parser):
    parser.addoption(
        "--sample",
        type=int,
        default=1,
        metavar="N",
        help="run one in N of the cases of each parametrized test, and one in N / 10 of the other tests",
    )


def pytest_collection_modifyitems(config, items):
    """Keeps the cases whose name has a checksum divisible by N, and long ones only on request."""
    n = config.getoption("--sample")
    without_long = "long" not in config.getoption("markexpr")
    kept, left_out = [], []
    for item in items:
        one_in = n if "[" in item.nodeid else max(1, n // 10)
        chosen = zlib.crc32(item.nodeid.encode()) % one_in == 0
        chosen = chosen and not (without_long and item.get_closest_marker("long"))
        (kept if chosen else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


_since = 0


def pytest_runtest_teardown():
    """Lets go of compiled programs now and then: thousands of tests keep gigabytes of them."""
    global _since
    _since += 1
    if _since == 400:
        _since = 0
        jax.clear_caches()
