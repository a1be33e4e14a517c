"""The README's table of what is tested, counted from the tests themselves.

    python tests/readme_figures.py      collects the tests and writes the table between the two markers

Numbers above a hundred are rounded down to two digits, so that the table does not change with every test.
"""

import contextlib
import io
import sys
from pathlib import Path

import bad_inputs
import pytest

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


def ways_to_break_lessons() -> int:
    import importlib

    sys.path.insert(0, str(ROOT / "tests" / "examples"))
    lessons = [path.stem for path in sorted((ROOT / "tests" / "examples").glob("test_lesson_*.py"))]
    return sum(len(getattr(importlib.import_module(lesson), "WRONG", ())) for lesson in lessons)
