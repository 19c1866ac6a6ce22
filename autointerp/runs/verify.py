"""Recomputes the figures of a finished run from what its folder holds, and says which of them do not follow.

A run without language models is scored again whole, explanations and controls included. Of another run the answers
are kept, and the scores are computed again from them and the records; explanations and controls' scores are read as
they are written, because the answers behind them are not in the folder. Tables are made again from the results, and
pages from tables, results and records.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autointerp.config import Config
from autointerp.evaluate import Method
from autointerp.records import FeatureRecord, FeatureResult, Status
from autointerp.reporting import leaderboard
from autointerp.runs.dependence import dependence_of
from autointerp.runs.offline import Offline
from autointerp.runs.opening import config_of
from autointerp.runs.pipeline import totals
from autointerp.runs.rounds import Rounds, in_rounds, judged_pool, rounds_of
from autointerp.runs.work import Work
from autointerp.store import RESULT, SITE, RunFolder
from sae.common.errors import UserError
from sae.common.progress import Report

if TYPE_CHECKING:
    from autointerp.reporting.site.runs import SiteRun

TOLERANCE = 1e-9
"""Figures that differ by less are the same: other machines add in another order."""
_FIGURE = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
Keyed = Mapping[tuple[str, str], FeatureResult]
"""Results by feature and explainer."""


class DoesNotHold(UserError):
    """Says that a figure of a run does not follow from what the run holds."""

    status = 1


@dataclass(frozen=True)
class Check:
    """Holds how many values of one kind were computed again, and where they differ from what is written."""

    what: str
    count: int
    differences: tuple[str, ...] = ()


def verify(folder: RunFolder, report: Report) -> list[Check]:
    """Check a finished run: its results, its tables, its totals, its files.

    Raises UserError if the run is not finished, or if its records or results cannot be read.
    """
    about = folder.about
    if about["status"] != "complete":
        raise UserError(f"{folder.path} is not finished; finish it with the command that began it")
    config, results, features = config_of(folder), list(folder.results()), folder.read_features()
    method = Method.of(config)
    rounds = rounds_of(config, method, features, report)
    texts = _tables(folder, results, method, features, rounds)
    return [
        *_results(config, method, features, results, report, rounds),
        *(table_check(folder.path, name, text) for name, text in texts.items()),
        _totals(about, results),
        *_pages(folder, features, results, texts, report),
        _files(folder, about),
    ]


def _files(folder: RunFolder, about: Mapping[str, Any]) -> Check:
    wrong = tuple(f"{name} is not the file that the run wrote" for name in folder.damaged())
    return Check("files with the size and hash that run.json gives", len(about.get("files", {})), wrong)


def _results(
    config: Config,
    method: Method,
    features: Sequence[FeatureRecord],
    results: Sequence[FeatureResult],
    report: Report,
    rounds: Rounds | None,
) -> list[Check]:
    if not method.models:
        return [_done_again(config, method, features, results, report, rounds)]
    by_id = {str(feature.id): feature for feature in features}
    kept = Counter[str]()
    differences = [
        f"{result.feature} by {result.explainer}: {wrong}"
        for result in results
        for wrong in _rescored(method, by_id.get(str(result.feature)), result, kept)
    ]
    scores = sum(len(result.scores) for result in results)
    other = {name: count for name, count in kept.items() if count}
    listed = [Check(f"scores of {name}, read as written: the answers are not kept", n) for name, n in other.items()]
    return [
        Check("scores computed again from answers and records", scores - sum(other.values()), tuple(differences)),
        *listed,
    ]


def _done_again(
    config: Config,
    method: Method,
    features: Sequence[FeatureRecord],
    results: Sequence[FeatureResult],
    report: Report,
    rounds: Rounds | None,
) -> Check:
    """Explain and score every feature once more, by rules alone."""
    work = Work(judged_pool(config, features), config, method, ())
    for label in in_rounds(rounds, work, report):
        with report(f"explaining{label}") as progress:
            work.explain(Offline(), progress)
        with report(f"scoring{label}") as progress:
            work.evaluate(Offline(), progress)
    written, computed = _keyed(results), _keyed(work.results())
    wrong = [
        f"{' by '.join(key)}: {text}" for key in {**computed, **written} if (text := _unlike(key, written, computed))
    ]
    return Check("results explained and scored again from the records", len(computed), tuple(wrong))


def _keyed(results: Iterable[FeatureResult]) -> dict[tuple[str, str], FeatureResult]:
    return {(str(result.feature), result.explainer): result for result in results}


def _unlike(key: tuple[str, str], written: Keyed, computed: Keyed) -> str | None:
    if key not in written:
        return "results.jsonl lacks it"
    if key not in computed:
        return "results.jsonl holds it, but the run makes no such result"
    return unlike(RESULT.dump_python(written[key], mode="json"), RESULT.dump_python(computed[key], mode="json"))


def _rescored(
    method: Method, feature: FeatureRecord | None, result: FeatureResult, kept: Counter[str]
) -> Iterable[str]:
    """Say what of one result does not follow; count in `kept` the scores that could not be computed again."""
    if feature is None:
        yield "there are no records of it"
        return
    main = next(iter(method.chances))
    if result.status != (status := _status(result, main)):
        yield f"status is {result.status}, but {status} follows"
    for scorer in method.scorers_for(result.explainer):
        names = [name for name in scorer.chances if name in result.scores]
        if not (computed := scorer.rescore(feature, result)):
            kept[scorer.name] += len(names)
            continue
        for part in ("scores", "intervals", "failed"):
            written, follows = (_named(getattr(one, part), names) for one in (result, computed))
            if wrong := unlike(written, follows):
                yield f"{part}{wrong}"


def _named(values: Mapping[str, Any] | Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Return the values of some scores; of a list of scores, which of them it holds."""
    if isinstance(values, Mapping):
        return {name: values[name] for name in names if name in values}
    return {name: name in values for name in names}


def _status(result: FeatureResult, main: str) -> Status:
    if main not in result.scores:
        return "error"
    if main in result.failed:
        return "failed"
    return "undefined" if result.scores[main] is None else "ok"


def _tables(
    folder: RunFolder,
    results: Sequence[FeatureResult],
    method: Method,
    features: Sequence[FeatureRecord],
    rounds: Rounds | None,
) -> dict[str, str]:
    """Make each table again from the results and the records."""
    sampled = {feature.id for feature in features}
    dependence = dependence_of(method, features, [result for result in results if result.feature in sampled])
    resolved = rounds.resolved(results, dependence) if rounds else None
    return leaderboard.texts(folder, results, method.chances, dependence, resolved)


def _pages(
    folder: RunFolder,
    features: Sequence[FeatureRecord],
    results: Sequence[FeatureResult],
    texts: Mapping[str, str],
    report: Report,
) -> list[Check]:
    """Write a run's pages again, if it has any, with the leaderboard that follows where another one is written."""
    if not (site := folder.path / SITE).is_dir():
        return []
    from autointerp.reporting.site import compare, runs  # jinja2 is needed for pages only

    name = leaderboard.BOARD
    rows = json.loads(texts[name]) if table_check(folder.path, name, texts[name]).differences else None
    label = compare.label_of(site) or folder.path.resolve().name
    return [pages_check([runs.site_run(folder, label, features, results, rows)], site, report)]


def pages_check(runs: Sequence[SiteRun], site: Path, report: Report) -> Check:
    """Compare the pages of runs with what they should show, byte by byte."""
    from autointerp.reporting.site import compare

    with report("comparing the pages") as progress:
        number, wrong = compare.differences(runs, site)
        progress.update(1, 1)
    again = shlex.join(["autointerp", "browse", str(site.parent)])
    return Check(
        "files of the pages written again", number, tuple(f"{text}; {again} writes them again" for text in wrong)
    )


def table_check(folder: Path, name: str, text: str) -> Check:
    """Compare a file with what it should hold, line by line."""
    try:
        written = (folder / name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return Check(f"lines of {name}", 0, (f"{name} cannot be read: {error}",))
    pairs = list(zip_longest(written.split("\n"), text.split("\n"), fillvalue=""))
    wrong = tuple(
        f"{name}, line {number}: {mine.strip()!r} is written, but {follows.strip()!r} follows"
        for number, (mine, follows) in enumerate(pairs, start=1)
        if not _same_line(mine, follows)
    )
    return Check(f"lines of {name} made again from the results", len(pairs), wrong)


def _same_line(a: str, b: str) -> bool:
    """Tell whether two lines have the same words, and figures that differ by rounding at most."""
    figures = [[float(figure) for figure in _FIGURE.findall(line)] for line in (a, b)]
    return a == b or (_FIGURE.sub("0", a) == _FIGURE.sub("0", b) and unlike(*figures) is None)


def _totals(about: Mapping[str, Any], results: Sequence[FeatureResult]) -> Check:
    computed = totals(results)
    wrong = unlike(about.get("totals"), computed)
    return Check("totals of run.json", len(computed), (f"run.json, totals{wrong}",) if wrong else ())


def unlike(written: Any, computed: Any) -> str | None:
    """Return where and how two values of JSON differ first, by more than rounding; None if they do not."""
    if isinstance(written, Mapping) and isinstance(computed, Mapping) and set(written) == set(computed):
        parts = ((f"[{name}]", written[name], computed[name]) for name in computed)
    elif _is_list(written) and _is_list(computed) and len(written) == len(computed):
        parts = ((f"[{index}]", mine, other) for index, (mine, other) in enumerate(zip(written, computed, strict=True)))
    else:
        return None if _same(written, computed) else f": {_short(written)} is written, but {_short(computed)} follows"
    return next((f"{name}{text}" for name, mine, other in parts if (text := unlike(mine, other))), None)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _same(written: Any, computed: Any) -> bool:
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (written, computed)]
    if all(numbers):
        return math.isclose(written, computed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(written == computed)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
