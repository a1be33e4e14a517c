"""Mutation testing: changes the package in one place at a time and looks whether a test notices.

    python tests/mutation/run.py                       # all mutants: hours
    python tests/mutation/run.py --one-in 100          # a sample, always the same one
    python tests/mutation/run.py --files 'optimizers/adam*'

The changes are cosmic-ray's. Each is tried in a process forked from one that has imported JAX, and in memory: the
files stay as they are. A mutant that no test notices must stand in ``survivors.md`` with the reason.
"""

import argparse
import fnmatch
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE)]

import which_tests  # noqa: E402
from which_tests import CACHE  # noqa: E402

# What a mutant does not change is compiled once, by the controls, and not again for each: Python's and XLA's programs.
sys.dont_write_bytecode, sys.pycache_prefix = False, str(CACHE / "python")
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": str(CACHE / "xla"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

import hypothesis  # noqa: E402, F401
import jax  # noqa: E402, F401
import optax  # noqa: E402, F401
import pytest  # noqa: E402
from mutants import Mutant, files, mutants_of  # noqa: E402

CONTROLS = [(f"jaxopt_lessons.{name}", 1) for name in ("optimizers.sign", "schedules.linear", "train.shuffle")]
"""Modules and rounds of tests that must pass without any change, or everything would seem to be noticed."""

NO_ROUND = 7  # none of pytest's exit codes
SURVIVED, TIMED_OUT, NO_CHANGE = "survived", "timed out", "no change"


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the changed source of one module."""

    def __init__(self, module: str, source: str):
        self.module, self.source = module, source

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        self.origin = spec.origin
        return importlib.util.spec_from_file_location(fullname, spec.origin, loader=self)

    def exec_module(self, module):
        exec(compile(self.source, self.origin, "exec"), module.__dict__)


def in_a_child(function, timeout: float) -> int | None:
    """The exit status of a process that runs this function; None if it took too long."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX warns of forking with threads: it has started none here
        pid = os.fork()
    if pid == 0:
        status = 3
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            status = function()
        finally:
            os._exit(status)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def asked(module: str, source: str | None, which: int) -> int:
    """In a child: the status of one round of tests with the changed module, or that there is no such round."""
    if source is not None:
        sys.meta_path.insert(0, Changed(module, source))
    rounds = which_tests.rounds(module)
    if which >= len(rounds):
        return NO_ROUND
    nothing = pytest.ExitCode.NO_TESTS_COLLECTED
    status = which_tests.run(rounds[which], module) if rounds[which].files else nothing
    return 0 if status == nothing else int(status)


def fate(mutant: Mutant, timeout: float) -> str:
    source = mutant.source
    if not mutant.is_a_change:
        return NO_CHANGE
    which = 0
    while True:
        status = in_a_child(lambda which=which: asked(mutant.module, source, which), timeout)
        if status is None:
            return TIMED_OUT
        if status == NO_ROUND:
            return SURVIVED
        if status == pytest.ExitCode.USAGE_ERROR:
            raise RuntimeError(f"{mutant.module}: pytest refuses the arguments of round {which}")
        if status != 0:
            return f"noticed in round {which}"
        which += 1


def explained() -> dict[str, str]:
    """The survivors that are known, with the reason: lines ``- `key` reason``."""
    lines = (HERE / "survivors.md").read_text().splitlines()
    entries = (line[3:].split("`: ", 1) for line in lines if line.startswith("- `"))
    return dict(entries)


def name_of(mutant: Mutant) -> str:
    return f"{mutant.path} {mutant.operator} {mutant.occurrence}"


def chosen_mutants(one_in: int, pattern: str) -> list[Mutant]:
    mutants = [mutant for path in files() if fnmatch.fnmatch(path, pattern) for mutant in mutants_of(path)]
    chosen = [mutant for mutant in mutants if zlib.crc32(name_of(mutant).encode()) % one_in == 0]
    return sorted(chosen, key=lambda m: zlib.crc32(name_of(m)[::-1].encode()))  # a run that is cut short is a sample


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one-in", type=int, default=1, metavar="N", help="try one in N of the mutants")
    parser.add_argument("--files", default="*", metavar="PATTERN", help="of the files of the package")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one round of tests")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no mutant after so many minutes")
    parser.add_argument("--log", type=Path, help="file for the fates; those that stand in it are not tried again")
    parser.add_argument(
        "--check",
        action="store_true",
        help="run the tests of every module without any change first, not those of three",
    )
    options = parser.parse_args()

    mutants = chosen_mutants(options.one_in, options.files)
    fates: dict[str, str] = {}
    if options.log and options.log.exists():
        fates = dict(json.loads(line)[:2] for line in options.log.read_text().splitlines())
    end = time.monotonic() + 60 * options.minutes
    modules = sorted({mutant.module for mutant in mutants})

    controls = [(module, which) for module in modules for which in range(3)] if options.check else CONTROLS
    for module, which in controls:
        status = in_a_child(lambda module=module, which=which: asked(module, None, which), options.timeout)
        if status not in (0, NO_ROUND):
            print(f"{module}: the tests of round {which} fail without any change (status {status})")
            return 1

    def attempt(mutant: Mutant) -> tuple[Mutant, str] | None:
        name = name_of(mutant)
        if name not in fates:
            if time.monotonic() > end:
                return None
            begun = time.monotonic()
            fates[name] = fate(mutant, options.timeout)
            if options.log:
                with options.log.open("a") as log:
                    log.write(json.dumps([name, fates[name], round(time.monotonic() - begun, 1)]) + "\n")
        return mutant, fates[name]

    known, results = explained(), []
    with ThreadPoolExecutor(options.processes) as pool:
        for result in pool.map(attempt, mutants):
            if result is None or result[1] == NO_CHANGE:
                continue
            results.append(result)
            mutant, what = result
            if what == SURVIVED:
                note = "known: " + known[mutant.key] if mutant.key in known else "NOT EXPLAINED"
                print(f"survived, line {mutant.line} of {mutant.key}   ({note})", flush=True)

    survivors = [mutant for mutant, what in results if what == SURVIVED]
    unexplained = [mutant for mutant in survivors if mutant.key not in known]
    late = sum(what == TIMED_OUT for _, what in results)
    killed = len(results) - len(survivors) - late
    print(f"{len(results)} of {len(mutants)} mutants tried: {killed} noticed ({killed / max(len(results), 1):.1%}),")
    print(f"{late} undecided after {options.timeout:g} s; {len(survivors)} survive,", end=" ")
    print(f"{len(unexplained)} without an explanation")
    return bool(unexplained)


if __name__ == "__main__":
    sys.exit(main())
