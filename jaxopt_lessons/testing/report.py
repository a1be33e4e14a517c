"""What ``check_optimizer`` found out: a row for each property, and the table they make."""

from typing import NamedTuple

from jaxopt_lessons.inspect.page import Line, Section, as_html, as_text

PASSED = "passed"
FAILED = "failed"
NOT_APPLICABLE = "not applicable"


class Row(NamedTuple):
    """A property and whether the optimizer has it.

    Attributes:
      name: the name of the property, as ``except_`` and ``only`` of ``check_optimizer`` take it.
      promise: what it promises, in a line.
      outcome: ``"passed"``, ``"failed"`` or ``"not applicable"``.
      message: of a failure, where it is, what was expected and what came; why a property does not apply; else empty.
    """

    name: str
    promise: str
    outcome: str
    message: str = ""


class Report(NamedTuple):
    """All properties of an optimizer. It prints as text, and as tables in a notebook.

    Attributes:
      optimizer: what was checked, as it prints.
      rows: a ``Row`` for each property that was asked for, in the order of the contract.
      called_with: the keyword arguments that ``update`` got, by name.
    """

    optimizer: str
    rows: tuple[Row, ...]
    called_with: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no property failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows of the properties that failed."""
        return self.of(FAILED)

    def of(self, outcome: str) -> tuple[Row, ...]:
        """The rows with this outcome."""
        return tuple(row for row in self.rows if row.outcome == outcome)

    def __getitem__(self, name: str) -> Row:  # type: ignore[override]  # by name, and not by place
        """The row of a property."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no property {name!r} was asked for")

    def raise_if_failed(self) -> None:
        """Raises ``AssertionError`` with the whole table unless all properties passed or do not apply."""
        if not self.passed:
            raise AssertionError(f"\n{self}")

    def __str__(self) -> str:
        return as_text(self._sections())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self._sections())

    def _sections(self) -> tuple[Section, ...]:
        counts = [f"{len(self.of(outcome))} {outcome}" for outcome in (PASSED, FAILED, NOT_APPLICABLE)]
        given = f" (update was called with {', '.join(f'{name}=' for name in self.called_with)})"
        title = f"{self.optimizer}{given if self.called_with else ''}: {', '.join(counts)}"
        failed = [
            line for row in self.failures for line in (Line(0, row.name, row.promise), Line(0, "", f"-> {row.message}"))
        ]
        absent, seen = [], ""
        for row in self.of(NOT_APPLICABLE):
            absent.append(Line(0, row.name, row.message if row.message != seen else "the same"))
            seen = row.message
        passed = [Line(0, row.name, row.promise) for row in self.of(PASSED)]
        sections = (("Failed", failed), ("Not applicable", absent), ("Passed", passed))
        return (Section(title), *(Section(name, tuple(lines)) for name, lines in sections if lines))
