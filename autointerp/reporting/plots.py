"""Draws a run's pictures: scores by dictionary, by layer and by the explanation's length, and all features' scores.

In the manner of Cunningham et al. 2023, Figure 2: a mean per dictionary with its 95% interval. The same run gives the
same bytes: no file holds a time or a random name.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autointerp.records import FeatureResult
from autointerp.reporting.cells import Row, words
from autointerp.reporting.tables import CONTROLS, SIMULATION, main_rows, method_of, values_of
from autointerp.store import PICTURES
from sae.baselines.registry import colour_of, in_words
from sae.common.errors import shortened, visible
from sae.common.files import write_atomic_with

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SCORES = 4
"""Columns of the picture of scores by dictionary."""
LONGEST_LABEL, LONGEST_TITLE, LABEL_WIDTH = 40, 120, 22
"""Characters of a name and of the method that a picture shows, and of a line of a name."""
STYLES = ("-", "--", ":", "-.")
CHANCE_COLOUR, CONTROL_COLOUR = "#bbbbbb", "#555555"
CONTROL_MARKERS = ("x", "+", "^")
DICTIONARY_HEIGHT, PANEL_WIDTH, LABELS_WIDTH = 0.54, 1.75, 1.6
"""Inches that a dictionary, a panel and the dictionaries' names take."""
STYLE: Any = {
    "font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8, "figure.titlesize": 9, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "pdf.fonttype": 42, "svg.hashsalt": "autointerp",
}  # fmt: skip
"""Text as large as in a printed article, fonts that publishers take (no Type 3), and no random ids."""
FORMATS: Mapping[str, Mapping[str, Any]] = {
    "png": {"dpi": 200}, "svg": {"metadata": {"Date": None}}, "pdf": {"metadata": {"CreationDate": None}},
}  # fmt: skip
Line = Sequence[tuple[float, Row]]
"""Positions on the x axis, each with the row that is drawn there."""


def write(
    folder: Path, rows: Sequence[Row], results: Sequence[FeatureResult], formats: Sequence[str] = tuple(FORMATS)
) -> None:
    """Write each picture, in each format, into the run's folder `pictures`.

    `scores` and `features` are of every run, `layers` of a run at several layers, `length` of one with explanations of
    several lengths.
    """
    import matplotlib

    rows = [row for row in rows if row["scorer"] in SIMULATION] or rows
    with matplotlib.rc_context(STYLE):
        figures = {
            "scores": scores_by_dictionary(rows),
            "features": scores_by_feature(rows, results),
            "layers": scores_by_layer(rows),
            "length": scores_by_length(rows),
        }
        for name, figure in figures.items():
            if figure:
                save(figure, folder / PICTURES / name, formats)


def save(figure: Figure, path: Path, formats: Sequence[str]) -> None:
    """Write a picture in some formats; what lies where is computed once."""
    figure.draw_without_rendering()
    figure.set_layout_engine(None)
    for kind in formats:
        write_atomic_with(path.with_suffix(f".{kind}"), partial(figure.savefig, format=kind, **FORMATS[kind]))


def scores_by_dictionary(rows: Sequence[Row]) -> Figure:
    """Draw the main explainer's scores with their controls: a row of panels per hook point, a column per score."""
    main = main_rows(rows)
    scorers = values_of(main, "scorer")[:MOST_SCORES]
    figure, panels = _panels_of_dictionaries(main, len(scorers))
    for line, (hook_point, here) in zip(panels, _by_hook_point(main), strict=True):
        names = values_of(here, "dictionary")
        for panel, scorer in zip(line, scorers, strict=True):
            shown = [row for row in here if row["scorer"] == scorer]
            _draw_dictionaries(panel, {names.index(row["dictionary"]): row for row in shown})
            panel.set_title(plain(words(scorer)))
        _name_dictionaries(line[0], here, hook_point if len(panels) > 1 else "")
    _finish_figure(figure, main, scorers[0], "Mean over features with 95% interval")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    legend = dict(zip(labels, handles, strict=True))
    figure.legend(list(legend.values()), list(legend), loc="outside lower center", ncols=len(CONTROLS) + 1)
    return figure


def _draw_dictionaries(panel: Axes, rows: Mapping[int, Row]) -> None:
    """Draw each row at its position from above: controls, then the mean with its interval."""
    for position, row in rows.items():
        for marker, (kind, column) in zip(CONTROL_MARKERS, CONTROLS.items(), strict=True):
            if row[column] is not None:
                panel.plot(row[column], position, marker, label=kind, color=CONTROL_COLOUR, mfc="none", markersize=4.5)
        if row["mean"] is not None:
            reach = reach_of(row)
            panel.errorbar(row["mean"], position, xerr=reach, fmt="o", markersize=5, capsize=2.5, color=_colour(row))
    _draw_chance_of_each(panel, rows)


def scores_by_feature(rows: Sequence[Row], results: Sequence[FeatureResult]) -> Figure:
    """Draw the main score of every feature as a point, and their distribution as a violin: a panel per hook point."""
    main = [row for row in main_rows(rows) if row["scorer"] == rows[0]["scorer"]]
    scores: dict[tuple[str, str], list[float]] = {}
    for result in results:
        if (value := result.scores.get(rows[0]["scorer"])) is not None:
            scores.setdefault((result.feature.dictionary, result.explainer), []).append(value)
    figure, panels = _panels_of_dictionaries(main, 1, 5.0)
    for (panel,), (hook_point, here) in zip(panels, _by_hook_point(main), strict=True):
        for position, row in enumerate(here):
            _draw_features(panel, position, row, scores.get((row["dictionary"], row["explainer"]), []))
        _draw_chance_of_each(panel, dict(enumerate(here)))
        _name_dictionaries(panel, here, hook_point if len(panels) > 1 else "")
    title = f"The features' scores ({plain(words(rows[0]['scorer']))}), their distribution and mean"
    _finish_figure(figure, main, rows[0]["scorer"], title)
    return figure


def _draw_features(panel: Axes, position: int, row: Row, scores: Sequence[float]) -> None:
    """Draw a dictionary's features. Points are spread by the golden ratio, so that few lie on each other."""
    if len(scores) > 1:
        violin = panel.violinplot([scores], [position], orientation="horizontal", widths=0.8, showextrema=False)
        for body in violin["bodies"]:  # type: ignore[attr-defined]
            body.set(facecolor=_colour(row), alpha=0.25, linewidth=0)
    spread = (np.arange(len(scores)) * 0.618034 % 1 - 0.5) * 0.5
    panel.plot(scores, position + spread, "o", color=_colour(row), markersize=2, alpha=0.6, markeredgewidth=0)
    if row["mean"] is not None:
        panel.plot([row["mean"]] * 2, [position - 0.35, position + 0.35], color="black", linewidth=1.2)


def _panels_of_dictionaries(rows: Sequence[Row], n_columns: int, width: float | None = None) -> tuple[Figure, Any]:
    """Make a figure with a row of panels per hook point, as high as its dictionaries need; panels of `width` inches."""
    heights = [len(values_of(here, "dictionary")) for _, here in _by_hook_point(rows)]
    size = (LABELS_WIDTH + (width or PANEL_WIDTH) * max(n_columns, 2 if width is None else 1),
            1.6 + sum(0.4 + DICTIONARY_HEIGHT * n for n in heights))  # fmt: skip
    return panels_of(len(heights), n_columns, size, [0.5 + n for n in heights])


def _by_hook_point(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for hook_point in values_of(rows, "hook_point"):
        yield hook_point, [row for row in rows if row["hook_point"] == hook_point]


def _name_dictionaries(panel: Axes, rows: Sequence[Row], hook_point: str) -> None:
    """Write the dictionaries' names with their numbers of scored features, first on top."""
    by_name = {name: [row for row in rows if row["dictionary"] == name] for name in values_of(rows, "dictionary")}
    panel.set_yticks(range(len(by_name)), [_label(shown) for shown in by_name.values()])
    panel.set_ylim(len(by_name) - 0.5, -0.5)
    panel.set_ylabel(plain(hook_point))


def _label(rows: Sequence[Row]) -> str:
    """Return a dictionary's name in words and n, which is a range where scores do not exist for the same features."""
    row = rows[0]
    name = in_words(visible(str(row["dictionary"]).removesuffix(f"@{row['hook_point']}")), row["kind"])
    numbers = [row["n_ok"] + row["n_failed"] for row in rows]
    n = f"{min(numbers)} to {max(numbers)}" if len(set(numbers)) > 1 else str(numbers[0])
    return "\n".join([*textwrap.wrap(plain(name), LABEL_WIDTH), f"n = {n}"])


def _finish_figure(figure: Figure, rows: Sequence[Row], scorer: str, title: str) -> None:
    for panel in figure.axes:
        if panel.get_subplotspec().is_last_row():  # type: ignore[union-attr]
            panel.set_xlabel("correlation" if scorer in SIMULATION else "score")
    method = plain(method_of(rows), LONGEST_TITLE)
    longest = int(figure.get_figwidth() * 14)
    figure.suptitle("\n".join(textwrap.wrap(f"{title}; {method}" if method else title, longest)))


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
    figure, panels = panels_of(len(several), 1, (6.4, 0.6 + 3.2 * len(several)))
    for (panel,), (name, layer_rows) in zip(panels, several.items(), strict=True):
        for (kind, rank), line in _lines_by_kind(layer_rows).items():
            label = plain(in_words(kind, kind))
            draw_line(panel, line, f"{label} ({rank + 1})" if rank else label, STYLES[rank % len(STYLES)])
        panel.set_xticks(sorted({layer for layer, _ in layer_rows}))
        finish_panel(panel, f"layer of blocks.N.{name}", [row for _, row in layer_rows])
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
    figure, panels = panels_of(len(hook_points), 1, (6.4, 0.6 + 3.2 * len(hook_points)))
    for (panel,), (_, shown) in zip(panels, _by_hook_point(main), strict=True):
        ranks: Counter[str] = Counter()
        for name in values_of(shown, "dictionary"):
            line = [(lengths.index(row["explainer"]), row) for row in shown if row["dictionary"] == name]
            kind = line[0][1]["kind"]  # dictionaries of one kind, as a baseline's top-k version, share its colour
            label = plain(in_words(visible(name), kind))
            draw_line(panel, sorted(line, key=lambda item: item[0]), label, STYLES[ranks[kind] % len(STYLES)])
            ranks[kind] += 1
        panel.set_xticks(range(len(lengths)), [name.removeprefix("rules-") for name in lengths])
        finish_panel(panel, "rules in the explanation", shown)
    return figure


def _lengths(rows: Sequence[Row]) -> list[str]:
    """Order the explainers that are rules by their length."""
    names = {row["explainer"] for row in rows if row["explainer"].startswith("rules-")}
    return sorted(names, key=lambda name: float(name.split("-")[1].replace("unlimited", "inf")))


def panels_of(
    n_rows: int, n_columns: int, size: tuple[float, float], heights: Sequence[float] | None = None
) -> tuple[Figure, Any]:
    """Make a figure of `size` inches with a grid of panels, [n_rows, n_columns], and their relative heights."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    shared: dict[str, Any] = {"sharex": heights is not None, "sharey": "row" if heights else True}
    return figure, figure.subplots(n_rows, n_columns, squeeze=False, height_ratios=heights, **shared)


def finish_panel(panel: Axes, x_label: str, rows: Sequence[Row]) -> None:
    draw_chance(panel.axhline, rows)
    panel.set_xlabel(plain(x_label, LONGEST_TITLE))
    panel.set_ylabel(words(rows[0]["scorer"]) + (", correlation" if rows[0]["scorer"] in SIMULATION else ""))
    panel.legend(bbox_to_anchor=(1.01, 1), loc="upper left")


def draw_chance(line: Any, rows: Sequence[Row]) -> None:
    """Draw the chance levels of a panel's rows by its function for a line across it; none where none is known."""
    for level in sorted({row["chance"] for row in rows if row["chance"] is not None}):
        line(level, color=CHANCE_COLOUR, linewidth=0.8, zorder=0)


def _draw_chance_of_each(panel: Axes, rows: Mapping[int, Row]) -> None:
    """Draw one chance level across a panel of dictionaries, or each dictionary's at its position if they differ."""
    if len({row["chance"] for row in rows.values()}) == 1:
        draw_chance(panel.axvline, list(rows.values()))
        return
    for position, row in rows.items():
        if row["chance"] is not None:
            panel.plot([row["chance"]] * 2, [position - 0.5, position + 0.5], color=CHANCE_COLOUR, lw=0.8, zorder=0)


def draw_line(panel: Axes, line: Line, label: str, style: str) -> None:
    """Draw the rows of a line that have a mean, with their intervals."""
    drawn = [(position, row) for position, row in line if row["mean"] is not None]
    for position, row in drawn:
        panel.errorbar(
            position, row["mean"], yerr=reach_of(row), fmt="o", markersize=4, capsize=2.5, color=_colour(row)
        )
    colour = _colour(line[0][1])
    panel.plot([x for x, _ in drawn], [row["mean"] for _, row in drawn], style, color=colour, label=label)


def reach_of(row: Row) -> list[list[float]] | None:
    """Return how far the interval reaches below and above the mean."""
    return None if row["ci_low"] is None else [[row["mean"] - row["ci_low"]], [row["ci_high"] - row["mean"]]]


def _colour(row: Row) -> str:
    return colour_of(row["kind"])


def plain(text: str, longest: int = LONGEST_LABEL) -> str:
    """Return a text as matplotlib draws it: printable, without mathematics, cut where it would fill the picture."""
    return shortened(visible(text), longest).replace("$", r"\$")
