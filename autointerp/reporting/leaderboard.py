"""Makes a row per dictionary, explainer and scorer of a run, with intervals, controls, chance levels and counts."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from autointerp import peer_faults, ratings, stability_files
from autointerp.ratings import Rating
from autointerp.records import FeatureResult
from autointerp.reporting import human
from autointerp.reporting.cells import Row, to_csv
from autointerp.reporting.controls import control_columns, mean
from autointerp.reporting.dependence import INDEPENDENT, Dependence
from autointerp.reporting.resolution import Resolved, comparison_rows
from autointerp.reporting.stability import with_stability
from autointerp.reporting.tables import all_tables
from autointerp.scorers import SCORERS
from autointerp.statistics import intervals
from autointerp.statistics.clusters import estimate
from autointerp.statistics.comparisons import LEVEL, compare_all, letters
from autointerp.store import RunFolder, as_json
from sae.common.tables import to_latex, to_markdown

COLUMNS = (
    "dictionary", "kind", "hook_point", "explainer", "simulator", "judge", "scorer", "n_ok", "n_undefined", "n_failed",
    "n_error", "mean", "ci_low", "ci_high", "mean_undefined_as_zero", "control_mean", "n_control",
    "n_control_undefined", "n_control_failed", "permuted_mean", "exchanged_mean", "best_control", "lead", "lead_low",
    "lead_high", "chance", "density_median", "l0", "fvu", "cost_usd", "tokens_in",
    "tokens_out", "se_features", "se_documents", "n_documents", "group",
)  # fmt: skip
"""Columns of every row of leaderboard.json and .csv; what does not exist is null there and empty here.

ci_low and ci_high are over features and documents; over features only where se_documents is null, since the score has
no parts by document, or is of one document. se_features and se_documents are the standard errors that the draw of
either adds to the mean. lead_low and lead_high are over features only. In a run in rounds (--until-resolved) each of
these intervals holds in whichever round scoring stopped. group, of the main score of the main explainer:
the data separate two dictionaries if they share no letter. Rows of a run that people have rated hold human.COLUMNS too,
those of a run with faults of the originals `peer_faults`.
"""
BOARD, COMPARISONS = "leaderboard.json", "comparisons.json"
"""The second has a row per pair of dictionaries; see `statistics.comparisons.Difference`. With --until-resolved also
one per lead over the best control, and every row is as `reporting.resolution` says."""
Chances = Mapping[str, float | None]
"""Every score of a run with its chance level; the main score first."""


def write(
    folder: RunFolder,
    results: Sequence[FeatureResult],
    chances: Chances,
    dependence: Dependence,
    formats: Sequence[str],
    resolved: Resolved | None = None,
) -> None:
    """Write leaderboard.json, .csv, .md, .tex, comparisons.json and the pictures of a run, in these formats."""
    results = peer_faults.for_means(results, peer_faults.switched_on(folder.about))
    rows = _rows_of(folder, results, chances, dependence, resolved)
    for name, text in _texts(rows, make_comparisons(results, next(iter(chances)), dependence, resolved)).items():
        folder.write_text(name, text)
    if formats:
        from autointerp.reporting import plots, stability_plot

        plots.write(folder.path, rows, results, formats)
        stability = stability_files.read(folder.path)
        stability_plot.write(folder.path, rows, results, dependence, stability, formats)


def texts(
    folder: RunFolder,
    results: Sequence[FeatureResult],
    chances: Chances,
    dependence: Dependence,
    resolved: Resolved | None = None,
) -> dict[str, str]:
    """Return the tables of a run as they are written, by file name."""
    results = peer_faults.for_means(results, peer_faults.switched_on(folder.about))
    rows = _rows_of(folder, results, chances, dependence, resolved)
    return _texts(rows, make_comparisons(results, next(iter(chances)), dependence, resolved))


def _rows_of(
    folder: RunFolder,
    results: Sequence[FeatureResult],
    chances: Chances,
    dependence: Dependence,
    resolved: Resolved | None,
) -> list[Row]:
    rated = ratings.read(folder.path)
    rows = make_rows(folder.about, folder.densities(), results, chances, dependence, resolved, rated)
    if faults := peer_faults.switched_on(folder.about):
        rows = [row | {peer_faults.COLUMN: ", ".join(faults)} for row in rows]
    return with_stability(rows, results, stability_files.read(folder.path))


def _texts(rows: list[Row], comparisons: list[Row]) -> dict[str, str]:
    tables = all_tables(rows, comparisons)
    return {
        BOARD: as_json(rows),
        "leaderboard.csv": to_csv(rows),
        "leaderboard.md": to_markdown(tables),
        "leaderboard.tex": to_latex(tables),
        COMPARISONS: as_json(comparisons),
    }


def make_rows(
    about: Row,
    densities: Mapping[str, list[float]],
    results: Sequence[FeatureResult],
    chances: Chances,
    dependence: Dependence = INDEPENDENT,
    resolved: Resolved | None = None,
    rated: Sequence[Rating] = (),
) -> list[Row]:
    """Make a run's rows: explainers as configured (the main one first), dictionaries as sampled, scores; human ones.

    Args:
        about: run.json.
        densities: the sampled features' densities by dictionary.
        results: all finished results.
        chances: the run's scores.
        dependence: what their scores have in common.
        resolved: of a run in rounds, whose intervals hold in whichever round it stopped.
        rated: what people said of the features.
    """
    ranks = ranks_of(make_comparisons(results, next(iter(chances)), dependence, resolved))
    rows = _rows(about, densities, results, chances, dependence, ranks, resolved)
    if not rated:
        return rows
    rows += _rows(about, densities, human.alone(results, rated), human.CHANCES, dependence, {}, None)
    return human.with_correlations(rows, human.joined(results, rated), dependence.clusters)


def _rows(
    about: Row,
    densities: Mapping[str, list[float]],
    results: Sequence[FeatureResult],
    chances: Chances,
    dependence: Dependence,
    ranks: Mapping[str, str],
    resolved: Resolved | None,
) -> list[Row]:
    groups: dict[tuple[str, str], list[FeatureResult]] = {}
    for result in results:
        groups.setdefault((result.explainer, result.feature.dictionary), []).append(result)
    facts = {summary["name"]: summary for summary in about["dictionaries"]}
    order = list(dict.fromkeys(result.explainer for result in results))
    scored = {dictionary for _, dictionary in groups}
    confidence = {name: resolved.confidence(name) if resolved else intervals.CONFIDENCE for name in scored}
    return [
        _row(
            facts[name],
            {"explainer": explainer} | _models(about["config"], scorer),
            chance,
            group,
            densities[name],
            confidence[name],
        )
        | _interval_columns(group, scorer, chance, dependence, confidence[name])
        | {"group": ranks.get(name) if (explainer, scorer) == (order[0], next(iter(chances))) else None}
        for explainer in order
        for name in facts
        for group in [groups.get((explainer, name), [])]
        for scorer, usual in chances.items()
        if any(_has(result, scorer) for result in group)
        for chance in [dependence.chance(group, scorer, usual)]
    ]


def _interval_columns(
    group: Sequence[FeatureResult], scorer: str, chance: float | None, dependence: Dependence, confidence: float
) -> Row:
    """Give the mean's interval over features and documents, and what either adds to its error."""
    scores, bounds = dependence.scores(group, scorer), range_of(scorer)
    estimated = estimate((1.0, scores))
    if estimated and bounds:
        estimated = intervals.shaped_by_range(estimated, scores, bounds, chance)
    low, high = intervals.ends(estimated, bounds, confidence) if estimated else (None, None)
    features, documents = (estimated.from_features, estimated.from_documents) if estimated else (None, None)
    return {
        "ci_low": low,
        "ci_high": high,
        "se_features": None if features is None else math.sqrt(features),
        "se_documents": None if documents is None else math.sqrt(documents),
        "n_documents": scores.n_documents,
    }


def range_of(score: str) -> intervals.Bounds | None:
    """Return the lowest and the highest value that a score can have; None if that is not known."""
    return human.BOUNDS if score in human.CHANCES else SCORERS.get(score.split("/")[0]).bounds


def _models(config: Row, scorer: str) -> Row:
    """Name a score, and the models its scorer asks: null for those it does not ask. The judge may be the simulator."""
    if scorer in human.CHANCES:
        return {"simulator": None, "judge": None, "scorer": scorer}
    needs = SCORERS.get(scorer.split("/")[0]).needs
    judge = config.get("judge") or config["simulator"]
    return {
        "simulator": config["simulator"] if needs.simulator else None,
        "judge": judge if needs.judge else None,
        "scorer": scorer,
    }


def _row(
    facts: Row,
    method: Row,
    chance: float | None,
    group: list[FeatureResult],
    densities: list[float],
    confidence: float,
) -> Row:
    scorer = method["scorer"]
    answered = [result for result in group if scorer in result.scores]
    failed = sum(scorer in result.failed for result in answered)
    undefined = sum(result.scores[scorer] is None and scorer not in result.failed for result in answered)
    scores = [value for result in answered if (value := result.scores[scorer]) is not None]
    return {
        "dictionary": facts["name"],
        "kind": facts["kind"],
        "hook_point": facts["hook_point"],
        **method,
        "n_ok": len(answered) - failed - undefined,
        "n_undefined": undefined,
        "n_failed": failed,
        "n_error": len(group) - len(answered),
        "mean": mean(scores),
        "ci_low": None,
        "ci_high": None,
        "mean_undefined_as_zero": sum(scores) / len(answered) if answered else None,
        **control_columns(group, scorer, range_of(scorer), confidence),
        "chance": chance,
        "density_median": float(np.median(densities)),
        "l0": facts["l0"],
        "fvu": facts["fvu"],
        "cost_usd": _cost(group),
        "tokens_in": sum(result.usage.get("tokens_in") or 0 for result in group),
        "tokens_out": sum(result.usage.get("tokens_out") or 0 for result in group),
    }


def _has(result: FeatureResult, score: str) -> bool:
    """Tell whether a result holds this score, its error, or its scorer's."""
    return any(name in result.errors for name in (score, score.split("/")[0])) or score in result.scores


def _cost(group: Iterable[FeatureResult]) -> float | None:
    """Sum the USD of all answers behind a group, whichever scorer they were for; None if a price is not known."""
    costs = [result.usage.get("cost_usd", 0.0) for result in group]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def make_comparisons(
    results: Sequence[FeatureResult], score: str, dependence: Dependence, resolved: Resolved | None = None
) -> list[Row]:
    """Compare every pair of dictionaries by one score of the main explainer, best means first."""
    main = [result for result in results if result.explainer == results[0].explainer]
    groups: dict[str, list[FeatureResult]] = {}
    for result in main:
        groups.setdefault(result.feature.dictionary, []).append(result)
    samples = {name: dependence.scores(group, score) for name, group in groups.items()}
    if resolved:
        return comparison_rows(resolved, score, samples)
    return [{"scorer": score} | vars(one) for one in compare_all(samples, range_of(score))]


def ranks_of(comparisons: Sequence[Row]) -> dict[str, str]:
    """Name the groups of ranks that the comparisons leave, by letters."""
    pairs = [row for row in comparisons if row["against"] is not None]
    ranked = list(dict.fromkeys(row[name] for name in ("dictionary", "against") for row in pairs))
    separated = [row for row in pairs if (row["verdict"] == "differ" if "verdict" in row else row["p_holm"] < LEVEL)]
    return letters(ranked, [frozenset((row["dictionary"], row["against"])) for row in separated])


def read_comparisons(folder: RunFolder) -> list[Row]:
    """Read a run's comparisons; none where an earlier version wrote none."""
    path = folder.path / COMPARISONS
    rows: list[Row] = json.loads(path.read_text("utf-8")) if path.is_file() else []
    return rows
