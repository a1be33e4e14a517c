"""The orders of transformations that are nearly always mistakes, as a table: what, after what or inside what.

A rule speaks of two parts that act on the same leaf and that somebody put together: inside a preset of the library the
authors' order holds. Of two parts the first rule that fits is told. ``{first}`` and ``{then}`` are their names.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from jaxopt_lessons import _schedule_checks, tree
from jaxopt_lessons.core import GradientTransformation
from jaxopt_lessons.inspect.facts import ANYTHING, DIRECTION, Does
from jaxopt_lessons.inspect.flow import Node, Stage, Way, paths_of
from jaxopt_lessons.schedules.schedule import Schedule
from jaxopt_lessons.types import Params
from jaxopt_lessons.wrappers.multi_steps import MultiSteps


class Rule(NamedTuple):
    """``then`` after ``first`` (or, with ``inside``, within it), and what is wrong with that."""

    first: Does
    then: Does
    says: str
    unless: Does = Does.PASSES
    """What ``then`` may do to be excused."""
    inside: bool = False


RULES = (
    Rule(
        Does.ACCUMULATES,
        Does.SETS_RATE | Does.AVERAGES | Does.ADAPTS | Does.DECAYS | Does.ADDS_NOISE,
        "{then} comes after {first} and acts at every call: on zeros, where only micro-batches are collected. Put it "
        "inside: MultiSteps(chain(...), every_k_schedule).",
    ),
    Rule(
        Does.SETS_RATE,
        Does.SETS_RATE,
        "{first} returns a step, learning rate included, and {then} takes it for a gradient: two learning rates in one "
        "chain, and two minus signs make an ascent. Keep one of them.",
    ),
    Rule(
        Does.DESCENDS,
        Does.DECAYS,
        "{then} comes after {first}, which turned the sign: the weights are added to a step, and grow. Put the decay "
        "before the learning rate, or take an optimizer that has one, such as adamw.",
    ),
    Rule(
        Does.SETS_RATE,
        Does.ADDS_NOISE,
        "{then} comes after {first}: the noise is not multiplied by the learning rate, its variance is that of the "
        "steps. Put it before, where it is noise of the gradients.",
    ),
    Rule(
        Does.MULTIPLIES,
        Does.ADAPTS | Does.NORMALIZES,
        "{then} comes after {first} and makes steps whose size does not depend on that of what comes in: what {first} "
        "multiplies by is lost. Put {first} after it.",
    ),
    Rule(
        Does.SETS_RATE,
        Does.AVERAGES,
        "{then} comes after {first} and averages steps, not gradients: they keep the learning rates they were made "
        "with, and a change of the rate arrives late. Put it before the learning rate.",
    ),
    Rule(
        Does.SETS_RATE,
        Does.CLIPS | Does.CLIPS_LEAVES,
        "{then} comes after {first}: it limits steps, learning rate included, and not gradients. Put it before.",
    ),
    Rule(
        Does.ADAPTS,
        Does.CLIPS,
        "{then} comes after {first}: it limits steps that are scaled already, and a huge gradient is in the averages "
        "by then. Put it before.",
    ),
    Rule(
        Does.DECAYS,
        Does.ADAPTS,
        "{first} comes before {then}, which divides the decay away again: it is L2 regularization, hardly felt by "
        "weights with large gradients. Put it after the adaptive scaling and before the learning rate, as adamw does.",
        unless=Does.SETS_RATE,
    ),
    Rule(
        Does.DECAYS,
        Does.ADAPTS,
        "{first} comes before {then}, which divides the decay away again: it is L2 regularization, hardly felt by "
        "weights with large gradients. Take the weight decay of an optimizer that has one.",
    ),
    Rule(
        Does.AVERAGES,
        Does.AVERAGES,
        "{then} averages what {first} has averaged already: two momenta, one after the other, answer late to a change "
        "of the gradient. Keep one of them.",
    ),
    Rule(
        Does.STOPS,
        Does.DECAYS | Does.ADDS_NOISE,
        "{then} moves weights that {first} stopped before. Put {first} last, or take selective_transform or groups, "
        "which save the state too.",
    ),
    Rule(
        Does.AVERAGES | Does.ADAPTS,
        Does.HEALS,
        "{then} comes after {first}, whose averages have taken the NaN in by then and keep it. Put it first.",
    ),
    Rule(
        Does.AVERAGES | Does.ADAPTS,
        Does.GUARDS,
        "{then} is put around what comes after {first}, whose averages have taken the NaN in by then and keep it. Put "
        "it around the whole chain.",
    ),
    Rule(
        Does.CLIPS | Does.CLIPS_LEAVES,
        Does.ACCUMULATES,
        "{first} comes before {then} and clips the gradient of every micro-batch, not their mean. Put it inside: "
        "MultiSteps(chain(clip_by_global_norm(...), ...), every_k_schedule).",
    ),
    Rule(
        Does.AVERAGES | Does.ADAPTS,
        Does.ACCUMULATES,
        "{first} comes before {then} and takes every micro-batch for a batch. Put it inside: MultiSteps(chain(...), "
        "every_k_schedule).",
    ),
    Rule(
        Does.FOLLOWS_WEIGHTS,
        ANYTHING,
        "{then} comes after {first}, which keeps weights of its own and takes its steps for those that are made; "
        "{then} changes them. Put it before, or inside {first}.",
    ),
    Rule(
        Does.PROJECTS,
        ANYTHING,
        "{then} comes after {first}, which sees to it where the steps end, and changes them. Put {first} last.",
        unless=Does.STOPS | Does.FOLLOWS_WEIGHTS,
    ),
    Rule(
        ANYTHING,
        Does.PER_EXAMPLE,
        "{first} comes before {then} and sees the gradients of single examples, which have an axis more than the "
        "parameters. Put {then} first.",
    ),
    Rule(
        Does.TAKES_NANS,
        Does.GUARDS,
        "{then} stands inside {first}: one micro-batch that is not finite spoils the mean, and the whole step is left "
        "out. Put it around: apply_if_finite(MultiSteps(...), ...), or give MultiSteps "
        "should_skip_update_fn=skip_not_finite.",
        inside=True,
    ),
    Rule(
        Does.SMOOTHS,
        Does.AVERAGES,
        "{then} stands inside {first}, which has averages in the place of momentum (its b1): there are two now. Take a "
        "base optimizer without momentum.",
        inside=True,
    ),
    Rule(
        Does.LEARNS_RATE,
        Does.BY_WEIGHTS,
        "{then} stands inside {first} and makes steps proportional to the weights, which {first} cannot learn the "
        "length of. Take an optimizer that does not.",
        inside=True,
    ),
)


def warnings_of(node: Node, way: Way, params: Params, steps: int | None) -> Iterator[str]:
    """What is suspicious about an optimizer."""
    yield from _orders((*way.stages, *way.aside))
    yield from _no_step(way)
    yield from _no_effect(way, params)
    if steps is not None:
        yield from _ends(node, steps)


def _orders(stages: tuple[Stage, ...]) -> Iterator[str]:
    told: set[tuple[object, ...]] = set()
    for rule in RULES:
        for then in stages:
            for first in reversed(then.within if rule.inside else then.before):
                owners = first.owner, then.owner
                pair = owners if first.owner != then.owner else (first.title, then.title)
                once = rule.says, then.title
                if _fits(rule, first, then) and pair not in told and once not in told:
                    told |= {pair, once}
                    yield rule.says.format(first=first.title, then=then.title)


def _fits(rule: Rule, first: Stage, then: Stage) -> bool:
    together = first.preset is not None and first.preset == then.preset
    right = bool(first.does & rule.first and then.does & rule.then and not then.does & rule.unless)
    return right and not together and bool(first.leaves & then.leaves)


def _no_step(way: Way) -> Iterator[str]:
    """Directions that nothing makes a step of."""
    told: set[str] = set()
    for stage in way.stages:
        on_leaves = [other for other in way.stages if other.leaves & stage.leaves]
        known = not any(other.does & Does.UNKNOWN for other in on_leaves)
        wants = stage.leaves and stage.does & (DIRECTION | Does.SETS_RATE)
        if wants and known and not any(other.does & Does.DESCENDS for other in on_leaves) and not told:
            told.add(stage.owner)
            yield (
                f"nothing turns the sign of what {stage.title} returns: added to the weights it climbs. End the chain "
                "with scale_by_learning_rate(learning_rate)."
            )


def _no_effect(way: Way, params: Params) -> Iterator[str]:
    """What does nothing to any of its leaves."""
    matrices = paths_of(tree.pick(params, _has_axes(params, 2)))
    for stage in way.stages:
        if stage.does & Does.CENTRES and stage.leaves and not stage.leaves & matrices:
            yield f"{stage.title} has no effect: it takes the mean off arrays of two axes or more, and there are none."


def _has_axes(params: Params, least: int) -> Params:
    return tree.mask_leaves(lambda path, leaf: leaf.ndim >= least, params)


def _ends(node: Node, updates: int) -> Iterator[str]:
    """Schedules that do not end when the run does."""
    for one, steps in _with_steps(node, updates):
        for argument, value in one.tx.hyperparameters.items():
            has_length = isinstance(value, Schedule) and value.length is not None
            length = _schedule_checks.known(value.length) if has_length else None
            if length is None:
                continue
            name = f"{one.name}.{argument}"
            if length > steps:
                yield f"{name} takes {length} updates and is cut off after {steps}."
            elif length < steps - 1 and argument in RATES and float(value(length)) == 0:
                yield f"{name} is 0 from update {length} on: the last {steps - length} of {steps} change nothing."


RATES = ("learning_rate", "step_size_fn")


def _with_steps(node: Node, updates: int) -> Iterator[tuple[Node, int]]:
    """Each transformation with the number of times that it is called."""
    yield node, updates
    if node.tx.made_by(MultiSteps):
        every_k = node.tx.arguments["every_k_schedule"]
        if callable(every_k):
            return
        updates //= int(every_k)
    for child in node.children:
        yield from _with_steps(child, updates)


def extra_arguments(tx: GradientTransformation) -> Mapping[str, list[str]]:
    """The keyword arguments that ``update`` cannot do without, each with the names of those that need it."""
    found: dict[str, list[str]] = {}
    for one in tx.walk():
        for name in getattr(one._make(), "needed", ()):
            if one.name not in found.setdefault(name, []):
                found[name].append(one.name)
    return found
