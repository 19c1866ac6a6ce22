"""Compares runs that differ only in their seed: how much of a mean's error is of the seed, the text and the features.

Every seed has its own split, subject, dictionaries, text to score on and features, so that its means are independent
draws but for the corpus. The interval over all is Student's t over seeds, which holds all three sources. What a run's
own intervals do not explain of the variance over seeds is the seed's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autointerp.reporting.cells import Row, words
from autointerp.reporting.leaderboard import range_of
from autointerp.reporting.tables import STABILITY, main_rows
from autointerp.statistics.intervals import Bounds
from autointerp.store import RunFolder
from sae.common.tables import Table, number

REMEDIES = {"seed": "seeds (--seeds)", "text": "text (--corpus)", "features": "features (--features)"}
"""What to spend on where most of the variance is of this source."""
ONE_DOCUMENT = " Text of which a run scores one document only is counted with the seed."


@dataclass(frozen=True)
class OverSeeds:
    """Holds a mean over seeds, and the standard deviations that each source adds to the mean of one run."""

    mean: float
    low: float
    high: float
    seed: float
    """Of split, subject and dictionary; with the text, where that is not known."""
    text: float | None
    features: float

    @property
    def largest(self) -> str:
        """Name the source that adds most."""
        parts = {"seed": self.seed, "text": self.text or 0.0, "features": self.features}
        return max(parts, key=lambda name: parts[name])


def tables(folders: Sequence[RunFolder]) -> list[Table]:
    """Make the table of finished runs, each given once, that differ only in their seed; none of other runs."""
    abouts = [folder.about for folder in folders]
    if len(folders) < 2 or not differ_only_in_seed(abouts):
        return []
    boards = [main_rows(folder.read_leaderboard()) for folder in folders]
    score = boards[0][0]["scorer"]
    bounds = range_of(score)
    by_dictionary: dict[str, list[Row]] = {}
    of_score = [row for board in boards for row in board if row["scorer"] == score]
    for row in (row for row in of_score if row.get("se_features") is not None):
        by_dictionary.setdefault(row["dictionary"], []).append(row)
    whole = {name: rows for name, rows in by_dictionary.items() if len(rows) == len(folders)}
    stable = any("stability" in row for rows in whole.values() for row in rows)
    lines = [
        _line(name, over_seeds(rows, bounds)) + (_stability(rows) if stable else []) for name, rows in whole.items()
    ]
    unknown = any(line[3] == number(None) for line in lines)
    numbers = ", ".join(str(about["config"]["seed"]) for about in abouts)
    title = (
        f"Mean {words(score)} over seeds {numbers} with 95% interval over seed, text and features; the standard "
        "deviation that each adds to the mean of one run; what adds most, to spend on next (another seed is also other "
        f"text and other features).{ONE_DOCUMENT if unknown else ''}{STABILITY if stable else ''}"
    )
    header = ["dictionary", words(score), "seed", "text", "features", "spend on"]
    return [Table([*header, *(["stability", "PW-MCC"] if stable else [])], lines, title)] if lines else []


def _stability(rows: Sequence[Row]) -> list[str]:
    """Average over the runs the stability of scored features, and PW-MCC."""
    return [number(_mean_of_all([row.get(name) for row in rows])) for name in ("stability", "pw_mcc")]


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    """Average values; None if one is not known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _line(name: str, made: OverSeeds) -> list[str]:
    interval = f"{made.mean:.2f} [{made.low:.2f}, {made.high:.2f}]"
    parts = [number(value, 3) for value in (made.seed, made.text, made.features)]
    return [name, interval, *parts, REMEDIES[made.largest]]


def differ_only_in_seed(abouts: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether runs have different seeds, and the same config and inputs otherwise."""
    seeds = {about["config"].get("seed") for about in abouts}
    rests = [(about["config"] | {"seed": None, "name": None}, about.get("inputs")) for about in abouts]
    return len(seeds) == len(abouts) and all(rest == rests[0] for rest in rests)


def over_seeds(rows: Sequence[Row], bounds: Bounds | None) -> OverSeeds:
    """Take the means of one dictionary over seeds apart.

    Args:
        rows: at least two, one per seed, with a mean and its interval.
        bounds: the score's range.
    """
    from scipy import special

    n, mean_S = len(rows), np.array([row["mean"] for row in rows])
    mean, variance = float(mean_S.mean()), float(mean_S.var(ddof=1))
    features = float(np.mean([row["se_features"] ** 2 for row in rows]))
    known = [row["se_documents"] ** 2 for row in rows if row["se_documents"] is not None]
    text = float(np.mean(known)) if len(known) == n else None
    reach = float(special.stdtrit(n - 1, 0.975)) * math.sqrt(variance / n)
    lowest, highest = bounds or (-math.inf, math.inf)
    return OverSeeds(
        mean,
        max(lowest, mean - reach),
        min(highest, mean + reach),
        seed=math.sqrt(max(0.0, variance - features - (text or 0.0))),
        text=None if text is None else math.sqrt(text),
        features=math.sqrt(features),
    )
