"""Sections with lines and tables, as text of at most 100 columns and as HTML."""

import html
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

WIDTH = 100
LEFT = 44
"""The widest left column; what is longer has its explanation on the next line."""


class Line(NamedTuple):
    """Something and what is to be said about it."""

    indent: int
    left: str
    right: str


class Table(NamedTuple):
    """Rows of cells. The last column holds numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(NamedTuple):
    title: str
    lines: tuple[Line, ...] = ()
    table: Table | None = None


def as_text(sections: tuple[Section, ...]) -> str:
    return "\n\n".join("\n".join(_section(section)) for section in sections)


def _section(section: Section) -> Iterator[str]:
    yield section.title
    yield from _lines(section.lines)
    if section.table is not None:
        yield from _table(section.table)


def _lines(lines: tuple[Line, ...]) -> Iterator[str]:
    lefts = [2 * line.indent + len(line.left) for line in lines if line.right]
    column = max((length for length in lefts if length <= LEFT), default=0) + 4
    for line in lines:
        left = "  " * (line.indent + 1) + line.left
        right = textwrap.wrap(line.right, WIDTH - column, break_on_hyphens=False)
        if not right:
            yield left
            continue
        if len(left) + 2 > column:
            yield from textwrap.wrap(left, WIDTH, subsequent_indent=" " * column) if len(left) > WIDTH else [left]
            left = ""
        for text in right:
            yield f"{left:<{column}}{text}"
            left = ""


def _table(table: Table) -> Iterator[str]:
    rows = [table.header, *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.header))]
    spare = WIDTH - 2 - sum(widths) - 2 * (len(widths) - 1)
    widest = widths.index(max(widths))
    widths[widest] = max(12, widths[widest] + min(spare, 0))
    for row in rows:
        cells = [_shortened(cell, width) for cell, width in zip(row, widths, strict=True)]
        aligned = [f"{cell:<{width}}" for cell, width in zip(cells[:-1], widths, strict=False)]
        yield "  " + "  ".join([*aligned, f"{cells[-1]:>{widths[-1]}}"])


def _shortened(cell: str, width: int) -> str:
    """A cell without its middle if it is too long: both ends of a path tell something."""
    if len(cell) <= width:
        return cell
    half = (width - 3) // 2
    return f"{cell[: width - 3 - half]}...{cell[len(cell) - half :]}"


def as_html(sections: tuple[Section, ...]) -> str:
    return "<div>" + "".join(map(_html_section, sections)) + "</div>"


def _html_section(section: Section) -> str:
    parts = [f"<h4>{html.escape(section.title)}</h4>"]
    if section.lines:
        parts += ["<table>", *map(_html_line, section.lines), "</table>"]
    if section.table is not None:
        parts += ["<table>", _html_row("th", section.table.header)]
        parts += [_html_row("td", row) for row in section.table.rows]
        parts.append("</table>")
    return "".join(parts)


def _html_line(line: Line) -> str:
    indent = f"padding-left:{1.5 * line.indent + 0.5:g}em"
    left = f'<td style="text-align:left;{indent}"><code>{html.escape(line.left)}</code></td>'
    return f'<tr>{left}<td style="text-align:left">{html.escape(line.right)}</td></tr>'


def _html_row(kind: str, row: tuple[str, ...]) -> str:
    sides = ["left"] * (len(row) - 1) + ["right"]
    cells = (
        f'<{kind} style="text-align:{side}">{html.escape(cell)}</{kind}>' for cell, side in zip(row, sides, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"
