"""The gallery of lessons in ``examples/README.md`` and their notebooks, from the lessons themselves.

    python tests/gallery.py           writes the gallery between its two markers, and the notebooks
    python tests/gallery.py --run     runs the lessons first, so that their figures are new, too

A lesson begins with a cell of text: its title, and three paragraphs that begin with ``**The idea.**``, ``**You will
see**`` and ``**It opens**``. Notebooks are the same cells, made by jupytext, with one more that installs the library
where it is not: nobody edits them.
"""

import re
import subprocess
import sys
from pathlib import Path

import lesson_runs

EXAMPLES = Path(__file__).parent.parent / "examples"
README, FIGURES, NOTEBOOKS = EXAMPLES / "README.md", EXAMPLES / "figures", EXAMPLES / "notebooks"
BEGIN, END = "<!-- the gallery: python tests/gallery.py -->", "<!-- end of the gallery -->"

PARTS = ("**The idea.**", "**You will see**", "**It opens**")

INSTALL = """\
# In Colab, or wherever the library is missing: installs it. Before its release, build a wheel with
# `pip wheel --no-deps .` and upload it beside this notebook.
import glob, importlib.util

if importlib.util.find_spec("jaxopt_lessons") is None:
    source = (glob.glob("jaxopt_lessons-*.whl") or ["jaxopt_lessons"])[0] + "[examples]"
    %pip install --quiet "{source}"
"""


def introduction(path: Path) -> dict[str, str]:
    """The title of a lesson and its three paragraphs, by how they begin."""
    title, *paragraphs = lesson_runs.text(lesson_runs.cells(path)[0]).split("\n\n")
    found = {"title": title.removeprefix("# ")}
    for part in PARTS:
        (found[part],) = [paragraph for paragraph in paragraphs if paragraph.startswith(part)]
    return found


def section(path: Path) -> str:
    """What the gallery says of a lesson."""
    said = introduction(path)
    return "\n\n".join(
        [
            f"### {said['title']}",
            f"[{path.name}]({path.name}) · [notebook](notebooks/{path.stem}.ipynb)",
            *(said[part] for part in PARTS),
            f"![The figure of {said['title'][0].lower()}{said['title'][1:]}](figures/{path.stem}.png)",
        ]
    )


def gallery() -> str:
    return "\n\n".join(section(path) for path in lesson_runs.LESSONS)


def with_gallery(readme: str) -> str:
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n\n{gallery()}\n\n{END}{rest.split(END)[1]}"


def notebook(path: Path) -> str:
    """The lesson as a notebook, without outputs; the same bytes each time. Needs jupytext."""
    import jupytext
    import nbformat

    made = jupytext.reads(path.read_text(), fmt="py:percent")
    made.cells.insert(1, nbformat.v4.new_code_cell(INSTALL.rstrip()))
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "markdown":  # Notebooks lie one folder deeper than the lessons.
            cell.source = re.sub(r"\]\((?!\w+://|#)([^)]+)\)", relocated, cell.source)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    return nbformat.writes(made) + "\n"


def relocated(link: re.Match[str]) -> str:
    target = link[1]
    if re.fullmatch(r"lesson_\w+\.py", target):
        return f"]({target.removesuffix('.py')}.ipynb)"
    return f"](../{target})"


def main() -> None:
    FIGURES.mkdir(exist_ok=True)
    NOTEBOOKS.mkdir(exist_ok=True)
    for path in lesson_runs.LESSONS:
        if "--run" in sys.argv[1:]:
            subprocess.run([sys.executable, path], check=True, cwd=FIGURES)
        (NOTEBOOKS / f"{path.stem}.ipynb").write_text(notebook(path))
    README.write_text(with_gallery(README.read_text()))
    print(f"{README}: {len(lesson_runs.LESSONS)} lessons")


if __name__ == "__main__":
    main()
