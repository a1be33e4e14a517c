"""Where the batches of a run come from: arrays on the device, or chunks of batches that are brought there.

A source cuts itself into chunks and runs a compiled step over one of them. Two are here: ``InMemory``, of which the
program cuts its batches itself, and ``Brought``, for streams and arrays on disk.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import jax

from jaxopt_lessons import _checks
from jaxopt_lessons.train.batches import is_plain, planned
from jaxopt_lessons.train.brought import Brought
from jaxopt_lessons.train.chunks import Stops
from jaxopt_lessons.train.device_plan import DevicePlan
from jaxopt_lessons.train.host_batches import HostBatches
from jaxopt_lessons.train.in_memory import InMemory
from jaxopt_lessons.train.programs import Compiled
from jaxopt_lessons.train.run_length import Length
from jaxopt_lessons.train.scan import Metrics
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.train.stream import Stream, is_stream


class Source(Protocol):
    """Where the batches of a run come from.

    Attributes:
      batch_size: how many examples to validate with at a time, None for all.
      most_pending: chunks that may be under way before the host waits for one.
    """

    batch_size: int | None
    most_pending: int

    def end(self, cursor: int, length: Length) -> int | None:
        """The cursor at which a run ends that begins at ``cursor``; None where the data will tell."""

    def chunks(
        self, compiled: Compiled, state: TrainState, length: Length, end: int | None, stops: Stops, at: Any
    ) -> AbstractContextManager[Iterator[Any]]:
        """The chunks of a run from the state on; ``at`` is the position of the chunk before, None for none."""
        ...

    def run(self, compiled: Compiled, state: TrainState, chunk: Any) -> tuple[TrainState, Metrics]:
        """Starts the steps of a chunk."""
        ...

    def about(self) -> dict[str, Any]:
        """Facts about the data that a run which goes on must share."""
        ...


def source_of(
    data: Any, key: jax.Array, plan: DevicePlan | None, batch_size: int | None, shuffle: bool, remainder: str
) -> InMemory | Brought:
    """Where the batches come from: the arguments of ``fit``, checked."""
    if isinstance(data, Stream) or is_stream(data):
        _checks.require(
            is_plain(batch_size, shuffle, remainder),
            "fit: the batches of a stream come as they are; batch_size, shuffle and remainder are for arrays.",
        )
        return Brought(data if isinstance(data, Stream) else Stream(data), plan)
    batches = planned("fit", data, batch_size, shuffle, remainder)
    return Brought(HostBatches(batches, key), plan) if batches.on_host else InMemory(batches, plan)
