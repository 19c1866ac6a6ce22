"""The two pictures of a run: scores by dictionary, and scores along the explanation's length. Knows leaderboard rows.

In the manner of Cunningham et al. 2023, Figure 2: a mean per dictionary with its 95% interval.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from autointerp.scorers.simulation import SLICES
from sae.common.files import write_atomic_with

COLOURS = {
    "sae": "#d1495b",
    "neurons": "#30638e",
    "pca": "#5c946e",
    "ica": "#8d6a9f",
    "nmf": "#c08552",
    "random": "#7a7a7a",
    "random_matched": "#b5b5b5",
}
MOST_PANELS = 4
Row = dict[str, Any]


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Write scores.png and, where explanations of several lengths were scored, length.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    rows = [row for row in rows if row["scorer"] in SLICES] or rows
    figures: dict[str, Figure] = {"scores.png": scores_by_dictionary(rows)}
    if len(_budgets(rows)) > 1:
        figures["length.png"] = scores_by_length(rows)
    for name, figure in figures.items():
        write_atomic_with(folder / name, partial(figure.savefig, dpi=130, bbox_inches="tight", format="png"))


def scores_by_dictionary(rows: Sequence[Row]) -> Any:
    """A panel per score (simulation: top and random, top, random) for the main explainer, with shuffled controls."""
    from matplotlib.figure import Figure

    main = [row for row in rows if row["explainer"] == rows[0]["explainer"]]
    figure = Figure(figsize=(10.5, 4.6))
    scorers = list(dict.fromkeys(row["scorer"] for row in main))[:MOST_PANELS]
    panels = figure.subplots(1, len(scorers), sharey=True, squeeze=False)[0]
    for panel, scorer in zip(panels, scorers, strict=True):
        shown = [row for row in main if row["scorer"] == scorer]
        for place, row in enumerate(shown):
            _point(panel, place, row, fmt="o")
            if row["control_mean"] is not None:
                panel.plot(place, row["control_mean"], marker="x", color="#999999", linestyle="none")
        panel.axhline(shown[0]["chance"] or 0, color="#cccccc", linewidth=0.8, zorder=0)
        panel.set_xticks(range(len(shown)), [row["dictionary"] for row in shown], rotation=40, ha="right")
        panel.set_title(scorer.removeprefix("simulation/").replace("_", " "), fontsize=10)
    panels[0].set_ylabel("correlation" if scorers[0] in SLICES else "score")
    figure.suptitle(
        f"Mean over features with 95% interval; x: shuffled explanations. "
        f"Explainer {rows[0]['explainer']}, simulator {rows[0]['simulator']}",
        fontsize=10,
    )
    figure.tight_layout()
    return figure


def scores_by_length(rows: Sequence[Row]) -> Any:
    """Score (top and random) against the number of rules an explanation may have, a line per dictionary."""
    from matplotlib.figure import Figure

    budgets = _budgets(rows)
    figure = Figure(figsize=(6.4, 4.0))
    panel = figure.subplots()
    main = [row for row in rows if row["scorer"] == rows[0]["scorer"]]
    for name in dict.fromkeys(row["dictionary"] for row in main):
        line = _line(main, name, budgets)
        for place, row in line:
            _point(panel, place, row, fmt="o", size=4)
        colour = COLOURS[line[0][1]["kind"]] if line else "black"
        style = "--" if "-top" in name else "-"  # a baseline's top-k version has its colour
        panel.plot([p for p, _ in line], [row["mean"] for _, row in line], style, color=colour, label=name)
    panel.set_xticks(range(len(budgets)), [budget.removeprefix("rules-") for budget in budgets])
    panel.set_xlabel("rules in the explanation")
    panel.set_ylabel(rows[0]["scorer"])
    panel.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    panel.legend(fontsize=8, frameon=False, bbox_to_anchor=(1.01, 1), loc="upper left")
    figure.tight_layout()
    return figure


def _line(main: Sequence[Row], name: str, budgets: list[str]) -> list[tuple[int, Row]]:
    found = {row["explainer"]: row for row in main if row["dictionary"] == name and row["mean"] is not None}
    return [(place, found[budget]) for place, budget in enumerate(budgets) if budget in found]


def _budgets(rows: Sequence[Row]) -> list[str]:
    """The rule explainers by their length."""
    names = {row["explainer"] for row in rows if row["explainer"].startswith("rules-")}
    return sorted(names, key=lambda name: float(name.split("-")[1].replace("unlimited", "inf")))


def _point(panel: Any, place: int, row: Row, fmt: str, size: int = 6) -> None:
    if row["mean"] is None:
        return
    reach = None if row["ci_low"] is None else [[row["mean"] - row["ci_low"]], [row["ci_high"] - row["mean"]]]
    panel.errorbar(place, row["mean"], yerr=reach, fmt=fmt, markersize=size, capsize=3, color=COLOURS[row["kind"]])
