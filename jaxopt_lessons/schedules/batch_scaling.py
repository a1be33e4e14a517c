"""A learning rate for another batch size.

    linear_batch_scaling: learning_rate * batch_size / reference_batch_size              for SGD
    sqrt_batch_scaling:   learning_rate * sqrt(batch_size / reference_batch_size)        for Adam and its relatives

The linear rule: Goyal et al. 2017, arXiv 1706.02677, with a warm-up; the square root: Malladi et al. 2022, arXiv
2205.10287. Neither holds beyond the batch size from which more examples no longer help.
"""

import math
from typing import Any

from jaxopt_lessons import _checks
from jaxopt_lessons.schedules.schedule import as_schedule
from jaxopt_lessons.types import Range


def _scaled(owner: str, learning_rate: Any, batch_size: int, reference_batch_size: int, root: bool) -> Any:
    batch_size = _checks.whole(owner, "batch_size", batch_size, 1)
    reference_batch_size = _checks.whole(owner, "reference_batch_size", reference_batch_size, 1)
    ratio = batch_size / reference_batch_size
    _checks.number(owner, "learning_rate", learning_rate, Range(0, schedules=True))
    if callable(learning_rate):
        learning_rate = as_schedule(owner, "learning_rate", learning_rate)
    return learning_rate * (math.sqrt(ratio) if root else ratio)


def linear_batch_scaling(learning_rate: Any, batch_size: int, reference_batch_size: int) -> Any:
    """A learning rate in proportion to the batch size, as for SGD.

    Args:
      learning_rate: a number or a schedule, tuned for ``reference_batch_size``.
      batch_size: examples in a batch.
      reference_batch_size: examples in a batch of the run that the rate is from.

    >>> linear_batch_scaling(0.1, batch_size=1024, reference_batch_size=256)
    0.4
    """
    return _scaled("linear_batch_scaling", learning_rate, batch_size, reference_batch_size, root=False)


def sqrt_batch_scaling(learning_rate: Any, batch_size: int, reference_batch_size: int) -> Any:
    """A learning rate in proportion to the square root of the batch size, as for Adam.

    Args:
      learning_rate: a number or a schedule, tuned for ``reference_batch_size``.
      batch_size: examples in a batch.
      reference_batch_size: examples in a batch of the run that the rate is from.

    >>> sqrt_batch_scaling(0.1, batch_size=1024, reference_batch_size=256)
    0.2
    """
    return _scaled("sqrt_batch_scaling", learning_rate, batch_size, reference_batch_size, root=True)
