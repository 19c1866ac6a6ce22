"""Runs to tables: a row per dictionary, explainer and scorer, with intervals, controls, floors and counts.

Knows the run folder and statistics; nothing about how results came about.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autointerp import statistics
from autointerp.records import FeatureResult
from autointerp.scorers import simulation
from autointerp.store import RunFolder

COLUMNS = (
    "dictionary", "kind", "hook_point", "explainer", "simulator", "scorer", "n_ok", "n_undefined", "n_error", "mean",
    "ci_low", "ci_high", "mean_undefined_as_zero", "control_mean", "chance", "density_median", "l0", "fvu",
    "cost_usd", "tokens_in", "tokens_out",
)  # fmt: skip
SLICES = tuple(simulation.SLICES)
"""Simulation's scores, which have a table of their own; the first is the main one."""
Row = dict[str, Any]
Chances = Mapping[str, float | None]
"""Every score of a run with what knowing nothing gets; the main score first."""


def write(folder: RunFolder, results: Sequence[FeatureResult], chances: Chances) -> None:
    """Make leaderboard.json, .csv, .md and the plots from a run's results."""
    from autointerp import plots

    rows = make_rows(folder.about, folder.densities(), results, chances)
    folder.write_json("leaderboard.json", rows)
    folder.write_text("leaderboard.csv", to_csv(rows))
    folder.write_text("leaderboard.md", to_markdown(rows, make_comparisons(folder.about, results, next(iter(chances)))))
    plots.write(folder.path, rows)


def merge(paths: Sequence[Path]) -> list[Row]:
    """The rows of several runs, main explainers first; a dictionary that two runs have is named RUN:DICTIONARY.

    RUN is the folder's name, or its path where two folders share a name. Raises UserError if a run is not finished.
    """
    folders = list(dict.fromkeys(path.resolve() for path in paths))
    names = [folder.name for folder in folders]
    labels = [str(folder) if names.count(folder.name) > 1 else folder.name for folder in folders]
    runs = [RunFolder(folder).read_leaderboard() for folder in folders]
    owners = Counter(name for rows in runs for name in {row["dictionary"] for row in rows})
    merged = [
        row | {"dictionary": f"{label}:{row['dictionary']}" if owners[row["dictionary"]] > 1 else row["dictionary"]}
        for label, rows in zip(labels, runs, strict=True)
        for row in rows
    ]
    order = list(dict.fromkeys(row["explainer"] for row in merged))
    return sorted(merged, key=lambda row: order.index(row["explainer"]))


def make_rows(
    about: Row, densities: Mapping[str, list[float]], results: Sequence[FeatureResult], chances: Chances
) -> list[Row]:
    """Rows in the order: explainers as configured (the main one first), dictionaries as sampled, scorers.

    Args:
        about: run.json.
        densities: the sampled features' densities by dictionary.
        results: all finished results.
        chances: the run's scores.
    """
    groups: dict[tuple[str, str], list[FeatureResult]] = {}
    for result in results:
        groups.setdefault((result.explainer, result.feature.dictionary), []).append(result)
    facts = {summary["name"]: summary for summary in about["dictionaries"]}
    order = list(dict.fromkeys(result.explainer for result in results))
    return [
        _row(facts[name], (explainer, about["config"]["simulator"], scorer), chance, group, densities[name])
        for explainer in order
        for name in facts
        for group in [groups.get((explainer, name), [])]
        for scorer, chance in chances.items()
        if any(_has(result, scorer) for result in group)
    ]


def _row(
    facts: Row, asked: tuple[str, str, str], chance: float | None, group: list[FeatureResult], densities: list[float]
) -> Row:
    explainer, simulator, scorer = asked
    answered = [result for result in group if scorer in result.scores]
    scores = [value for result in answered if (value := result.scores[scorer]) is not None]
    controls = [value for result in answered if (value := result.control.get(scorer)) is not None]
    interval = statistics.mean_interval(scores)
    return {
        "dictionary": facts["name"],
        "kind": facts["kind"],
        "hook_point": facts["hook_point"],
        "explainer": explainer,
        "simulator": simulator,
        "scorer": scorer,
        "n_ok": len(scores),
        "n_undefined": len(answered) - len(scores),
        "n_error": len(group) - len(answered),
        "mean": interval and interval.mean,
        "ci_low": interval and interval.low,
        "ci_high": interval and interval.high,
        "mean_undefined_as_zero": sum(scores) / len(answered) if answered else None,
        "control_mean": float(np.mean(controls)) if controls else None,
        "chance": chance,
        "density_median": float(np.median(densities)),
        "l0": facts["l0"],
        "fvu": facts["fvu"],
        "cost_usd": _cost(group),
        "tokens_in": sum(result.usage.get("tokens_in") or 0 for result in group),
        "tokens_out": sum(result.usage.get("tokens_out") or 0 for result in group),
    }


def _has(result: FeatureResult, score: str) -> bool:
    """Whether a result holds this score, or its scorer's error."""
    return score in result.scores or score.split("/")[0] in result.errors


def _cost(group: Iterable[FeatureResult]) -> float | None:
    """USD of all a feature's answers, whichever scorer they were for; None if a price is not known."""
    costs = [result.usage.get("cost_usd", 0.0) for result in group]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def make_comparisons(about: Row, results: Sequence[FeatureResult], score: str) -> list[Row]:
    """Every sparse dictionary against every other dictionary, main explainer, one score, Holm-adjusted together."""
    kinds = {summary["name"]: summary["kind"] for summary in about["dictionaries"]}
    main = results[0].explainer if results else None
    scores: dict[str, list[float]] = {name: [] for name in kinds}
    for result in results:
        value = result.scores.get(score)
        if result.explainer == main and value is not None:
            scores[result.feature.dictionary].append(value)
    rows: list[Row] = []
    for name in (name for name in kinds if kinds[name] == "sae"):
        for other in (other for other in kinds if other != name):
            found = statistics.compare(scores[name], scores[other])
            if found:
                rows.append({"dictionary": name, "against": other, "scorer": score} | vars(found))
    adjusted = statistics.holm([row["p"] for row in rows])
    return [row | {"p_holm": value} for row, value in zip(rows, adjusted, strict=True)]


def to_csv(rows: Iterable[Row]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def to_markdown(rows: Sequence[Row], comparisons: Sequence[Row]) -> str:
    """The tables a person reads: scores, differences, and scores by the explanation's length."""
    explainers = list(dict.fromkeys(row["explainer"] for row in rows))
    parts = [scores_table(rows)]
    if comparisons:
        parts.append(_comparisons_table(comparisons))
    if len(explainers) > 1:
        parts.append(_explainers_table(rows, explainers))
    return "\n\n".join(parts) + "\n"


def scores_table(rows: Sequence[Row]) -> str:
    """The main explainer's scores: simulation, a line per dictionary; the other scorers, a line per score as well."""
    main = [row for row in rows if row["explainer"] == rows[0]["explainer"]]
    simulated = [row for row in main if row["scorer"] in SLICES]
    judged = [row for row in main if row["scorer"] not in SLICES]
    parts = [_simulation_table(simulated)] if simulated else []
    return "\n\n".join([*parts, _judged_table(judged)] if judged else parts)


def _simulation_table(rows: Sequence[Row]) -> str:
    by_dictionary: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_dictionary.setdefault(row["dictionary"], {})[row["scorer"]] = row
    header = ["dictionary", "top and random", "top", "random", "shuffled", "undefined as 0", "ok/undefined/error"]
    header += ["density", "L0", "FVU"]
    lines = [_score_line(name, slices) for name, slices in by_dictionary.items()]
    return f"{_title(rows)}: mean correlation with 95% interval; chance 0.\n\n" + table(header, lines)


def _judged_table(rows: Sequence[Row]) -> str:
    header = ["dictionary", "scorer", "mean", "chance", "shuffled", "ok/undefined/error"]
    lines = [
        [
            row["dictionary"],
            row["scorer"],
            with_interval(row["mean"], row["ci_low"], row["ci_high"]),
            number(row["chance"]),
            number(row["control_mean"]),
            _counts(row),
        ]
        for row in rows
    ]
    return f"{_title(rows)}: mean with 95% interval, and what knowing nothing gets.\n\n" + table(header, lines)


def _title(rows: Sequence[Row]) -> str:
    return f"Explainer {rows[0]['explainer']}, simulator {rows[0]['simulator']}"


def _counts(row: Row) -> str:
    return f"{row['n_ok']}/{row['n_undefined']}/{row['n_error']}"


def _score_line(name: str, slices: dict[str, Row]) -> list[str]:
    main = slices[SLICES[0]]
    return [
        name,
        *(with_interval(row["mean"], row["ci_low"], row["ci_high"]) for row in slices.values()),
        number(main["control_mean"]),
        number(main["mean_undefined_as_zero"]),
        " ".join(map(_counts, slices.values())),
        number(main["density_median"], 4),
        number(main["l0"], 1),
        number(main["fvu"], 3),
    ]


def _comparisons_table(comparisons: Sequence[Row]) -> str:
    lines = [
        [
            f"{row['dictionary']} - {row['against']}",
            with_interval(row["difference"], row["low"], row["high"]),
            f"{row['p_holm']:.2g}",
        ]
        for row in comparisons
    ]
    what = comparisons[0]["scorer"]
    title = f"Difference of means ({what}), 95% interval, Welch's test with Holm's correction."
    return f"{title}\n\n" + table(["comparison", "difference", "p"], lines)


def _explainers_table(rows: Sequence[Row], explainers: Sequence[str]) -> str:
    main = [row for row in rows if row["scorer"] == rows[0]["scorer"]]
    names = list(dict.fromkeys(row["dictionary"] for row in main))
    cells = {(row["dictionary"], row["explainer"]): row for row in main}
    lines = [[name, *(_half_width(cells.get((name, explainer))) for explainer in explainers)] for name in names]
    title = f"{rows[0]['scorer']} by explainer (mean ± half the 95% interval)."
    return f"{title}\n\n" + table(["dictionary", *explainers], lines)


def _half_width(row: Row | None) -> str:
    if row is None:
        return "-"
    if row["ci_high"] is None:
        return number(row["mean"])
    return f"{row['mean']:.2f} ± {row['ci_high'] - row['mean']:.2f}"


def with_interval(mean: float | None, low: float | None, high: float | None) -> str:
    """`0.71 [0.66, 0.76]`, or what of it exists."""
    if mean is None or low is None or high is None:
        return number(mean)
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def number(value: float | None, digits: int = 2) -> str:
    """Fixed digits, or a dash for what does not exist."""
    return "-" if value is None else f"{value:.{digits}f}"


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it reads in a terminal as well."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in [header, *lines]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([padded[0], rule, *padded[1:]])
