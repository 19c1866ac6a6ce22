"""Describes what every page needs at once: runs, dictionaries, explainers, scores, and the leaderboard's rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from autointerp.reporting.leaderboard import COLUMNS
from autointerp.reporting.site.chunks import number
from autointerp.reporting.site.features import STATUSES
from autointerp.reporting.site.runs import SiteRun
from autointerp.reporting.tables import words
from sae.baselines.registry import colour_of, in_words
from sae.common.errors import visible

Row = dict[str, Any]
BLACK, INK = "#000000", "var(--ink)"
"""The colour that cannot be seen on dark pages, and what stands for it: the colour of the text."""


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
    return [_dictionary(index, summary) for index, run in enumerate(runs) for summary in run.about["dictionaries"]]


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
        "board": {"columns": _COLUMNS, "rows": _board(runs, explainers, scorers)},
    }


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
