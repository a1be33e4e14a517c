"""The README's table of what is tested, counted from the tests themselves.

    python tests/readme_figures.py             collects the tests and writes the table between the two markers
    python tests/readme_figures.py --check     fails if that would change it, or if a bad input is tried by no test

Numbers above a hundred are rounded down to two digits, so that the table does not change with every test.
"""

import contextlib
import io
import sys
from pathlib import Path

import bad_inputs
import cases
import pytest
import schedule_rows
import signatures

from jaxopt_lessons.testing.check_optimizer import PROPERTIES

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- what is tested: python tests/readme_figures.py -->", "<!-- end of what is tested -->"


class Collected:
    """The tests that pytest finds, the long ones and the oracles too."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []
        options = ["--collect-only", "-q", "-p", "no:cacheprovider", "-m", "not long or long", f"--rootdir={ROOT}"]
        with contextlib.redirect_stdout(io.StringIO()):
            status = pytest.main([*options, str(ROOT / "tests")], [self])
        assert status == 0, "the tests cannot be collected"

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = session.items

    def __call__(self, *parts: str) -> int:
        """How many have one of these in their names, from the folder of the tests on."""
        return sum(any(part in item.nodeid for part in parts) for item in self.items)

    def of(self, folder: str, ending: str) -> int:
        return sum(folder in item.nodeid and item.nodeid.endswith(ending) for item in self.items)

    def tries(self, inputs: range) -> int:
        """How many cases try one of these bad inputs; a case that tries two counts twice."""
        numbers = [n for item in self.items for mark in item.iter_markers("bad_input") for n in mark.args]
        return sum(number in inputs for number in numbers)

    def untried(self) -> list[int]:
        numbers = {n for item in self.items for mark in item.iter_markers("bad_input") for n in mark.args}
        return sorted(set(bad_inputs.INPUTS) - numbers)


def rounded(number: int) -> str:
    """Exact up to a hundred, then the first two digits."""
    if number <= 100:
        return str(number)
    unit = 10 ** (len(str(number)) - 2)
    return f"{number // unit * unit:,}+"


def rows(tests: Collected) -> list[tuple[str, str]]:
    """What is tested, and the figures."""
    contract, everything = len(cases.CONTRACT), len(cases.CASES)
    sources = [*sorted((ROOT / "tests" / "examples").glob("test_lesson_*.py"))]
    released = [path.name for path in sorted((ROOT / "tests" / "state_formats").iterdir()) if path.name[0].isdigit()]
    return [
        (
            "The contract: [`check_optimizer`](jaxopt_lessons/testing/check_optimizer.py), asked of ours",
            f"{contract} optimizers and transformations, {len(PROPERTIES)} properties; "
            f"{rounded(tests('test_contract.py'))} cases",
        ),
        (
            "The same, asked of optax 0.2.8",
            f"{tests('test_check_optimizer_on_optax.py::test_fault_is_found')} faults found",
        ),
        (
            "Numbers of optimizers, argument by argument",
            f"{everything} rules written again in NumPy, {rounded(tests('test_numbers.py::test_oracle'))} variants in "
            f"float64 and float32; optax, PyTorch and the authors' packages as further oracles",
        ),
        (
            "Numbers of schedules",
            f"{len({row.name for row in schedule_rows.ROWS})} formulas, "
            f"{rounded(tests('test_schedules.py', 'tests/schedules/'))} cases",
        ),
        (
            "[Bad inputs](tests/bad_inputs/__init__.py)",
            f"{len(bad_inputs.INPUTS)} kinds; arguments {rounded(tests.tries(range(1, 18)))} times, "
            f"trees {rounded(tests.tries(range(18, 39)))}, values {rounded(tests.tries(range(39, 50)))}, "
            f"counters and dtypes {rounded(tests.tries(range(50, 55)))}",
        ),
        ("[Error messages](examples/errors.md)", f"{rounded(messages())} with cause and remedy"),
        (
            "Random trees, optimizers, schedules and runs",
            f"{tests.of('tests/properties/', '[ci]')} properties and laws (hypothesis), nested up to four deep",
        ),
        ("Training", f"{rounded(tests('tests/train/'))} cases"),
        (
            "Files cut, changed, taken away or forged; hostile names",
            f"{rounded(tests('tests/security/'))} cases; nothing is executed, no wrong number is read",
        ),
        ("Long runs, threads, and JAX's checks all on", f"{rounded(tests('tests/long_runs/'))} cases"),
        (
            "Arguments, their order and defaults",
            f"[recorded](tests/signatures.txt) of {rounded(len(signatures.lines()))} functions, classes and methods",
        ),
        ("Formats of states and checkpoints", f"those of {', '.join(released)}"),
        ("Lessons", f"{len(sources)}, each stopped by its own assertions when the library's rule is broken"),
    ]


def messages() -> int:
    import test_errors_page

    return len(test_errors_page.ENTRIES)


def table(tests: Collected) -> str:
    lines = ["| what | in figures |", "|---|---|"]
    return "\n".join([*lines, *(f"| {what} | {figures} |" for what, figures in rows(tests))])


def with_table(readme: str, tests: Collected) -> str:
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table(tests)}\n{END}{rest.split(END)[1]}"


def main(check: bool) -> int:
    path, collected = ROOT / "README.md", Collected()
    before = path.read_text()
    after = with_table(before, collected)
    if not check:
        path.write_text(after)
    elif after != before:
        print("the README's table of what is tested is out of date: run python tests/readme_figures.py")
    print(table(collected))
    print("bad inputs that no test tries:", collected.untried() or "none")
    return int(bool(collected.untried()) or (check and after != before))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
