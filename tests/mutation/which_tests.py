"""Which tests are asked about a change of which file, round by round: see ``rounds``."""

import functools
import inspect
import json
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

TESTS = Path(__file__).parents[1]
CACHE = Path(tempfile.gettempdir()) / "jaxopt_lessons_mutation"
TIMES = CACHE / "times.jsonl"
USUAL = 0.3  # seconds, of a test that has no time yet
NUMBERS = ["test_numbers.py", "state_formats/test_state_formats.py", "test_contract.py"]
ARGUMENTS = ["bad_inputs/test_bad_hyperparameters.py", "bad_inputs/test_bad_schedules.py"]
OF_TRAINING = ["bad_inputs/test_bad_training_arguments.py", "long_runs/test_end_of_counters.py"]
SELDOM = ["test_docs.py", "examples", "testing", "benchmarks", "train/test_hosts.py", "test_architecture.py"]
"""Those whose time is out of proportion, or that look at the source."""

TRAINING = {
    "batches": "batches",
    "chunks": "chunks fit fit_streams long_runs",
    "ema": "ema",
    "evaluate": "evaluate",
    "guard": "guard",
    "micro_batches": "accumulation",
    "objective": "step stateful policy",
    "run_length": "fit long_runs compilation",
    "scan": "scan",
    "shuffle": "shuffle",
    "state": "state",
    "step": "step norms accumulation",
}
"""The tests of the core of training; all other tests of training come after them."""


def public_names(module: str) -> set[str]:
    """The names in the library's namespace that stand for something defined in this module."""
    import jaxopt_lessons as jl

    spaces = [jl, *(space for space in vars(jl).values() if inspect.ismodule(space))]
    named = [(name, getattr(space, name)) for space in spaces for name in getattr(space, "__all__", dir(space))]
    return {name for name, value in named if getattr(value, "__module__", None) == module}


def importers(module: str) -> list[str]:
    """The modules that take something from this one: those whose tests see what it does, if it is not public."""
    pattern = re.compile(rf"^from {re.escape(module)} import ", re.MULTILINE)
    package = TESTS.parent / "jaxopt_lessons"
    found = [
        path.relative_to(TESTS.parent) for path in sorted(package.rglob("*.py")) if pattern.search(path.read_text())
    ]
    return [".".join(path.with_suffix("").parts) for path in found if path.name != "__init__.py"]


def taken_from(module: str) -> set[str]:
    """What the tests import from this module by its path."""
    lines = re.findall(rf"^from {re.escape(module)} import (.*)$", "\n".join(texts().values()), re.MULTILINE)
    return {name.strip() for line in lines for name in line.split(",")}


def one_of(words: set[str]) -> re.Pattern[str]:
    return re.compile(rf"\b({'|'.join(sorted(map(re.escape, words)))})\b")


class Everything:
    """Keeps all tests."""


class Rows:
    """Keeps the cases of the tables' rows with one of these names. The table of optimizers is cut to them beforehand,
    which saves collecting all others: a process asks one round only."""

    def __init__(self, names: set[str]):
        self.names = names

    def pytest_configure(self) -> None:
        import cases

        for rows in (cases.CASES, cases.CONTRACT):
            rows[:] = [case for case in rows if case.name in self.names]

    def pytest_collection_modifyitems(self, items: list) -> None:
        items[:] = [item for item in items if self.names & self.of(item)]
        items.sort(key=lambda item: "[" in item.name and "-" in item.name)  # each row as it stands first

    def of(self, item) -> set[Any]:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        values = [part for value in parameters.values() for part in (value if isinstance(value, tuple) else [value])]
        return {value if isinstance(value, str) else getattr(value, "name", None) for value in values}


class QuickestFirst:
    """Puts the tests that noticed other changes of this module first, then the short ones, by what earlier processes
    have written down; and writes down what it sees."""

    def __init__(self, module: str):
        self.module, self.seconds, self.noticed = module, {}, set()
        for line in TIMES.read_text().splitlines() if TIMES.exists() else []:
            module, test, duration, failed = json.loads(line)
            self.seconds[test] = duration
            if failed and module == self.module:
                self.noticed.add(test)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list) -> None:
        # A stable sort.
        items.sort(key=lambda item: (item.nodeid not in self.noticed, self.seconds.get(item.nodeid, USUAL)))

    def pytest_runtest_logreport(self, report) -> None:
        known = self.noticed if report.failed else self.seconds
        if (report.when == "call" or report.failed) and report.nodeid not in known:
            TIMES.parent.mkdir(parents=True, exist_ok=True)
            with TIMES.open("a") as times:
                line = [self.module, report.nodeid, round(report.duration, 2), report.failed]
                times.write(json.dumps(line) + "\n")


class Naming:
    """Keeps the tests with one of these words in their source or name."""

    def __init__(self, words: set[str]):
        self.pattern = one_of(words)

    def pytest_collection_modifyitems(self, items: list) -> None:
        items[:] = [item for item in items if self.names(item)]

    def names(self, item) -> bool:
        source = inspect.getsource(item.function) if hasattr(item, "function") else ""
        return bool(self.pattern.search(source) or self.pattern.search(item.name))


@functools.cache
def texts() -> dict[str, str]:
    files = [
        path
        for path in sorted(TESTS.rglob("test_*.py"))
        if not any(str(path).startswith(str(TESTS / s)) for s in SELDOM)
    ]
    return {str(path.relative_to(TESTS)): path.read_text() for path in files}


class Round(NamedTuple):
    """Tests that one process runs.

    Attributes:
      files: of tests.
      chooses: the plugin that chooses among their tests.
      marker: what else they must be marked with, or not.
    """

    files: list[str]
    chooses: object
    marker: str = "not oracle"


def rounds(module: str) -> list[Round]:
    """The rounds of tests for a module, the likeliest to notice something first."""
    _, folder, stem = module.split(".")
    own, users = public_names(module), set().union(*map(public_names, importers(module)))
    names = own or users
    words = names | {f"{folder}.{stem}", f"import {stem}"} | taken_from(module)
    found = [Round(["test_signatures.py"], Everything())]
    if folder == "train":
        its = [f"train/test_{name}.py" for name in TRAINING[stem].split()]
        others = [file for file in texts() if file.startswith("train/test_") and file not in its]
        found += [Round(its, Everything()), Round(OF_TRAINING, Everything())]
        found += [Round(["state_formats/test_state_formats.py"], Naming({"runs.json"}))]
        return [*found, Round(others, Everything())]
    rows = ["test_schedules.py"] if folder == "schedules" and own else NUMBERS
    found += [Round(rows, Rows(names)), Round(ARGUMENTS, Rows(names)), Round(naming(words), Naming(words))]
    if own and users:
        found += [Round(NUMBERS, Rows(users)), Round(naming(users), Naming(users))]
    if folder == "schedules":
        whole = ["test_schedules.py", *(file for file in texts() if file.startswith("schedules/"))]
        found += [Round(whole, Everything())]
    return [*found, Round(naming(own | users), Naming(own | users), "oracle")]


def naming(words: set[str]) -> list[str]:
    """The files with one of these words, but for those of training."""
    pattern = one_of(words)
    return [file for file, text in texts().items() if pattern.search(text) and not file.startswith("train/")]


def run(tests: Round, module: str) -> int:
    """The status of pytest, in this process; 5 (nothing chosen) counts as passed."""
    options = ["-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", tests.marker]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is imported before the fork
    options += ["-W", "ignore:Error (reading|writing) persistent"]  # a killed process left half a program
    files = [str(TESTS / file) for file in tests.files]
    return int(pytest.main([*options, f"--rootdir={TESTS.parent}", *files], [tests.chooses, QuickestFirst(module)]))
