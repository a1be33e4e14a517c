"""The arguments and defaults of everything public, one line each: ``PYTHONPATH=.:tests python tests/signatures.py``
writes ``signatures.txt`` again. A line that changes there changes the experiments of whoever relied on it."""

import inspect
from pathlib import Path
from typing import Any

import jaxopt_lessons as jl

FILE = Path(__file__).with_suffix(".txt")


def text_of(default: Any) -> str:
    return f"{default.__module__}.{default.__qualname__}" if inspect.isfunction(default) else repr(default)


def arguments(function: Any) -> str:
    """As in the source, without annotations."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(
            annotation=parameter.empty,
            default=parameter.empty if parameter.default is parameter.empty else _Text(text_of(parameter.default)),
        )
        for parameter in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


class _Text(str):
    """Shown as it is."""

    __repr__ = str.__str__


def methods(kind: type) -> list[tuple[str, Any]]:
    own = [(name, getattr(kind, name)) for cls in kind.__mro__ if ours(cls) for name in vars(cls)]
    return sorted({name: value for name, value in own if not name.startswith("_") and callable(value)}.items())


def ours(value: Any) -> bool:
    return getattr(value, "__name__" if inspect.ismodule(value) else "__module__", "").startswith(jl.__name__)


def public(space: Any) -> dict[str, Any]:
    names = getattr(space, "__all__", [name for name in dir(space) if not name.startswith("_")])
    return {name: getattr(space, name) for name in names if ours(getattr(space, name))}


def lines() -> list[str]:
    spaces = {"jl": jl} | {f"jl.{name}": space for name, space in public(jl).items() if inspect.ismodule(space)}
    found = {}
    for prefix, space in spaces.items():
        for name, value in public(space).items():
            if not callable(value) or id(value) in found:
                continue
            found[id(value)] = [f"{prefix}.{name}{arguments(value)}"]
            if inspect.isclass(value):
                found[id(value)] += [f"{prefix}.{name}.{method}{arguments(it)}" for method, it in methods(value)]
    return sorted(line for each in found.values() for line in each)


if __name__ == "__main__":
    FILE.write_text("".join(f"{line}\n" for line in lines()))
