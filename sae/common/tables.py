"""Renders tables of text: for a terminal in its width, for a pipe without wrapping, as Markdown, or as LaTeX.

Imports nothing heavy: rich is imported when a table is rendered.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sae.common.errors import visible

if TYPE_CHECKING:
    from rich.box import Box
    from rich.console import Console
    from rich.table import Table as Grid

UNWRAPPED = 100_000
"""Width, in characters, where nothing is wrapped."""
_FIGURE = re.compile(r"[-+$]?\d|-$")


@dataclass(frozen=True)
class Table:
    """Holds a header, rows of as many cells, and a title: one or two sentences that say what the cells are."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


def number(value: float | None, digits: int = 2) -> str:
    """Format with fixed digits, or as a dash if there is no value."""
    return "-" if value is None else f"{value:.{digits}f}"


def no_formula(text: str) -> str:
    """Return a text for a cell of CSV, with an apostrophe before it if a spreadsheet would compute it as a formula."""
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text


def without_mark(cell: str) -> str:
    """Return the text of a cell that `no_formula` wrote."""
    return cell[1:] if cell[:1] == "'" and no_formula(cell[1:]) == cell else cell


def print_tables(tables: Iterable[Table], console: Console | None = None) -> None:
    """Print tables with an empty line between them.

    On a terminal, cells wrap so that a table fits; elsewhere every row is one line, without colours.

    Args:
        tables: what to print.
        console: where to print; by default, standard output.
    """
    from rich import box
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    if not console.is_terminal:
        console.width = UNWRAPPED
    for index, table in enumerate(tables):
        if index:
            console.print()
        if table.title:
            console.print(Text(f"{visible(table.title)}\n"))
        console.print(_grid(table, box.SIMPLE_HEAD, edges=False))


def to_markdown(tables: Iterable[Table]) -> str:
    """Render tables as Markdown, padded so that the source is readable too; a title is a paragraph above its table."""
    return "\n\n".join(_markdown(table) for table in tables) + "\n"


def _markdown(table: Table) -> str:
    from rich import box
    from rich.console import Console

    console = Console(file=io.StringIO(), width=UNWRAPPED, color_system=None)
    header, *rows = ([_plain_markdown(cell) for cell in row] for row in (table.header, *table.rows))
    with console.capture() as captured:
        console.print(_grid(Table(header, rows), box.MARKDOWN, edges=True))
    lines = [line for line in captured.get().splitlines() if line.strip()]
    return "\n".join([*([visible(table.title), ""] if table.title else []), *lines])


def _plain_markdown(text: str) -> str:
    """Escape what Markdown would read as a cell's border, as HTML, or as a link or a picture."""
    text = re.sub(r"([|<])", r"\\\1", text)
    if "](" in text:
        text = text.replace("[", "\\[").replace("](", "]\\(")
    return re.sub(r"(?i)\b(https?|ftp|mailto|xmpp)(:)|\b(www)(\.)", r"\1\3\\\2\4", text)


def to_latex(tables: Iterable[Table]) -> str:
    """Render tables as LaTeX, a float each with its title as caption, in the manner of the package booktabs."""
    return "% needs \\usepackage{booktabs}\n" + "\n".join(_latex(table) for table in tables)


def _latex(table: Table) -> str:
    columns = zip(*table.rows, strict=True) if table.rows else ([] for _ in table.header)
    kinds = "".join("r" if cells and all(_FIGURE.match(cell) for cell in cells) else "l" for cells in columns)
    header, *rows = (" & ".join(map(_plain_latex, cells)) + r" \\" for cells in (table.header, *table.rows))
    lines = [
        r"\begin{table}", r"\centering", *([rf"\caption{{{_plain_latex(table.title)}}}"] if table.title else []),
        rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", header, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}",
        r"\end{table}", "",
    ]  # fmt: skip
    return "\n".join(lines)


LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\char34{}",
}  # fmt: skip
"""What LaTeX would read as a command, or print as another character."""


def _plain_latex(text: str) -> str:
    """Escape a text for LaTeX; a minus is one, and a bracket that begins a line belongs to no command before it."""
    escaped = "".join(LATEX.get(character, character) for character in visible(text))
    escaped = re.sub(r"(?<![\w}])-(?=[\d.])", "$-$", escaped)
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped


def _grid(table: Table, box: Box, edges: bool) -> Grid:
    """Build rich's table: words to the left, columns of figures to the right; no cell is read as markup."""
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=box, show_edge=edges, pad_edge=edges, collapse_padding=not edges)
    for name, *cells in zip(table.header, *table.rows, strict=True):
        figures = cells and all(_FIGURE.match(cell) for cell in cells)
        grid.add_column(Text(visible(name)), justify="right" if figures else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*(Text(visible(cell)) for cell in row))
    return grid
