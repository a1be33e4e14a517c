"""Shares of a run as whole numbers of updates.

run = fraction_of(10_000)
rate = warmup(run(0.05), 1e-3, from_zero=True).then(cosine_decay_schedule(1e-3, run.between(0.05, 1.0)))
"""

import math
import numbers
from dataclasses import dataclass
from typing import Any

from jaxopt_lessons import _checks


@dataclass(frozen=True)
class _Run:
    """A run of ``total`` updates. Call it with a share for a number of updates."""

    total: int

    def __call__(self, share: float) -> int:
        """``share * total``, rounded to a whole number of updates.

        Args:
          share: in ``[0, 1]``.
        """
        _check_share(share)
        return math.floor(float(share) * self.total + 0.5)

    def between(self, start: float, end: float) -> int:
        """The updates from one share to another: ``run(end) - run(start)``, so that pieces add up to the whole.

        Args:
          start: in ``[0, end]``.
          end: in ``[start, 1]``.
        """
        _check_share(start)
        _check_share(end)
        _checks.not_above("fraction_of", "start", start, "end", end)
        return self(end) - self(start)


def _check_share(share: Any) -> None:
    real = isinstance(share, numbers.Real) and not isinstance(share, bool)
    if not real or not 0 <= float(share) <= 1:
        raise ValueError(f"fraction_of: a share of the run must be a number in [0, 1]; got {share!r}.")


def fraction_of(total: int) -> _Run:
    """Shares of a run: ``fraction_of(total)(0.1)`` is a tenth of it, as a whole number of updates.

    ``run = fraction_of(total)`` also has ``run.between(0.1, 1.0)``, the updates from one share to another: such pieces
    add up to ``total`` exactly, where two rounded shares may not.

    Args:
      total: length of the run, in updates, at least 1.

    Raises:
      ValueError: a share is not in ``[0, 1]``.

    >>> run = fraction_of(1_001)
    >>> run(0.05), run.between(0.05, 0.5), run.between(0.5, 1.0)
    (50, 451, 500)
    """
    return _Run(_checks.whole("fraction_of", "total", total, 1))
