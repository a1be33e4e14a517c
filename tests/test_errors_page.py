"""``examples/errors.md`` has an entry for every message of the library, and no other; its examples raise what it says.

A text is what the code raises, warns or notes, with ``<...>`` in the place of every part that changes:
``<owner>: <name> is empty.`` What stands in the brackets does not count, nor does white space, so the page may call
the parts by names that a reader understands.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxopt_lessons as jl

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "examples" / "errors.md").read_text()
ENTRIES = [text for block in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL) for text in block.split("\n\n")]
PART, HOLE = r"<[^<>]*>", r"\[\.\.\.\]"
ERRORS = {"TypeError": TypeError, "ValueError": ValueError, "InputError": jl.InputError}

RECORDS = "save: records map names to NumPy arrays without Python objects; at<>is<>."
FACTS = "<>: about holds what JSON can: str, int, float, bool, None, and lists and dicts of them; got<>of type<>at<>."
WITHOUT_ENTRY = {
    ("_checks.py", "<>"): "require hands on the text that its caller writes, which has an entry",
    ("_errors.py", "<>"): "warning hands on the text that its caller writes, which has an entry",
    ("testing/report.py", "<>"): "the report of check_optimizer, which explains itself",
    ("_checks.py", "<>:<>."): "arguments: Python's own text about a call, behind the name of the function",
    (
        "grid.py",
        "<>, at<>:<>",
    ): "the error of the function that makes the optimizers, behind the point at which it came",
    ("train/lr_find.py", "lr_find:<>"): "the error of Step.replace, behind the name of the function",
    ("wrappers/groups.py", "groups:<>:<>"): "the error of Value.replace, behind the rule",
    # From here on texts that users do not meet.
    ("_checkpoint_checks.py", RECORDS): "fit alone saves records, those of its history",
    ("_checkpoint_checks.py", FACTS): "fit alone saves facts, and made them",
    ("_data_checks.py", "data: a position in a stream has<>; got<>."): "fit gives the position that it has saved",
    ("_data_checks.py", "rows: expected a slice of the rows of a batch; got<>."): "fit gives plan.rows(...)",
    ("_data_checks.py", "rows:<>takes none of the<>rows of a batch."): "plan.rows(...) is never empty",
    ("train/checkpoint.py", "save_in_background: a run of several processes saves by save."): "Checkpoint sees to it",
    ("train/file_sums.py", "<>is missing, or no file."): "restore says that the checkpoint is incomplete",
    ("train/host_batches.py", "HostBatches: a plan that shuffles needs the run's key."): "fit gives the key",
}
"""Texts that need no entry, and why."""


def fixed(text: str) -> str:
    """The words of a text that do not change, with ``<>`` between them."""
    return re.sub(r"(\s*<>\s*)+", "<>", re.sub(PART, "<>", " ".join(text.split())))


def message(call: ast.Call) -> ast.expr | None:
    """The argument of a call that is a text for the user; None if it has none."""
    name = ast.unparse(call.func).split(".")[-1]
    if name == "require":
        return call.args[1]
    if call.args and (name.endswith("Error") or name in ("type(error)", "warn", "warning", "add_note")):
        return call.args[0]
    return None


def assigned_once(function: ast.FunctionDef) -> dict[str, ast.expr]:
    """The strings that are given to a name of the function, and to no other string."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                found.setdefault(ast.unparse(target), []).append(node.value)
    return {
        name: values[0]
        for name, values in found.items()
        if len(values) == 1 and isinstance(values[0], ast.JoinedStr | ast.Constant)
    }


def written(node: ast.AST, local: Mapping[str, ast.expr]) -> str:
    """The string that an expression makes; ``local`` has the strings behind the names in it."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(written(part, local) for part in parts)
        case ast.FormattedValue(value=ast.Name(id=name) as value) if name in local:
            return written(value, local)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return written(left, local) + written(right, local)
        case ast.Lambda(body=body) | ast.Call(func=ast.Attribute(value=ast.JoinedStr() as body)):
            return written(body, local)  # a text made only when it is needed; a method such as rstrip
        case ast.Name(id=name) if name in local:
            return written(local[name], {other: value for other, value in local.items() if other != name})
    return "<>"


def texts(node: ast.AST, local: Mapping[str, ast.expr]) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.FunctionDef):
        local = {**local, **assigned_once(node)}
    if isinstance(node, ast.Call) and (text := message(node)) is not None:
        yield fixed(written(text, local)), node.lineno
    for child in ast.iter_child_nodes(node):
        yield from texts(child, local)


def texts_of_the_library() -> list[tuple[str, int, str]]:
    """File, line and fixed words of each text."""
    package = ROOT / "jaxopt_lessons"
    return [
        (path.relative_to(package).as_posix(), line, text)
        for path in sorted(package.rglob("*.py"))
        for text, line in texts(ast.parse(path.read_text()), {})
    ]


FOUND = texts_of_the_library()


def test_every_message_has_an_entry():
    entries = {fixed(entry) for entry in ENTRIES}
    for file, line, text in FOUND:
        assert text in entries or (file, text) in WITHOUT_ENTRY, (
            f"jaxopt_lessons/{file}:{line} has a message without an entry in examples/errors.md. Add a block\n\n"
            f"```text\n{text}\n```\n\nto the section where users meet it, with words in each <>, and below it what the "
            "cause is and what to do. (A text that is only <> is put together where the test cannot read it: write it "
            "as one f-string in the call.)"
        )


def test_every_entry_is_a_message():
    known = {text for _, _, text in FOUND}
    for entry in ENTRIES:
        assert fixed(entry) in known, f"examples/errors.md explains a message that is not in the code:\n{entry}"
    twice = [entry for entry in ENTRIES if [fixed(other) for other in ENTRIES].count(fixed(entry)) > 1]
    assert not twice, f"examples/errors.md has two entries for {twice[0]}"


def test_messages_without_an_entry_are_those_that_are_said():
    """One at each place: a second would be a message that the test cannot read."""
    assert sorted((file, text) for file, _, text in FOUND if (file, text) in WITHOUT_ENTRY) == sorted(WITHOUT_ENTRY)


def test_how_texts_are_read():
    source = """
def check(owner, value, error):
    what = f"{owner}: size"
    require(value > 0, lambda: f"{what} must be " + f"positive;  got {value!r}.")
    error.add_note(f"In {', '.join(value)}" ".")
    warnings.warn(f"It is {value}. {owner}".rstrip())
    make("no message")
    raise type(error)(_text(value))
"""
    found = [text for text, _ in texts(ast.parse(source), {})]
    assert found == ["<>: size must be positive; got<>.", "In<>.", "It is<>.<>", "<>"]


def examples() -> list[Any]:
    """Each example of the page with the entries right above it."""
    entries, found = [], []
    for language, block in re.findall(r"```(text|python)\n(.*?)```", PAGE, re.DOTALL):
        if language == "python":
            found.append(pytest.param(block, entries, id=block.splitlines()[0][:40]))
        else:
            entries = block.split("\n\n")
    return found


def wildcard(text: str, part: str) -> str:
    """An expression that fits a text with anything in the parts that change."""
    return ".*".join(map(re.escape, re.split(part, " ".join(text.split()))))


@pytest.mark.parametrize(("block", "entries"), examples())
def test_example_raises_what_its_entry_says_and_the_remedy_works(block, entries):
    """Code, the error as a comment, with ``[...]`` for what differs between machines, and what to write instead."""
    wrong, said, remedy = re.split(r"((?:^# .*\n)+)", block, flags=re.MULTILINE)
    kind, text = " ".join(line[2:] for line in said.splitlines()).split(": ", 1)
    assert any(re.search(wildcard(entry, PART) + "$", text) for entry in entries), f"no entry above for {text}"
    namespace = {"jax": jax, "jnp": jnp, "jl": jl}
    with pytest.raises(ERRORS[kind]) as caught:
        exec(wrong, namespace)
    assert re.fullmatch(wildcard(text, HOLE), str(caught.value)), str(caught.value)
    assert type(caught.value) is ERRORS[kind]
    exec(remedy, namespace)
