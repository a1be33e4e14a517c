"""README and docstrings do what they show."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxopt_lessons as jl

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
NAMES = [module.name for module in pkgutil.walk_packages(jl.__path__, "jaxopt_lessons.")]


@pytest.mark.parametrize("name", NAMES)
def test_docstring_examples(name):
    module = importlib.import_module(name)
    results = doctest.testmod(module, extraglobs={"jax": jax, "jnp": jnp, "jl": jl})
    assert results.failed == 0


def test_there_are_docstring_examples():
    finder = doctest.DocTestFinder()
    examples = sum(len(test.examples) for name in NAMES for test in finder.find(importlib.import_module(name)))
    assert examples >= 25


def test_a_zero_update_would_fail_the_docstring_examples():
    """The control: with transformations that return zeros, the examples of updates go wrong."""
    finder, broken = doctest.DocTestFinder(), 0
    for name in NAMES:
        for test in finder.find(importlib.import_module(name), extraglobs={"jax": jax, "jnp": jnp}):
            if "tx.update" not in test.docstring or "update(" not in "".join(e.source for e in test.examples):
                continue
            for example in test.examples:
                example.source = example.source.replace("tx.update(", "zero(tx)(")
            test.globs["zero"] = lambda tx: lambda *args: (jax.tree.map(jnp.zeros_like, args[0]), args[1])
            results = doctest.DocTestRunner(verbose=False).run(test, out=lambda text: None)
            assert results.failed, f"{test.name} would pass if update returned zeros"
            broken += 1
    assert broken >= 8


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_readme_code_runs(tmp_path, monkeypatch, capsys):
    """All Python blocks, in order, in one namespace; comments that show printed output are compared with it."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    for block in blocks("python"):
        capsys.readouterr()
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            exec(compile(block, "README.md", "exec"), namespace)
        printed = capsys.readouterr().out.splitlines()
        shown = [line.removeprefix("# ") for line in block.splitlines() if line.startswith("# ")]
        for line in printed:
            expected = [s for s in shown if similar(s, line)]
            assert expected, f"README does not show {line!r}, but {shown}"


def similar(a, b):
    """Equal up to digits, which differ between machines and versions."""
    numbers = re.compile(r"\d+(\.\d+)?(e-?\d+)?")
    return numbers.sub("#", a).split() == numbers.sub("#", b).split()


def test_readme_has_the_two_commands():
    commands = blocks("sh")
    assert len(commands) == 2
    assert all(len(command.strip().splitlines()) == 1 for command in commands)
    assert "examples/train_digits.py" in commands[0]
    assert "pytest" in commands[1]


def test_readme_names_every_optimizer_and_schedule():
    import cases

    for case in cases.CASES:
        assert f"`{case.name}`" in README, f"README does not name {case.name}"
    for name, value in vars(jl).items():
        if (
            inspect.isfunction(value)
            and hasattr(value, "_specification")
            and value._specification.kind is jl.Schedule
            and name != "schedule"
        ):
            assert f"`{name}`" in README, f"README does not name {name}"


def test_files_named_in_the_documentation_exist():
    for file in (ROOT / "README.md", ROOT / "examples" / "README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
            if "://" not in target:
                assert (file.parent / target).exists(), f"{file.name} links to {target}"
