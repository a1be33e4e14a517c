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
import readme_table

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


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "examples/choosing_an_optimizer.md"])
def test_code_of_the_pages_runs(page, tmp_path, monkeypatch, capsys):
    """All Python blocks, in order, in one namespace; comments that show printed output are compared with it."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    for block in blocks("python", (ROOT / page).read_text()):
        capsys.readouterr()
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            exec(compile(block, page, "exec"), namespace)
        printed = capsys.readouterr().out.splitlines()
        shown = [line.removeprefix("# ") for line in block.splitlines() if line.startswith("# ")]
        for line in filter(str.strip, printed):
            expected = [s for s in shown if similar(s, line)]
            assert expected, f"{page} does not show {line!r}, but {shown}"


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


def test_readme_has_the_table():
    assert readme_table.with_table(README) == README, "run python tests/readme_table.py"


@pytest.mark.parametrize("name", readme_table.optimizers())
def test_facts_of_an_optimizer(name):
    what, use, paper, lesson = readme_table.facts(name)
    assert 0 < len(what.split()) <= 10, f"what {name} does is to be said in ten words: {what!r}"
    assert use, f"the docstring of {name} has no line 'Use it: ...'"
    assert paper, f"the docstring of {name} has no line 'Paper: ...' or 'Source: ...'"
    lessons = [f"{number}, {title}" for number, title in readme_table.LESSONS.items()]
    assert lesson == "none" or set(lesson.split("; ")) <= set(lessons), lesson
    module = importlib.import_module(getattr(jl, name).__module__)
    state = module.__doc__.split("State:")[1].split("\n\n")[0]
    for size in readme_table.bytes_of(name):
        assert re.search(rf"\b{size}\b", state), f"{module.__name__} does not say that {name} takes {size} bytes"


@pytest.mark.parametrize("path", sorted((ROOT / "jaxopt_lessons").rglob("*.py")), ids=lambda path: path.stem)
def test_a_paper_is_cited_once_in_a_file(path):
    found = re.findall(r"arXiv\s+(\d{4}\.\d{4,5})", path.read_text())
    assert len(found) == len(set(found)), found


def test_files_named_in_the_documentation_exist():
    for file in (ROOT / "README.md", *sorted((ROOT / "examples").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
            if "://" not in target:
                assert (file.parent / target).exists(), f"{file.name} links to {target}"


def test_the_range_of_jax_is_the_one_that_is_tested():
    """CI installs both ends of it."""
    (dependencies,) = re.findall(r"^dependencies = (.*)$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    oldest, below = re.search(r"jax>=([\d.]+),<([\d.]+)", dependencies).groups()
    assert f"jaxlib>={oldest},<{below}" in dependencies
    major, minor = map(int, below.split("."))
    assert f"Tested with JAX {oldest} on Python 3.11 and JAX {major}.{minor - 1} on Python 3.13" in README
