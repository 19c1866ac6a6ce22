"""Draws leaderboard rows as tables that a person reads."""

from collections.abc import Sequence
from typing import Any

from autointerp.scorers import simulation

SLICES = tuple(simulation.SLICES)
"""Simulation's scores, which have a table of their own; the first is the main one."""
Row = dict[str, Any]


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
