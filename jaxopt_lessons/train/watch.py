"""The observers of one run, with their memories: who looks when, and in which order."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxopt_lessons.train import hosts
from jaxopt_lessons.train.chunks import Stops
from jaxopt_lessons.train.observers.observer import Every, Lambda, Observer
from jaxopt_lessons.train.run import Moment, Run


class Due(NamedTuple):
    """The names of those who look at a moment."""

    with_state: list[str]
    without_state: list[str]


class Watch:
    """Observers in the order in which they look. They end in the opposite order."""

    def __init__(self, observers: Sequence[Observer | Callable[[Run], Any]]):
        if isinstance(observers, Observer) or not isinstance(observers, Iterable):
            raise TypeError(f"fit: observers must be a list of observers; got {observers!r}.")
        made = [_as_observer(observer) for observer in observers]
        self.observers = _named(sorted(made, key=lambda observer: observer.is_last))
        self.memories: dict[str, Any] = {}
        self.ended = False
        self._looked = dict.fromkeys(self.observers, time.monotonic())
        self._cuts: dict[str, Sequence[int]] = dict.fromkeys(self.observers, ())

    @property
    def stops(self) -> Stops:
        """Where chunks have to end."""
        every = [o.every for o in self.observers.values() if o.every is not None]
        multiples = {one.steps for one in every if one.steps is not None}
        return Stops(sorted(multiples), sorted({cursor for cuts in self._cuts.values() for cursor in cuts}))

    def begin(self, run: Run) -> None:
        for name, observer in self.observers.items():
            self.memories[name] = observer.begin(run)
            self._cuts[name] = observer.cuts(run)

    def resume(self, run: Run, memories: Mapping[str, Any]) -> None:
        self.memories |= memories
        for name, observer in self.observers.items():
            self.memories[name] = observer.resume(run, self.memories[name])
            self._cuts[name] = observer.cuts(run)

    def due(self, moment: Moment) -> Due:
        """Who looks at this moment: asked once for each chunk. Of several processes the first has the clock."""
        now = time.monotonic()
        names = [name for name in self.observers if self._is_due(name, moment, now - self._looked[name])]
        self._looked |= dict.fromkeys(names, now)
        return Due(
            with_state=[name for name in names if self.observers[name].needs_state],
            without_state=[name for name in names if not self.observers[name].needs_state],
        )

    def look(self, run: Run, names: Sequence[str]) -> None:
        """Some of the observers look at the run."""
        for name in names:
            run.all_have_looked = self.observers[name].is_last
            self.memories[name] = self.observers[name].observe(run, self.memories[name])
        run.all_have_looked = True

    def _is_due(self, name: str, moment: Moment, seconds: float) -> bool:
        every = self.observers[name].every
        is_due = every is not None and every.is_due(moment, seconds)
        if every is not None and every.seconds is not None:
            is_due = hosts.agree(is_due and hosts.is_main())
        return is_due or moment.cursor in self._cuts[name]

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


def _as_observer(observer: Any) -> Observer:
    if isinstance(observer, Observer):
        if not (observer.every is None or isinstance(observer.every, Every)):
            raise TypeError(
                f"fit: {observer.name}: every must be an Every, such as Every(steps=10); got {observer.every!r}."
            )
        _check_methods(type(observer))
        return observer
    if isinstance(observer, type) or not callable(observer):
        raise TypeError(f"fit: observers must be observers or functions of the run; got {observer!r}.")
    return Lambda(observer)


def _check_methods(kind: type[Observer]) -> None:
    """Raises if a class of observers would do nothing: its methods may have the names of another library."""
    if not any(getattr(kind, name) is not getattr(Observer, name) for name in ("begin", "observe", "end", "cuts")):
        raise TypeError(
            f"fit: the observer {kind.__name__} does nothing: it has none of the methods begin(run), observe(run, "
            "memory) and end(run, memory)."
        )


def _named(observers: Sequence[Observer]) -> dict[str, Observer]:
    """By name; the second of a name has a number."""
    named: dict[str, Observer] = {}
    for observer in observers:
        name, number = observer.name, 2
        while name in named:
            name, number = f"{observer.name}_{number}", number + 1
        named[name] = observer
    return named
