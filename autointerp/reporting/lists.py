"""Makes the lists of what there is: a run's features, and the runs of a folder. Renders none of them."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autointerp import peer_faults, stability_files
from autointerp.records import FeatureResult, Stability, Status
from autointerp.reporting import Order
from autointerp.reporting.tables import main_rows
from autointerp.store import RunFolder
from sae.common.errors import UserError, near, shortened
from sae.common.files import LOCK
from sae.common.tables import Table, number

LIST_CHARACTERS = 100
"""Characters of an explanation that the list of features shows."""
MOST_MEANS = 4
"""Dictionaries whose means the list of runs shows."""
DEPTH = 3
"""Folders between the folder that is listed and a run's run.json: runs/SUITE/NAME, seen from where it is started."""


@dataclass(frozen=True)
class Selection:
    """Says which features are listed, in which order."""

    explainer: str | None = None
    """Whose scores and explanations; None: the main one's."""
    dictionaries: Sequence[str] = ()
    """Features of these; empty: of all."""
    statuses: Sequence[Status] = ()
    """Features whose main score has one of these; empty: any."""
    below: float | None = None
    """Features whose main score is less; None: all, also those without one."""
    sort: Order | None = None
    """None: best first in each dictionary."""
    limit: int | None = None
    """The most that are listed; None: all."""


ALL = Selection()
"""Every feature."""


def feature_list(folder: RunFolder, selection: Selection = ALL) -> Table:
    """List features with their main score, status and explanation.

    Raises UserError if the run has no results yet, or no such explainer or dictionary.
    """
    results = list(folder.results())
    if not results:
        raise UserError(f"{folder.path} has no results yet; finish it with the command that began it")
    explainer = selection.explainer or results[0].explainer
    _require(explainer, "explainer", [result.explainer for result in results])
    named = [result.feature.dictionary for result in results]
    for name in selection.dictionaries:
        _require(name, "dictionary", named)
    own = [result for result in results if result.explainer == explainer]
    kept = [result for result in own if _is_selected(result, selection)]
    kept.sort(key=_order(folder, selection.sort, list(dict.fromkeys(named))))
    score = next((name for result in own if result.status != "error" for name in result.scores), "none")
    stability = stability_files.read(folder.path)
    rows = [_row(result, stability) for result in kept[: selection.limit]]
    count = "" if len(rows) == len(own) else f" {len(rows)} of {len(own)} features."
    header = ("feature", "score", *(["stability"] if stability else []), "status", "explanation")
    return Table(header, rows, f"Explainer {explainer}; score: {score}.{count}")


def _require(name: str, kind: str, names: Sequence[str]) -> None:
    if name not in names:
        raise UserError(f"the run has no {kind} {shortened(name)!r}{near(name, sorted(set(names)))}")


def _is_selected(result: FeatureResult, selection: Selection) -> bool:
    score = main_score(result)
    return (
        (not selection.dictionaries or result.feature.dictionary in selection.dictionaries)
        and (not selection.statuses or result.status in selection.statuses)
        and (selection.below is None or (score is not None and score < selection.below))
    )


def _order(folder: RunFolder, sort: Order | None, names: Sequence[str]) -> Callable[[FeatureResult], Any]:
    """Return the key to sort results by. A score that does not exist comes last, whichever end is first."""
    if sort == "density":
        density = folder.numbers("density")
        return lambda result: -density[result.feature]
    if sort == "feature":
        return lambda result: (names.index(result.feature.dictionary), result.feature.index)
    sign = 1 if sort == "worst" else -1

    def by_score(result: FeatureResult) -> tuple[int, bool, float]:
        score = main_score(result)
        group = 0 if sort else names.index(result.feature.dictionary)
        return group, score is None, sign * (score or 0.0)

    return by_score


def main_score(result: FeatureResult) -> float | None:
    """Return the run's main score, which is the first; None if it does not exist: the first is then another one."""
    return None if result.status == "error" else next(iter(result.scores.values()), None)


def _row(result: FeatureResult, stability: Mapping[str, Stability]) -> tuple[str, ...]:
    text = result.explanation.text[:LIST_CHARACTERS] if result.explanation else "-"
    known = stability.get(result.feature.dictionary)
    stable = [number(known.features[result.feature.index] if known else None)] if stability else []
    return (str(result.feature), number(main_score(result)), *stable, result.status, text)


def run_list(root: Path) -> Table:
    """List the runs in a folder and the three levels below it: state, method and mean main score by dictionary.

    Raises UserError if the folder is none, or cannot be looked into.
    """
    if not root.is_dir():
        raise UserError(f"{shortened(str(root))} is not a folder; give one that holds runs")
    try:
        folders = [path.parent for depth in range(DEPTH + 1) for path in sorted(root.glob("*/" * depth + "run.json"))]
    except OSError as error:
        raise UserError(f"cannot look into {root}: {error.strerror}") from error
    header = ("run", "state", "model", "corpus", "explainer", "score", "means")
    return Table(header, [row for path in folders for row in _run_rows(path)])


def _run_rows(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield a run's row; none for another program's run.json."""
    folder = RunFolder(path)
    try:
        about = folder.about
        config = about["config"]
        method = (config["subject"]["model"], config["corpus"]["source"], config["explainers"][0])
        yield (str(path), _state(folder, about), *method, *_means(folder, about))
    except (UserError, KeyError, TypeError) as error:
        reason = str(error) if isinstance(error, UserError) else "its run.json is damaged"
        yield (str(path), f"cannot be read: {reason.removeprefix(f'{path} ')}", *"-----")


def _state(folder: RunFolder, about: dict[str, Any]) -> str:
    if about["status"] == "complete":
        return "complete"
    results = folder.path / "results.jsonl"
    done = results.read_bytes().count(b"\n") if results.is_file() else 0
    asked = sum(one["n_sampled"] for one in about["dictionaries"]) * len(about["config"]["explainers"])
    return f"{'running' if _is_locked(folder.path / LOCK) else 'stopped'}, {done:,} of {asked:,} results"


def _is_locked(lock: Path) -> bool:
    """Tell whether a process holds a run folder's lock; what a killed one left behind is held by none."""
    try:
        with lock.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _means(folder: RunFolder, about: dict[str, Any]) -> tuple[str, str]:
    """Return the name of the main score, and its mean for the first dictionaries."""
    if about["status"] != "complete":
        return "-", "-"
    rows = folder.read_leaderboard()
    main = [row for row in main_rows(rows) if row["scorer"] == rows[0]["scorer"]]
    means = [f"{row['dictionary']} {number(row['mean'])}" for row in main[:MOST_MEANS]]
    faults = peer_faults.switched_on(about)
    score = rows[0]["scorer"] + (f", {peer_faults.loudly(faults)}" if faults else "")
    return score, ", ".join([*means, *(["..."] if len(main) > MOST_MEANS else [])])
