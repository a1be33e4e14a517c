"""What all lessons have in common, and that the gallery and the notebooks are made of them as they stand."""

import ast
import itertools
import json
import re

import gallery
import lesson_runs
import matplotlib
import matplotlib.style
import pytest

from jaxopt_lessons import _figure

every_lesson = pytest.mark.parametrize("path", lesson_runs.LESSONS, ids=lambda path: path.stem)


def test_lessons_are_numbered_from_one_on():
    numbers = [int(path.stem.split("_")[1]) for path in lesson_runs.LESSONS]
    assert numbers == list(range(1, len(numbers) + 1))


@every_lesson
def test_form_of_a_lesson(path):
    cells = lesson_runs.cells(path)
    number = int(path.stem.split("_")[1])
    assert re.match(rf"Lesson {number}: [A-Z]", gallery.introduction(path)["title"])
    assert [lesson_runs.PARAMETERS in cell.header for cell in cells].count(True) == 1
    assert cells[-1].is_text
    assert lesson_runs.text(cells[-1]).startswith("## What to try next")
    for before, cell in itertools.pairwise(cells):
        short = len(cell.source.strip().splitlines()) <= 12
        assert cell.is_text or before.is_text or lesson_runs.PARAMETERS in cell.header or short, (
            f"{path.name}:{cell.line}: code without a word before it"
        )


@every_lesson
def test_a_lesson_runs_anywhere(path):
    """As a script in any directory, and as a notebook."""
    code = "".join(cell.source for cell in lesson_runs.cells(path) if not cell.is_text)
    names = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    assert "__file__" not in names
    assert "argparse" not in code
    assert f'savefig("{path.stem}.png")' in code
    assert 'plt.style.use("jaxopt_lessons.style")' in code
    assert re.search(r"^\s*assert ", code, re.MULTILINE)


@every_lesson
def test_its_figure_was_kept(path):
    assert (gallery.FIGURES / f"{path.stem}.png").read_bytes().startswith(b"\x89PNG"), "python tests/gallery.py --run"


@every_lesson
def test_its_notebook_is_made_of_it(path):
    made = gallery.notebook(path)
    kept = (gallery.NOTEBOOKS / f"{path.stem}.ipynb").read_text()
    assert json.loads(kept) == json.loads(made), "run python tests/gallery.py"
    sources = ["".join(cell["source"]) for cell in json.loads(made)["cells"] if cell["cell_type"] == "code"]
    assert "pip install" in sources[0]
    code = [cell.source.strip() for cell in lesson_runs.cells(path) if not cell.is_text]
    assert [source.strip() for source in sources[1:]] == code


def test_the_gallery_is_made_of_the_lessons():
    readme = gallery.README.read_text()
    assert gallery.with_gallery(readme) == readme, "run python tests/gallery.py"


def test_there_are_no_other_notebooks():
    assert {path.stem for path in gallery.NOTEBOOKS.iterdir()} == {path.stem for path in lesson_runs.LESSONS}


def test_lessons_have_the_colors_of_the_library():
    with matplotlib.rc_context():
        matplotlib.style.use("jaxopt_lessons.style")
        colors = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    assert list(colors) == list(_figure.COLORS)
