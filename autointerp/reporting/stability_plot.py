"""Draws the main score given the stability of features: how well described are those that reappear in other seeds?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autointerp.records import FeatureResult, Stability
from autointerp.reporting.cells import Row
from autointerp.reporting.dependence import Dependence
from autointerp.reporting.plots import STYLE, STYLES, finish_panel, panels_of, plain, save
from autointerp.reporting.tables import STABLE, main_rows
from autointerp.statistics.clusters import estimate
from autointerp.statistics.intervals import ends
from autointerp.store import PICTURES
from sae.baselines.registry import colour_of, in_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 5
"""Bins of equal width between probabilities 0 and 1."""
Binned = list[tuple[float, float, float | None, float | None, int]]
"""Of each bin that has features: their mean stability, their mean score, its 95% interval, and how many they are."""


def write(
    folder: Path,
    rows: Sequence[Row],
    results: Sequence[FeatureResult],
    dependence: Dependence,
    stability: Mapping[str, Stability],
    formats: Sequence[str],
) -> None:
    """Write the picture `stability`, in each format, of a run whose stability is known; else none."""
    import matplotlib

    if not stability:
        return
    with matplotlib.rc_context(STYLE):
        save(scores_by_stability(rows, results, dependence, stability), folder / PICTURES / "stability", formats)


def scores_by_stability(
    rows: Sequence[Row], results: Sequence[FeatureResult], dependence: Dependence, stability: Mapping[str, Stability]
) -> Figure:
    """Draw a line per recipe, through bins of features of all its seeds, with 95% intervals and numbers of features."""
    main = [row for row in main_rows(rows) if row["scorer"] == rows[0]["scorer"]]
    figure, panels = panels_of(1, 1, (6.4, 3.8))
    panel = panels[0][0]
    kinds = {row["dictionary"]: row["kind"] for row in main}
    explainer = main[0]["explainer"]
    for number, names in enumerate(_groups([name for name in kinds if name in stability], stability)):
        group = [one for one in results if one.explainer == explainer and one.feature.dictionary in names]
        points = binned(group, str(rows[0]["scorer"]), dependence, stability)
        kind, style = kinds[names[0]], STYLES[number % len(STYLES)]
        x, mean = [point[0] for point in points], [point[1] for point in points]
        panel.plot(x, mean, style, marker="o", markersize=4, color=colour_of(kind), label=_label(names, kind))
        for at, value, low, high, n in points:
            if low is not None and high is not None:
                panel.errorbar(at, value, yerr=[[value - low], [high - value]], capsize=2.5, color=colour_of(kind))
            panel.annotate(f"n = {n}", (at, value), xytext=(4, 4), textcoords="offset points", fontsize=6)
    finish_panel(panel, f"probability to reappear in another seed (both cosines >= {STABLE})", main)
    panel.set_xlim(-0.05, 1.05)
    return figure


def _groups(names: Sequence[str], stability: Mapping[str, Stability]) -> list[list[str]]:
    """Put dictionaries together that are of one recipe; over runs each is its own."""
    groups: dict[frozenset[str], list[str]] = {}
    for name in names:
        groups.setdefault(frozenset({name, *stability[name].others}), []).append(name)
    return list(groups.values())


def _label(names: Sequence[str], kind: str) -> str:
    return plain(in_words(names[0], kind)) + (f", {len(names)} seeds" if len(names) > 1 else "")


def binned(
    results: Sequence[FeatureResult], score: str, dependence: Dependence, stability: Mapping[str, Stability]
) -> Binned:
    """Average a score over features of like stability."""
    bins: dict[int, list[FeatureResult]] = {}
    for result in results:
        if result.scores.get(score) is not None:
            bins.setdefault(min(BINS - 1, int(_value(result, stability) * BINS)), []).append(result)
    points: Binned = []
    for _, group in sorted(bins.items()):
        scores = dependence.scores(group, score)
        estimated = estimate((1.0, scores))
        low, high = ends(estimated) if estimated else (None, None)
        x = float(np.mean([_value(result, stability) for result in group]))
        points.append((x, float(scores.value_F.mean()), low, high, len(group)))
    return points


def _value(result: FeatureResult, stability: Mapping[str, Stability]) -> float:
    return stability[result.feature.dictionary].features[result.feature.index]
