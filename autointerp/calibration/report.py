"""Writes a calibration: calibration.json with every row, calibration.md with the tables, and the plots."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autointerp.calibration.attacks import Attacked, orderings
from autointerp.calibration.marks import Mark, oracle_of, score_of
from autointerp.calibration.measure import ALL_TOKENS, Row
from autointerp.calibration.purity import COVERED, FeaturePurity
from sae.common.files import write_atomic, write_atomic_with
from sae.common.tables import Table, number, to_markdown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NUMBERS: tuple[tuple[str, str, str], ...] = (
    ("harness", "#1b1b1b", "o-"),
    ("harness, all tokens", "#1b1b1b", "o:"),
    ("true text", "#30638e", "s-"),
    ("true text, all tokens", "#5c946e", "^-"),
    ("closed form", "#d1495b", "--"),
)
"""The numbers of a cell, with their colour and line in plots."""
DIGITS = 3


@dataclass(frozen=True)
class Calibration:
    """Holds everything that a calibration measured."""

    about: Mapping[str, Any]
    """Models, seed, tokens, seconds."""
    main: str
    """The main score."""
    scores: tuple[str, ...]
    """Every score that was calibrated, the main one first."""
    rows: tuple[Row, ...]
    attacked: tuple[Attacked, ...]
    trained: tuple[FeaturePurity, ...]
    coverage: float | None
    """Share of the concepts in reach that some trained feature covers; None without a trained dictionary."""
    agreement: float | None
    """Largest difference between the activations that the language model's run gave and the labels; None: not run."""
    marks: tuple[Mark, ...]


def write(calibration: Calibration, folder: Path) -> None:
    """Write all files. Raises UserError if the folder cannot be written to."""
    content = {
        "about": dict(calibration.about),
        "main": calibration.main,
        "summary": [asdict(mark) for mark in calibration.marks],
        "cells": [asdict(row) for row in calibration.rows],
        "attacks": [asdict(one) for one in calibration.attacked],
        "trained": [asdict(one) for one in calibration.trained],
        "coverage": calibration.coverage,
        "agreement": calibration.agreement,
    }
    write_atomic(folder / "calibration.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_atomic(folder / "calibration.md", _opening(calibration) + to_markdown(all_tables(calibration)))
    figures = {"noise.png": plot_noise(calibration), "orderings.png": plot_orderings(calibration)}
    for name, figure in figures.items():
        write_atomic_with(folder / name, partial(figure.savefig, dpi=130, bbox_inches="tight", format="png"))


def _opening(calibration: Calibration) -> str:
    """Write what was calibrated, in which text, and how far the ordinary run agrees with the labels."""
    about = calibration.about
    judge = f", judge {about['judge']}" if about["judge"] else ""
    lines = [
        f"# Calibration of {about['explainer']}, simulator {about['simulator']}{judge}",
        f"{len(calibration.rows)} planted features in {about['tokens']:,} tokens of the planted language, seed "
        f"{about['seed']}, {about['seconds']:.0f} seconds.",
    ]
    if calibration.agreement is not None:
        lines.append(
            "Activations that a run reads from a model which holds the truth differ from the labels by at most "
            f"{calibration.agreement:.1e}."
        )
    return "\n\n".join(lines) + "\n\n"


def summary_table(calibration: Calibration) -> Table:
    """Make the table of marks: a row per mark, a column per score."""
    names = list(dict.fromkeys(mark.name for mark in calibration.marks))
    columns = list(dict.fromkeys(mark.score for mark in calibration.marks))
    marks = {(mark.name, mark.score): mark for mark in calibration.marks}
    lines = []
    for name in names:
        known = [marks.get((name, score)) for score in columns]
        bound = next(mark.bound for mark in known if mark)
        lines.append([name, bound, *map(_cell, known)])
    lines.append(["language model tokens a feature", "", *[_price(calibration)] * (len(columns) - 1), ""])
    title = "What each score reaches of marks that were fixed beforehand; ! does not reach its mark."
    return Table(["mark", "bound", *columns], lines, title)


def _cell(mark: Mark | None) -> str:
    if mark is None:
        return ""
    reach = "" if mark.low is None or mark.high is None or mark.value is None else f" ±{(mark.high - mark.low) / 2:.3f}"
    return number(mark.value, DIGITS) + reach + ("" if mark.reached or mark.value is None else " !")


def _price(calibration: Calibration) -> str:
    return f"{np.mean([row.tokens for row in calibration.rows] or [0]):,.0f}"


def all_tables(calibration: Calibration) -> list[Table]:
    """Make every table of calibration.md."""
    rows = calibration.rows
    equal = [row for row in rows if row.amplitude == 1]
    weak = [row for row in rows if row.amplitude != 1]
    main = calibration.main
    tables = [
        summary_table(calibration),
        _numbers_table(equal, main, ("family", "noise"), "Wrong firings as strong as right ones."),
        _numbers_table(equal, main, ("target_density", "noise"), "The same by the concept's density."),
        _numbers_table(weak, main, ("family", "noise"), "Wrong firings weaker: the amplitude tells them apart."),
        _generation_table(equal),
        _orderings_table(calibration),
    ]
    return tables + ([_trained_table(calibration)] if calibration.trained else [])


def numbers_of(row: Row, main: str) -> tuple[float | None, ...]:
    """Return the numbers of one feature, in the order of NUMBERS."""
    scores = (score_of(row, main), row.harness_all, oracle_of(row, main), row.oracle_all)
    return (*scores, row.closed_form)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _groups(rows: Iterable[Row], keys: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(getattr(row, key) for key in keys), []).append(row)
    return groups


def _numbers_table(rows: Sequence[Row], main: str, keys: Sequence[str], title: str) -> Table:
    """Make a table of the mean numbers by two fields; rows of one value of the first stand together."""
    lines = []
    groups = _groups(rows, keys)
    first = list(dict.fromkeys(key[0] for key in groups))
    for key in sorted(groups, key=lambda key: (first.index(key[0]), key[1])):
        columns = zip(*(numbers_of(row, main) for row in groups[key]), strict=True)
        means = [_mean(column) for column in columns]
        differences = (_difference(means[a], means[b]) for a, b in ((0, 2), (1, 3), (2, 3)))
        cells = [number(value, DIGITS) for value in (*means, *differences)]
        lines.append([*(f"{k:g}" if isinstance(k, float) else k for k in key), str(len(groups[key])), *cells])
    header = [*(key.replace("_", " ") for key in keys), "features", *(name for name, _, _ in NUMBERS)]
    note = (
        f"{title} Score: {main}. The explainer's loss is harness - true text, on the records and on all tokens; the "
        "records' bias is true text - true text, all tokens."
    )
    return Table([*header, "explainer's loss", "its loss, all tokens", "records' bias"], lines, note)


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _generation_table(rows: Sequence[Row]) -> Table:
    lines = []
    for (family, noise), group in _groups(
        [row for row in rows if row.family != "position"], ("family", "noise")
    ).items():
        means = [_mean(getattr(row, name) for row in group) for name in ("sensitivity", "specificity")]
        lines.append([family, f"{noise:g}", str(len(group)), *(number(value, DIGITS) for value in means)])
    title = "Text written from the explanation: the share in which the feature's concept holds; and of other text, not."
    return Table(["family", "noise", "features", "sensitivity", "specificity"], lines, title)


def _orderings_table(calibration: Calibration) -> Table:
    """Make a table of failure rates: wrong or tied, with the number of comparisons."""
    by_score = {score: orderings(calibration.attacked, score) for score in calibration.scores}
    kinds = list(dict.fromkeys(kind for counted in by_score.values() for kind in counted if kind != "all"))
    lines = []
    for kind in [*kinds, "all"]:
        cells = []
        for counted in by_score.values():
            one = counted.get(kind)
            known = one is not None and one.failure_rate is not None
            cells.append(f"{one.failure_rate:.3f} ({one.wrong}+{one.tied} of {one.compared})" if known and one else "-")
        lines.append([kind, *cells])
    title = "Wrong labels: share of comparisons that a score does not order (wrong + tied of all that it defines)."
    return Table(["comparison", *calibration.scores], lines, title)


def _trained_table(calibration: Calibration) -> Table:
    groups: dict[str, list[FeaturePurity]] = {}
    for one in calibration.trained:
        groups.setdefault(one.family, []).append(one)
    lines = [
        [
            family,
            str(len(some)),
            number(_mean(one.purity for one in some), DIGITS),
            str(sum(one.purity > COVERED for one in some)),
            *(number(_mean(one.scores.get(score) for one in some), DIGITS) for score in calibration.scores),
        ]
        for family, some in groups.items()
    ]
    title = (
        "Features of a dictionary trained on the planted language, by the family of the best concept. It covers "
        f"{number(calibration.coverage)} of the concepts in reach (purity above {COVERED})."
    )
    return Table(["family", "features", "purity", f"above {COVERED}", *calibration.scores], lines, title)


def plot_noise(calibration: Calibration) -> Figure:
    """Draw the numbers of each family against the noise share."""
    rows = [row for row in calibration.rows if row.amplitude == 1 and row.family != "position"]
    families = list(dict.fromkeys(row.family for row in rows))
    figure, panels = _panels(len(families), 3.4)
    for panel, family in zip(panels, families, strict=True):
        groups = _groups([row for row in rows if row.family == family], ("noise",))
        levels = sorted(groups)
        for index, (name, colour, style) in enumerate(NUMBERS):
            means = [
                (level, _mean(numbers_of(row, calibration.main)[index] for row in groups[level])) for level in levels
            ]
            known = [(level[0], mean) for level, mean in means if mean is not None]
            panel.plot([x for x, _ in known], [y for _, y in known], style, color=colour, label=name, markersize=3)
        panel.set_title(family, fontsize=9)
        panel.set_xlabel("share of wrong firings", fontsize=8)
    if families:
        panels[0].legend(fontsize=6, frameon=False)
    figure.suptitle(f"{calibration.main}, and what it should be", fontsize=10)
    figure.tight_layout()
    return figure


def plot_orderings(calibration: Calibration) -> Figure:
    """Draw every score's rate of orderings that fail; beside it, trained features' scores against their purity."""
    figure, panels = _panels(2 if calibration.trained else 1, 5.0)
    rates = [orderings(calibration.attacked, score)["all"].failure_rate or 0.0 for score in calibration.scores]
    panels[0].barh(range(len(rates)), rates, color="#30638e")
    panels[0].set_yticks(range(len(rates)), calibration.scores, fontsize=7)
    panels[0].axvline(0.05, color="#d1495b", linewidth=0.8)
    panels[0].set_xlabel("orderings of wrong labels that fail", fontsize=8)
    for panel in panels[1:]:
        for score, marker in ((calibration.main, "o"), (ALL_TOKENS, "x")):
            points = [(one.purity, one.scores.get(score)) for one in calibration.trained]
            known = [(x, y) for x, y in points if y is not None]
            panel.plot(
                [x for x, _ in known], [y for _, y in known], marker, linestyle="none", label=score, markersize=4
            )
        panel.set_xlabel("purity of a trained feature", fontsize=8)
        panel.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    return figure


def _panels(count: int, width: float) -> tuple[Figure, Sequence[Axes]]:
    """Make a figure with panels in rows of four."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.use("Agg")
    columns = max(1, min(count, 4))
    lines = max(1, -(-count // columns))
    figure = Figure(figsize=(width * columns, 3.2 * lines))
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for unused in grid[max(count, 1) :]:
        unused.remove()
    return figure, list(grid[: max(count, 1)])
