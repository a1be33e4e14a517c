"""The README's table of optimizers, from their docstrings and from measurement.

    python tests/readme_table.py      writes it between the two markers

What it does, the paper, when to use it and the lesson stand in the docstring of each optimizer, the bytes a parameter
are measured; here is only the order. An optimizer without a place in it comes last.
"""

import inspect
import math
import re
import sys
from pathlib import Path
from typing import NamedTuple

import cases
import jax
import jax.numpy as jnp

import jaxopt_lessons as jl

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- the table of optimizers: python tests/readme_table.py -->", "<!-- end of the table -->"

FAMILIES = {
    "The course's, and where to begin": "adamw sgd adam rmsprop ema_momentum",
    "Large models and long runs": "nadamw schedule_free_adamw lion ademamix mars stable_adamw adam_atan2 adopt",
    "Little memory": "adafactor adam_mini came sm3",
    "No learning rate, or no schedule, to tune": (
        "prodigy schedule_free_sgd schedule_free_radam schedule_free mechanize momo momo_adam dog dowg polyak_sgd"
        " dadapt_adamw cocob"
    ),
    "Around another optimizer": "lookahead sam asam",
    "Layer by layer": "lamb lars novograd fromage",
    "Relatives of Adam": (
        "nadam nadam_dozat radam adan simplified_ademamix laprop adabelief yogi qhadam adamax adamaxw amsgrad acprop"
    ),
    "Momentum and signs": "qhm signum sign_sgd",
    "Older ones, and for special problems": (
        "adagrad adadelta madgrad rprop noisy_sgd dpsgd sophia optimistic_gradient_descent optimistic_adam_v2"
        " optimistic_adam"
    ),
}

LESSONS = {
    1: "mini-batch",
    2: "exponentially weighted averages",
    3: "bias correction",
    4: "momentum",
    5: "RMSprop",
    6: "Adam",
    7: "learning-rate decay",
    8: "saddle points and plateaus",
}


class Facts(NamedTuple):
    """What the docstring of an optimizer says of it; "" where it says nothing."""

    what: str
    use: str
    paper: str
    lesson: str


def facts(name: str) -> Facts:
    documentation = inspect.getdoc(getattr(jl, name))
    first = re.split(r"\.(?:\s|$)", documentation, maxsplit=1)[0]
    return Facts(
        what=one_line(first.split(": ", 1)[-1]),
        use=fact(documentation, "Use it"),
        paper=fact(documentation, "Papers?|Sources?"),
        lesson=fact(documentation, "Lessons?"),
    )


def fact(documentation: str, label: str) -> str:
    """What stands behind a label, up to the next line that is not indented."""
    found = re.search(rf"^(?:{label}): (.*?)\.$(?!\n )", documentation, re.MULTILINE | re.DOTALL)
    return one_line(found[1]) if found else ""


def one_line(text: str) -> str:
    return " ".join(text.split())


def optimizers() -> list[str]:
    """The public presets in ``optimizers``, and the wrappers that say when to use them."""
    names = []
    for case in cases.CASES:
        module = case.factory.__module__
        is_preset = module.startswith("jaxopt_lessons.optimizers.") and not case.name.startswith("scale_by_")
        if is_preset or facts(case.name).use:
            names.append(case.name)
    return names


def own_bytes(tx: jl.GradientTransformation) -> int:
    """Bytes of state a parameter, without those of the transformations that are arguments."""
    params = jax.ShapeDtypeStruct((256, 256), jnp.float32)
    total = state_bytes(tx, params)
    is_transformation = lambda x: isinstance(x, jl.GradientTransformation)
    for inner in jax.tree.leaves(list(tx.arguments.values()), is_leaf=is_transformation):
        if is_transformation(inner):
            total -= state_bytes(inner, params)
    return round(total / (256 * 256))


def state_bytes(tx: jl.GradientTransformation, params: jax.ShapeDtypeStruct) -> int:
    state = jax.eval_shape(tx.init, params)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def bytes_of(name: str) -> tuple[int, int]:
    """The least and the most that the arguments of its row in the table of the tests make of it."""
    case = next(case for case in cases.CASES if case.name == name)
    measured = [own_bytes(case.make(**changes)) for changes in [{}, *case.variants()]]
    return min(measured), max(measured)


def is_wrapper(name: str) -> bool:
    return ".wrappers." in getattr(jl, name).__module__


def row(name: str) -> str:
    what, use, paper, lesson = facts(name)
    least, most = bytes_of(name)
    size = f"{least} to {most}" if most > least else str(least)
    cells = [
        f"[`{name}`]({getattr(jl, name).__module__.replace('.', '/')}.py)",
        markdown(what),
        f"+ {size}" if is_wrapper(name) else size,
        markdown(spelled_out(paper)),
        markdown(use),
        "-" if lesson == "none" else "; ".join(map(linked, lesson.split("; "))),
    ]
    return "| " + " | ".join(cells) + " |"


def linked(lesson: str) -> str:
    """``4, momentum`` as a link to the lesson with this number."""
    (path,) = (ROOT / "examples").glob(f"lesson_{int(lesson.split(',')[0]):02}_*.py")
    return f"[{lesson}](examples/{path.name})"


def spelled_out(paper: str) -> str:
    """With the papers of another optimizer in the place of ``see `` `` its name."""
    return re.sub(r"see ``(\w+)``", lambda match: spelled_out(facts(match[1]).paper), paper)


def markdown(text: str) -> str:
    text = text.replace("``", "`").replace("|", "\\|")
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def table() -> str:
    names = optimizers()
    families = {family: [name for name in members.split() if name in names] for family, members in FAMILIES.items()}
    placed = [name for members in families.values() for name in members]
    families["More"] = [name for name in names if name not in placed]
    lines = [
        "| optimizer | what it does | bytes a parameter | paper | use it | lesson |",
        "|---|---|---|---|---|---|",
    ]
    for family, members in families.items():
        if members:
            lines += [f"| **{family}** | | | | | |", *map(row, members)]
    return "\n".join(lines)


def with_table(readme: str) -> str:
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    readme = path.read_text()
    path.write_text(with_table(readme))
    print(f"{path}: {len(optimizers())} optimizers" + ("" if path.read_text() != readme else ", nothing new"))
    sys.exit(0)
