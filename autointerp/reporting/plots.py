"""Draws a run's figures from its leaderboard rows: scores by dictionary, by layer, and by the explanation's length.

In the manner of Cunningham et al. 2023, Figure 2: a mean per dictionary with its 95% interval.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autointerp.reporting.tables import CONTROLS, SIMULATION, Row, main_rows, method_of, values_of, words
from sae.baselines.registry import colour_of as registered_colour
from sae.baselines.registry import kinds
from sae.common.errors import shortened, visible
from sae.common.files import write_atomic_with

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SCORES = 4
"""Columns of scores.png."""
LONGEST_LABEL, LONGEST_TITLE = 40, 120
"""Characters of a name, and of the method, that a picture shows."""
STYLES = ("-", "--", ":", "-.")
CHANCE_COLOUR, CONTROL_COLOUR = "#cccccc", "#999999"
Line = Sequence[tuple[float, Row]]
"""Positions on the x axis, each with the row that is drawn there."""


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Write scores.png; layers.png for a run at several layers; length.png for explanations of several lengths."""
    import matplotlib

    matplotlib.use("Agg")
    rows = [row for row in rows if row["scorer"] in SIMULATION] or rows
    figures = {
        "scores.png": scores_by_dictionary(rows),
        "layers.png": scores_by_layer(rows),
        "length.png": scores_by_length(rows),
    }
    for name, figure in figures.items():
        if figure:
            write_atomic_with(folder / name, partial(figure.savefig, dpi=130, bbox_inches="tight", format="png"))


def colour_of(kind: str) -> str:
    """Return the colour of a kind of dictionary; one that is not installed here gets one of matplotlib's cycle."""
    return registered_colour(kind) if kind in kinds() else f"C{zlib.crc32(kind.encode()) % 10}"


def scores_by_dictionary(rows: Sequence[Row]) -> Figure:
    """Draw the main explainer's scores with their controls: a row of panels per hook point, a column per score."""
    main = main_rows(rows)
    hook_points, scorers = values_of(main, "hook_point"), values_of(main, "scorer")[:MOST_SCORES]
    figure, panels = _panels(len(hook_points), len(scorers), 10.5, 4.0)
    for line, hook_point in zip(panels, hook_points, strict=True):
        for panel, scorer in zip(line, scorers, strict=True):
            shown = [row for row in main if (row["hook_point"], row["scorer"]) == (hook_point, scorer)]
            _draw_dictionaries(panel, shown)
            panel.set_title(plain(words(scorer)), fontsize=10)
        unit = "correlation" if scorers[0] in SIMULATION else "score"
        line[0].set_ylabel(f"{plain(hook_point)}\n{unit}" if len(hook_points) > 1 else unit)
    method = plain(method_of(main), LONGEST_TITLE)
    title = f"Mean over features with 95% interval; x mismatched, + permuted, | exchanged; {method}"
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    return figure


def _draw_dictionaries(panel: Axes, rows: Sequence[Row]) -> None:
    for position, row in enumerate(rows):
        _draw_point(panel, position, row)
        for marker, column in zip("x+|", CONTROLS.values(), strict=True):
            if row[column] is not None:
                panel.plot(position, row[column], marker=marker, color=CONTROL_COLOUR, linestyle="none")
    _draw_chance(panel, rows)
    panel.set_xticks(range(len(rows)), list(map(_short_name, rows)), rotation=40, ha="right")


def scores_by_layer(rows: Sequence[Row]) -> Figure | None:
    """Draw the main score against the layer, a panel per kind of hook point and a line per kind of dictionary.

    None if no kind of hook point (`mlp.hook_post` of blocks.N.mlp.hook_post) occurs in two layers.
    """
    main = [row for row in main_rows(rows) if row["scorer"] == rows[0]["scorer"]]
    by_hook: dict[str, list[tuple[int, Row]]] = {}
    for row in main:
        if hook_point := re.fullmatch(r"blocks\.(\d+)\.([\w.]+)", row["hook_point"]):
            by_hook.setdefault(hook_point[2], []).append((int(hook_point[1]), row))
    several = {name: layer_rows for name, layer_rows in by_hook.items() if len({layer for layer, _ in layer_rows}) > 1}
    if not several:
        return None
    figure, panels = _panels(len(several), 1, 6.4, 4.0)
    for (panel,), (name, layer_rows) in zip(panels, several.items(), strict=True):
        for (kind, rank), line in _lines_by_kind(layer_rows).items():
            _draw_line(panel, line, f"{kind} ({rank + 1})" if rank else kind, STYLES[rank % len(STYLES)])
        panel.set_xticks(sorted({layer for layer, _ in layer_rows}))
        _finish(panel, f"layer of blocks.N.{name}", main)
    figure.tight_layout()
    return figure


def _lines_by_kind(rows: Sequence[tuple[int, Row]]) -> dict[tuple[str, int], list[tuple[int, Row]]]:
    """Group rows by kind, and by their order among the dictionaries of this kind at one layer; layers ascend."""
    lines: dict[tuple[str, int], list[tuple[int, Row]]] = {}
    ranks: Counter[tuple[int, str]] = Counter()
    for layer, row in sorted(rows, key=lambda item: item[0]):
        lines.setdefault((row["kind"], ranks[layer, row["kind"]]), []).append((layer, row))
        ranks[layer, row["kind"]] += 1
    return lines


def scores_by_length(rows: Sequence[Row]) -> Figure | None:
    """Draw the main score against the number of rules an explanation may have: a panel per hook point.

    None if no two explainers are rules of different lengths.
    """
    lengths = _lengths(rows)
    if len(lengths) < 2:
        return None
    main = [row for row in rows if row["scorer"] == rows[0]["scorer"] and row["explainer"] in lengths]
    hook_points = values_of(main, "hook_point")
    figure, panels = _panels(len(hook_points), 1, 6.4, 4.0)
    for (panel,), hook_point in zip(panels, hook_points, strict=True):
        shown = [row for row in main if row["hook_point"] == hook_point]
        for name in values_of(shown, "dictionary"):
            line = [(lengths.index(row["explainer"]), row) for row in shown if row["dictionary"] == name]
            # A baseline's top-k version has the baseline's colour.
            _draw_line(panel, sorted(line, key=lambda item: item[0]), plain(name), "--" if "-top" in name else "-")
        panel.set_xticks(range(len(lengths)), [name.removeprefix("rules-") for name in lengths])
        _finish(panel, "rules in the explanation", main)
    figure.tight_layout()
    return figure


def _lengths(rows: Sequence[Row]) -> list[str]:
    """Order the explainers that are rules by their length."""
    names = {row["explainer"] for row in rows if row["explainer"].startswith("rules-")}
    return sorted(names, key=lambda name: float(name.split("-")[1].replace("unlimited", "inf")))


def _panels(n_rows: int, n_columns: int, width: float, height: float) -> tuple[Figure, Any]:
    """Make a figure with a grid of panels, [n_rows, n_columns]; sizes in inches, the height per row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 0.6 + height * n_rows))
    return figure, figure.subplots(n_rows, n_columns, sharey=True, squeeze=False)


def _finish(panel: Axes, x_label: str, rows: Sequence[Row]) -> None:
    _draw_chance(panel, rows)
    panel.set_xlabel(x_label)
    panel.set_ylabel(rows[0]["scorer"])
    panel.legend(fontsize=8, frameon=False, bbox_to_anchor=(1.01, 1), loc="upper left")


def _draw_chance(panel: Axes, rows: Sequence[Row]) -> None:
    levels = [row["chance"] for row in rows if row["chance"] is not None]
    panel.axhline(levels[0] if levels else 0.0, color=CHANCE_COLOUR, linewidth=0.8, zorder=0)


def _draw_line(panel: Axes, line: Line, label: str, style: str) -> None:
    """Draw the rows of a line that have a mean, with their intervals."""
    drawn = [(position, row) for position, row in line if row["mean"] is not None]
    for position, row in drawn:
        _draw_point(panel, position, row, size=4)
    colour = colour_of(line[0][1]["kind"])
    panel.plot([x for x, _ in drawn], [row["mean"] for _, row in drawn], style, color=colour, label=label)


def _draw_point(panel: Axes, position: float, row: Row, size: int = 6) -> None:
    if row["mean"] is None:
        return
    reach = None if row["ci_low"] is None else [[row["mean"] - row["ci_low"]], [row["ci_high"] - row["mean"]]]
    colour = colour_of(row["kind"])
    panel.errorbar(position, row["mean"], yerr=reach, fmt="o", markersize=size, capsize=3, color=colour)


def _short_name(row: Row) -> str:
    """Return a dictionary's name without the hook point that the panel names."""
    return plain(str(row["dictionary"]).removesuffix(f"@{row['hook_point']}"))


def plain(text: str, longest: int = LONGEST_LABEL) -> str:
    """Return a text as matplotlib draws it: printable, without mathematics, cut where it would fill the picture."""
    return shortened(visible(text), longest).replace("$", r"\$")
