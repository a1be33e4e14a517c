"""Nothing in the package executes what it reads: no pickle, no ``eval``, no shell."""

import ast
from pathlib import Path

import pytest

import jaxopt_lessons as jl

PACKAGE = Path(jl.__file__).parent
FORBIDDEN_MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle", "yaml"),
    *("subprocess", "pty", "code", "codeop", "runpy", "imp", "importlib", "ctypes", "xmlrpc"),
}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "execfile", "input", "breakpoint"),
    *("os.system", "os.popen", "os.startfile", "torch.load", "np.memmap", "np.fromfile", "pandas.read_pickle"),
}
SPAWNING = ("os.exec", "os.spawn", "os.posix_spawn", "os.fork")

ALLOWED = {
    ("testing/as_value.py", "import pickle"): "check_optimizer pickles a value and reads the bytes it has just written",
    ("testing/as_value.py", "pickle.loads"): "the same",
}
"""File and what is found there: why it may."""


def found_in(text: str) -> list[str]:
    """What a source has that could execute what it reads."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [f"import {n.name}" for n in node.names if n.name.split(".")[0] in FORBIDDEN_MODULES]
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            found.append(f"import {node.module}")
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            last = name.split(".")[-1]
            if name in FORBIDDEN_CALLS or name.startswith(SPAWNING) or (last in ("load", "loads") and "pickle" in name):
                found.append(name)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            numpy_files = ("load", "save", "savez", "savez_compressed")
            if name in [f"{module}.{one}" for module in ("np", "numpy", "jnp", "jax.numpy") for one in numpy_files]:
                found += [f"{name} without allow_pickle=False"] * (keywords.get("allow_pickle") != "False")
            found += [f"{name} with {key}=True" for key in ("shell", "allow_pickle") if keywords.get(key) == "True"]
    return found


def test_nothing_that_is_read_is_executed():
    found = {
        (path.relative_to(PACKAGE).as_posix(), what)
        for path in PACKAGE.rglob("*.py")
        for what in found_in(path.read_text())
    }
    assert found == set(ALLOWED), "new: avoid it, or add it to ALLOWED with the reason; gone: take it off"


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from pickle import loads", "import marshal", "import subprocess as s", "import yaml"),
        *("eval(text)", "exec(text)", "os.system('ls')", "__import__(name)", "torch.load(file)", "pickle.loads(b)"),
        *("np.load(file)", "np.load(file, allow_pickle=True)", "numpy.load(f, None)", "os.execv('a', [])"),
        *("np.savez(file, **arrays)", "run(command, shell=True)", "def f():\n  def g():\n    return eval('1')"),
    ],
)
def test_the_search_finds(source):
    assert found_in(source)


@pytest.mark.parametrize(
    "source", ["np.load(f, allow_pickle=False)", "jax.eval_shape(f)", "re.compile(p)", "json.loads(t)"]
)
def test_the_search_lets_pass(source):
    assert not found_in(source)
