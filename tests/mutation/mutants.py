"""What is changed: every mutant of the update rules, the schedules and the core of training, made by cosmic-ray."""

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from which_tests import TRAINING

ROOT = Path(__file__).parents[2]
PACKAGE = "jaxopt_lessons"

RULES = ("optimizers", "transforms", "schedules")

BINARY = ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul", "FloorDiv_Div", "Mod_Mul", "BitAnd_BitOr")
COMPARISON = ("Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt", "Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Eq_NotEq", "NotEq_Eq")
COMPARISON += ("Is_IsNot", "IsNot_Is")
OPERATORS = (
    *(f"core/ReplaceBinaryOperator_{name}" for name in BINARY),
    *(f"core/ReplaceComparisonOperator_{name}" for name in COMPARISON),
    "core/ReplaceUnaryOperator_USub_UAdd",
    "core/ReplaceUnaryOperator_Delete_Not",
    "core/ReplaceUnaryOperator_Delete_Invert",
    "core/ReplaceTrueWithFalse",
    "core/ReplaceFalseWithTrue",
    "core/ReplaceAndWithOr",
    "core/ReplaceOrWithAnd",
    "core/AddNot",
    "core/ZeroIterationForLoop",
    "core/ReplaceBreakWithContinue",
    "core/ReplaceContinueWithBreak",
    "core/ExceptionReplacer",
    "core/NumberReplacer",
)
"""One or two changes of each kind. Left out of cosmic-ray's are further ones of the same operator, which are noticed
where the first is, and those that no program survives: ``|`` in annotations, a factory without its decorator."""


@dataclass(frozen=True)
class Mutant:
    """One change of one place in one file.

    Attributes:
      path: of the file, from the package on.
      operator: cosmic-ray's name.
      occurrence: at which of the operator's places in the file.
    """

    path: str
    operator: str
    occurrence: int

    @property
    def module(self) -> str:
        return ".".join((PACKAGE, *Path(self.path).with_suffix("").parts))

    @functools.cached_property
    def source(self) -> str:
        code = mutate_code(source_of(self.path), get_operator(self.operator)(), self.occurrence)
        assert code is not None
        return code

    @functools.cached_property
    def is_a_change(self) -> bool:
        """Not ``1e18 + 1`` in the place of ``1e18``, and not what is no program at all."""
        try:
            after = ast.parse(self.source)
        except SyntaxError:
            return False
        return ast.dump(after) != ast.dump(ast.parse(source_of(self.path)))

    @functools.cached_property
    def line(self) -> int:
        """The number of the first line that differs."""
        both = zip(source_of(self.path).splitlines(), self.source.splitlines(), strict=False)
        return next(number for number, (before, after) in enumerate(both, 1) if before != after)

    @property
    def key(self) -> str:
        """What it is called in the list of survivors: it stays when lines move."""
        before, after = (text.splitlines()[self.line - 1].strip() for text in (source_of(self.path), self.source))
        return f"{self.path}: {before} -> {after}"


@functools.cache
def source_of(path: str) -> str:
    return (ROOT / PACKAGE / path).read_text()


def files() -> list[str]:
    package = ROOT / PACKAGE
    rules = [path for folder in RULES for path in sorted((package / folder).glob("*.py"))]
    return [str(path.relative_to(package)) for path in rules if path.name != "__init__.py"] + [
        f"train/{name}.py" for name in TRAINING
    ]


def mutants_of(path: str) -> list[Mutant]:
    nodes = list(ast_nodes(get_ast(source_of(path))))
    mutants = []
    for name in OPERATORS:
        places = [place for node in nodes for place in get_operator(name)().mutation_positions(node)]
        mutants += [Mutant(path, name, occurrence) for occurrence in range(len(places))]
    return mutants
