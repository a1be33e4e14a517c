"""The observers of one run, with their memories: who looks when, and in which order."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxopt_lessons.train.chunks import Multiples
from jaxopt_lessons.train.observers.observer import Lambda, Observer
from jaxopt_lessons.train.run import Moment, Run


class Watch:
    """Observers in the order in which they look. They end in the opposite order."""

    def __init__(self, observers: Sequence[Observer | Callable[[Run], Any]]):
        made = [_as_observer(observer) for observer in observers]
        self.observers = _named(sorted(made, key=lambda observer: observer.is_last))
        self.memories: dict[str, Any] = {}
        self.ended = False
        self._looked = dict.fromkeys(self.observers, time.monotonic())
        self._cuts: dict[str, Sequence[int]] = dict.fromkeys(self.observers, ())

    @property
    def multiples(self) -> Multiples:
        """Where chunks have to end."""
        every = [o.every for o in self.observers.values() if o.every is not None]
        multiples = Multiples(sorted({one.steps for one in every if one.steps is not None}))
        multiples.at = sorted({cursor for cuts in self._cuts.values() for cursor in cuts})
        return multiples

    def begin(self, run: Run) -> None:
        for name, observer in self.observers.items():
            self.memories[name] = observer.begin(run)
            self._cuts[name] = observer.cuts(run)

    def resume(self, run: Run, memories: Mapping[str, Any]) -> None:
        self.memories |= memories
        for name, observer in self.observers.items():
            self.memories[name] = observer.resume(run, self.memories[name])
            self._cuts[name] = observer.cuts(run)

    def needs_state_at(self, moment: Moment) -> bool:
        """Whether somebody has to see the state at this moment."""
        return any(observer.needs_state for _, observer in self._due(moment))

    def look(self, run: Run, needs_state: bool) -> None:
        """Those that are due look at the run: those that read the state, or those that do not."""
        if not self.observers:
            return
        due = [(name, observer) for name, observer in self._due(run.moment) if observer.needs_state == needs_state]
        with contextlib.nullcontext() if needs_state else run.without_state():
            for name, observer in due:
                run.all_have_looked = observer.is_last
                self.memories[name] = observer.observe(run, self.memories[name])
                self._looked[name] = time.monotonic()
        run.all_have_looked = True

    def end(self, run: Run) -> None:
        """All end, whatever the others do; the first of their errors is raised afterwards."""
        self.ended, first = True, None
        begun = [name for name in self.observers if name in self.memories]
        for name, observer in ((name, self.observers[name]) for name in reversed(begun)):
            try:
                self.memories[name] = observer.end(run, self.memories[name])
            except Exception as error:
                first = first or error
        if first is not None:
            raise first

    def _due(self, moment: Moment) -> Iterator[tuple[str, Observer]]:
        now = time.monotonic()
        for name, observer in self.observers.items():
            due = observer.every is not None and observer.every.is_due(moment, now - self._looked[name])
            if due or moment.cursor in self._cuts[name]:
                yield name, observer


def _as_observer(observer: Any) -> Observer:
    if isinstance(observer, Observer):
        return observer
    if isinstance(observer, type) or not callable(observer):
        raise TypeError(f"fit: observers must be observers or functions of the run; got {observer!r}.")
    return Lambda(observer)


def _named(observers: Sequence[Observer]) -> dict[str, Observer]:
    """By name; the second of a name has a number."""
    named: dict[str, Observer] = {}
    for observer in observers:
        name, number = observer.name, 2
        while name in named:
            name, number = f"{observer.name}_{number}", number + 1
        named[name] = observer
    return named
