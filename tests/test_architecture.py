"""The shape of the code: which way imports point, one state class to a file, a row in the table for every factory."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import cases
import pytest

import jaxopt_lessons as jl
from jaxopt_lessons._value import Value

PACKAGE = Path(jl.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))

LEVELS = [
    {"types"},
    {"_errors", "_figure"},
    {"_checks", "_state_checks", "_tree_checks"},
    {"_schedule_checks", "_training_checks", "_checkpoint_checks", "_data_checks", "_device_checks"},
    {"_value", "_leaf", "numerics", "rounding"},
    {"_map_leaves", "_labels", "_random_keys", "_tree_names"},
    {"_norms"},
    {"tree"},
    {"core"},
    {"losses", "projections", "schedules", "named_state", "grid"},
    {"transforms"},
    {"wrappers", "measure"},
    {"optimizers"},
    {"_named_parts"},
    {"hyperparameters"},
    {"train"},
    {"inspect", "interop"},
    {"testing"},
    {"contrib"},
]
"""Lower levels first. A module imports from levels below its own, and inside a package from its own package."""

OPTIONAL = {
    "tqdm",
    "matplotlib",
    "flax",
    "equinox",
    "optax",
    "orbax",
    "sklearn",
    "torch",
    "pandas",
    "vega_datasets",
    "optuna",
    "tensorboard",
}


def unit(path: Path) -> str:
    """The package or module directly below jaxopt_lessons that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and dotted name of each import, at any depth of the file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.lineno, f"{node.module}.{name.name}") for name in node.names]
    return found


@every_module
def test_imports_point_one_way(path: Path):
    if path.name == "__init__.py" and path.parent == PACKAGE:
        return
    level = {name: i for i, names in enumerate(LEVELS) for name in names}
    here = unit(path)
    for line, name in imports(path):
        if not name.startswith("jaxopt_lessons"):
            continue
        there = name.split(".")[1] if "." in name else ""
        inside = there == here and path.parent != PACKAGE
        assert inside or level[there] < level[here], f"{path}:{line}: {here} must not import {name}"
        if here == "optimizers":
            assert not inside, f"{path}:{line}: files in optimizers never import each other"


@every_module
def test_optional_packages_are_imported_where_they_are_used(path: Path):
    for node in ast.parse(path.read_text()).body:
        for name in ast.walk(node) if isinstance(node, (ast.Import, ast.ImportFrom)) else ():
            if isinstance(name, ast.alias):
                module = getattr(node, "module", None) or name.name
                assert module.split(".")[0] not in OPTIONAL, f"{path}:{node.lineno}: {module}"


def test_import_is_light():
    """Importing the package loads nothing that jax does not load, besides itself."""
    code = "import sys, jax; before = set(sys.modules); import jaxopt_lessons; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    foreign = {name.split(".")[0] for name in loaded} - {"jaxopt_lessons"}
    assert not foreign & OPTIONAL


def classes(path: Path) -> list[str]:
    return [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]


STAGES = [path for path in MODULES if unit(path) in ("optimizers", "transforms", "wrappers")]


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_one_state_class_to_a_file(path: Path):
    states = [name for name in classes(path) if name.endswith("State")]
    assert len(states) <= 1
    assert states == classes(path) or unit(path) == "wrappers"


@every_module
def test_every_module_says_what_it_is(path: Path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def public_factories() -> list[str]:
    factories = [n for n, f in vars(jl).items() if inspect.isfunction(f) and hasattr(f, "_specification")]
    return [name for name in factories if issubclass(vars(jl)[name]._specification.kind, jl.GradientTransformation)]


def test_every_factory_has_a_row():
    assert sorted(case.name for case in cases.CASES) == sorted(public_factories())


def test_one_public_path_for_each_name():
    names = [name for name in vars(jl) if not name.startswith("_")]
    for namespace in (jl.losses, jl.tree, jl.inspect):
        names += [name for name in namespace.__all__ if name != "global_norm"]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", sorted(n for n, v in vars(jl).items() if callable(v) and not n.startswith("_")))
def test_public_docstrings(name):
    value = getattr(jl, name)
    documentation = inspect.getdoc(value)
    assert documentation, name
    if inspect.isfunction(value):
        given = documentation.split("Args:")[-1]
        for parameter in inspect.signature(value).parameters:
            assert f"{parameter}:" in given, f"the docstring of {name} does not describe {parameter}"


def test_states_are_public():
    """A state can be named, to be matched or saved."""
    for path in MODULES:
        for name in classes(path):
            if name.endswith("State"):
                assert hasattr(jl, name), name


def test_values_are_slotted():
    assert not hasattr(jl.adam(0.1), "__dict__")
    assert all("__slots__" in vars(kind) for kind in (Value, jl.GradientTransformation, jl.Schedule, jl.Step))
