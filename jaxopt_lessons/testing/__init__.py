"""Tests for optimizers that are not written yet: the contract of this library, asked of any ``(init, update)`` pair.

print(jl.testing.check_optimizer(my_optimizer(1e-2)))                        to read
jl.testing.check_optimizer(my_optimizer(1e-2)).raise_if_failed()             a line of a test
"""

from jaxopt_lessons.testing.check_optimizer import check_optimizer
from jaxopt_lessons.testing.report import Report, Row

__all__ = ["Report", "Row", "check_optimizer"]
