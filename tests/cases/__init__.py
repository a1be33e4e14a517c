"""THE table: a row for each public factory of gradient transformations, in one file per family.

A new optimizer gets a row, and with it every test of the contract, of the numbers and of the values. Nothing is skipped
in silence: a row that cannot meet a property says why in ``exempt``, and the test checks that it is still so.
"""

import importlib
import pkgutil

import pytest

from cases.case import Case, With, at, half, halved, stepped

__all__ = ["CASES", "CONTRACT", "Case", "With", "at", "half", "halved", "rows", "stepped"]

_families = [importlib.import_module(f"cases.{module.name}") for module in pkgutil.iter_modules(__path__)]
CASES: list[Case] = [case for family in _families for case in getattr(family, "CASES", ())]
CONTRACT = [case for case in CASES if case.part_of is None]
"""The rows on which the contract is checked: a part is checked inside its preset."""


def rows(test, cases=CONTRACT):
    """Runs a test for each row; one that is exempt from it must fail."""
    name = test.__name__.removeprefix("test_")
    parameters = [
        pytest.param(
            case,
            id=case.name,
            marks=[pytest.mark.xfail(reason=case.exempt[name], strict=True)] if name in case.exempt else [],
        )
        for case in cases
    ]
    return pytest.mark.parametrize("case", parameters)(test)
