"""Draws the pictures of a suite: the main score against the layer, against L0 and FVU, and against the cost."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autointerp.reporting.cells import Row, words
from autointerp.reporting.plots import (
    LONGEST_TITLE,
    STYLE,
    STYLES,
    draw_chance,
    draw_line,
    finish_panel,
    panels_of,
    plain,
    reach_of,
    save,
)
from autointerp.reporting.tables import main_rows, method_of, values_of
from autointerp.store import PICTURES
from sae.baselines.registry import colour_of, in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "os^DvPX*<>"
"""A marker for each subject, or explainer, from the first on again where there are more."""
DESCRIPTIONS = {"l0": "L0 (active features per token)", "fvu": "FVU (fraction of variance unexplained)"}


def write(folder: Path, rows: Sequence[Row], subjects: Mapping[str, str], formats: Sequence[str]) -> None:
    """Write each picture, in each format, into the suite's folder `pictures`.

    Args:
        rows: of the members, named MEMBER:DICTIONARY.
        subjects: the name of each member's subject; see `merging.subjects_of`.
    """
    import matplotlib

    main = [row for row in rows if row["scorer"] == rows[0]["scorer"]]
    with matplotlib.rc_context(STYLE):
        figures = {
            "layers": by_layer(main, subjects),
            "sparsity": by_sparsity(main, subjects),
            "cost": by_cost(main),
        }
        for name, figure in figures.items():
            if figure:
                save(figure, folder / PICTURES / name, formats)


def by_layer(rows: Sequence[Row], subjects: Mapping[str, str]) -> Figure | None:
    """Draw the score against the layer: a panel per subject and kind of hook point, a line per dictionary.

    None if no kind of hook point (`blocks.N.mlp.hook_post`, `hf:model.layers.N.mlp`) occurs in two layers of a subject.
    """
    panels: dict[tuple[str, str], list[tuple[int, Row]]] = {}
    for row in main_rows(rows):
        parts = re.split(r"(?<=\.)(\d+)(?=\.|$)", row["hook_point"])
        if len(parts) == 3:  # one layer; a crosscoder reads several
            panels.setdefault((subjects[_member(row)], f"{parts[0]}N{parts[2]}"), []).append((int(parts[1]), row))
    several = {key: points for key, points in panels.items() if len({layer for layer, _ in points}) > 1}
    if not several:
        return None
    figure, axes = panels_of(len(several), 1, (7.2, 0.6 + 3.2 * len(several)))
    for (panel,), ((subject, kind), points) in zip(axes, several.items(), strict=True):
        for number, (label, line) in enumerate(_lines(points).items()):
            draw_line(panel, line, plain(label), STYLES[number % len(STYLES)])
        panel.set_xticks(sorted({layer for layer, _ in points}))
        panel.set_title(plain(subject, LONGEST_TITLE))
        finish_panel(panel, f"layer of {plain(kind)}", [row for _, row in points])
    return figure


def _lines(points: Sequence[tuple[int, Row]]) -> dict[str, list[tuple[int, Row]]]:
    """Group rows by dictionary; layers ascend.

    Dictionaries of one name in several members are lines of their own if they are at the same layer. Those that are
    the same (a baseline that several members fitted) are drawn once.
    """
    lines: dict[tuple[str, int], list[tuple[int, Row]]] = {}
    ranks, seen = Counter[tuple[int, str]](), set[Any]()
    for layer, row in sorted(points, key=lambda point: point[0]):
        name = _dictionary(row)
        content = (layer, name, row["mean"], row["ci_low"], row["ci_high"])
        if content not in seen:
            seen.add(content)
            lines.setdefault((name, ranks[layer, name]), []).append((layer, row))
            ranks[layer, name] += 1
    several = {name for name, rank in lines if rank}
    return {
        in_words(name, line[0][1]["kind"]) + (f" ({_member(line[0][1])})" if name in several else ""): line
        for (name, _), line in lines.items()
    }


def by_sparsity(rows: Sequence[Row], subjects: Mapping[str, str]) -> Figure | None:
    """Draw the score against L0 and against FVU: a point per dictionary, a marker per subject.

    None if neither was measured of any dictionary.
    """
    main = [row for row in main_rows(rows) if row["mean"] is not None]
    measures = [name for name in DESCRIPTIONS if any(row[name] is not None for row in main)]
    if not measures:
        return None
    names = list(dict.fromkeys(subjects.values()))
    figure, axes = panels_of(1, len(measures), (1.8 + 3.4 * len(measures), 3.8))
    for panel, measure in zip(axes[0], measures, strict=True):
        shown = [row for row in main if row[measure] is not None]
        for row in shown:
            subject = subjects[_member(row)]
            _draw_point(panel, row[measure], row, MARKERS[names.index(subject) % len(MARKERS)], subject)
        if measure == "l0" and all(row["l0"] > 0 for row in shown):
            panel.set_xscale("log", base=2)
            panel.xaxis.set_major_formatter("{x:g}")
        _label(panel, DESCRIPTIONS[measure], main)
    _finish(figure, axes[0][-1], main)
    return figure


def by_cost(rows: Sequence[Row]) -> Figure | None:
    """Draw the score against what explaining and scoring a feature cost: a point per dictionary and explainer.

    The cost is in USD or, where a price is not known, in tokens. None if no language model was asked.
    """
    drawn = [row for row in rows if row["mean"] is not None]
    priced = all(row["cost_usd"] is not None for row in drawn)
    costs = [row["cost_usd"] if priced else row["tokens_in"] + row["tokens_out"] for row in drawn]
    if not any(costs):
        return None
    explainers = values_of(drawn, "explainer")
    figure, axes = panels_of(1, 1, (5.6, 3.8))
    for row, cost in zip(drawn, costs, strict=True):
        n_features = sum(row[f"n_{status}"] for status in ("ok", "undefined", "failed", "error"))
        marker = MARKERS[explainers.index(row["explainer"]) % len(MARKERS)]
        _draw_point(axes[0][0], cost / n_features, row, marker, row["explainer"])
    _label(axes[0][0], "USD a feature" if priced else "tokens a feature", drawn)
    _finish(figure, axes[0][0], drawn)
    return figure


def _draw_point(panel: Axes, x: float, row: Row, marker: str, label: str) -> None:
    """Draw a mean with its interval in its kind's colour; its marker is named in the legend by `label`."""
    panel.errorbar(
        x, row["mean"], yerr=reach_of(row), fmt=marker, markersize=4.5, capsize=2, color=colour_of(row["kind"]),
        label=plain(label),
    )  # fmt: skip


def _label(panel: Axes, x_label: str, rows: Sequence[Row]) -> None:
    draw_chance(panel.axhline, rows)
    panel.set_xlabel(x_label)
    panel.set_ylabel(words(rows[0]["scorer"]))


def _finish(figure: Figure, panel: Axes, rows: Sequence[Row]) -> None:
    """Name the markers and the colours beside the last panel, and the method above."""
    from matplotlib.lines import Line2D

    handles, labels = panel.get_legend_handles_labels()
    legend: dict[str, Any] = {
        label: Line2D([], [], linestyle="", marker=handle.lines[0].get_marker(), color="black")
        for label, handle in reversed(list(zip(labels, handles, strict=True)))
    }
    kinds = values_of(rows, "kind")
    legend = dict(reversed(legend.items())) | {
        plain(in_words(kind, kind)): Line2D([], [], linewidth=3, color=colour_of(kind)) for kind in kinds
    }
    panel.legend(list(legend.values()), list(legend), bbox_to_anchor=(1.01, 1), loc="upper left")
    figure.suptitle(plain(method_of(rows), LONGEST_TITLE))


def _member(row: Row) -> str:
    return str(row["dictionary"]).partition(":")[0]


def _dictionary(row: Row) -> str:
    """Return a row's dictionary without its member and its hook point."""
    return str(row["dictionary"]).partition(":")[2].removesuffix(f"@{row['hook_point']}")
