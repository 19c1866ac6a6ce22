"""Describes what every page needs at once: runs, dictionaries, explainers, scores, and the leaderboard's rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from autointerp.prompting import rules, templates
from autointerp.records import Source
from autointerp.reporting.cells import words
from autointerp.reporting.leaderboard import COLUMNS
from autointerp.reporting.site.chunks import number
from autointerp.reporting.site.features import STATUSES
from autointerp.reporting.site.runs import SiteRun
from autointerp.scorers.slices import SLICES
from sae.baselines.registry import colour_of, in_words
from sae.common.errors import visible

Row = dict[str, Any]
SOURCES: dict[Source, str] = {
    "top": "Strongest",
    "quantile": "Spread over the quantiles",
    "importance": "Drawn by squared activation",
    "random": "At random",
    "weighted": "At random, weighted",
    "inactive": "Silent",
    "hard": "Silent, near feature active",
}
"""What the pages call the records by how they were drawn."""
BLACK, INK = "#000000", "var(--ink)"
"""The colour that cannot be seen on dark pages, and what stands for it: the colour of the text."""
AXES = {
    "density": "density",
    "max": "largest activation",
    "length": "words of the explanation",
    "l0": "L0 (dictionaries)",
    "fvu": "FVU (dictionaries)",
    "layer": "layer (dictionaries)",
}
"""What scores are drawn against."""
NULLS = {"mismatched": "control_mean", "permuted": "permuted_mean", "exchanged": "exchanged_mean"}
"""The leaderboard's column of each kind of control."""
SHOWN: list[list[Any]] = [
    ["dictionary", "label", "text"],
    ["hook point", "hook", "text"],
    ["simulator", "simulator", "text"],
    ["judge", "judge", "text"],
    ["score", "mean", "mean"],
    *([kind, column, "round", 2] for kind, column in NULLS.items()),
    ["lead", "lead", "lead"],
    ["group", "group", "text"],
    *([name, f"n_{name}", "whole"] for name in ("ok", "failed", "undefined", "error")),
    ["density", "density_median", "short"],
    ["L0", "l0", "round", 1],
    ["FVU", "fvu", "round", 3],
    ["USD", "cost_usd", "round", 4],
]
"""Columns of the table: title, key, format, decimals."""


def explainers_of(runs: Sequence[SiteRun]) -> list[str]:
    """Name the explainers of all runs, main ones first."""
    first = [run.explainers[:1] for run in runs]
    return list(dict.fromkeys(name for names in [*first, *(run.explainers for run in runs)] for name in names))


def scorers_of(runs: Sequence[SiteRun]) -> list[str]:
    """Name the scores of all runs, main ones first."""
    first = [run.scorers[:1] for run in runs]
    return list(dict.fromkeys(name for names in [*first, *(run.scorers for run in runs)] for name in names))


def dictionaries_of(runs: Sequence[SiteRun]) -> list[Row]:
    """Describe each run's dictionaries, in the order in which features name them by number."""
    rows = [_dictionary(index, summary) for index, run in enumerate(runs) for summary in run.about["dictionaries"]]
    hooks = {row["hook"] for row in rows}
    return [row | {"label": _label(row, runs, len(hooks) > 1)} for row in rows]


def _label(row: Row, runs: Sequence[SiteRun], names_hook: bool) -> str:
    """Name a dictionary in words, with its run and its hook point where these differ."""
    run, hook = f"{runs[row['run']].label}: " if len(runs) > 1 else "", row["hook"]
    return visible(f"{run}{row['words']}{f' @ {hook}' if names_hook else ''}")


def _dictionary(run: int, summary: Row) -> Row:
    layer = re.match(r"blocks\.(\d+)\.", summary["hook_point"])
    return {
        "run": run,
        "name": summary["name"],
        "words": in_words(visible(str(summary["name"]).removesuffix(f"@{summary['hook_point']}")), summary["kind"]),
        "kind": summary["kind"],
        "hook": summary["hook_point"],
        "layer": int(layer[1]) if layer else None,
        "colour": INK if (colour := colour_of(summary["kind"])) == BLACK else colour,
        "l0": number(summary["l0"]),
        "fvu": number(summary["fvu"]),
        "n": summary["n_sampled"],
    }


def index(runs: Sequence[SiteRun], facts: Row) -> Row:
    """Describe the site; `facts` are what was counted while its data were written."""
    explainers, scorers = explainers_of(runs), scorers_of(runs)
    return facts | {
        "runs": [_run(run) for run in runs],
        "dictionaries": dictionaries_of(runs),
        "explainers": explainers,
        "scorers": scorers,
        "words": [words(name) for name in scorers],
        "statuses": STATUSES,
        "sources": SOURCES,
        "first": list({name.split("/")[0]: name for name in reversed(scorers)}.values())[::-1],
        "rules": _rules(),
        "axes": AXES,
        "nulls": NULLS,
        "board": {"columns": _COLUMNS, "shown": SHOWN, "rows": _board(runs, explainers, scorers)},
    }


def _rules() -> Row:
    """Describe how rules are worded and scored, such that the pages can score an edited explanation."""
    wording: Row = dict(templates.load(rules.PROMPT).values)
    patterns = [[kind, pattern.pattern.replace("(?P<", "(?<")] for kind, pattern in rules.patterns()]
    about = {name: wording[name] for name in ("opening", "nothing", "separator", "closing")}
    slices = {name: sorted(sources) for name, sources in SLICES.items()}
    return about | {"patterns": patterns, "near": rules.NEAR_WINDOW, "slices": slices}


def _run(run: SiteRun) -> Row:
    config = run.about["config"]
    return {"label": run.label, "model": config["subject"]["model"], "corpus": config["corpus"]["source"]}


_NAMED = ("dictionary", "explainer", "scorer")
_COLUMNS = [*_NAMED, *(name for name in COLUMNS if name not in (*_NAMED, "kind", "hook_point", "l0", "fvu"))]
"""The leaderboard's columns; the first three are numbers in the lists of the same names, and dictionaries have four."""


def _board(runs: Sequence[SiteRun], explainers: Sequence[str], scorers: Sequence[str]) -> list[list[Any]]:
    rows, first = [], 0
    for run in runs:
        names = [summary["name"] for summary in run.about["dictionaries"]]
        for row in run.rows:
            named = (first + names.index(row["dictionary"]), explainers.index(row["explainer"]))
            rest = [_cell(row.get(name)) for name in _COLUMNS[len(_NAMED) :]]
            rows.append([*named, scorers.index(row["scorer"]), *rest])
        first += len(names)
    return rows


def _cell(value: Any) -> Any:
    return number(value) if isinstance(value, float) else value
