"""Reports what a run in rounds (`--until-resolved`) has resolved: a row per comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autointerp.reporting.cells import Row
from autointerp.statistics.clusters import Scores
from autointerp.statistics.resolution import Comparison, Design, Resolution


@dataclass(frozen=True)
class Resolved:
    """Holds how a run was to stop, and where it did."""

    design: Design
    resolution: Resolution
    n_free: int | None = None
    """Features that rules scored for nothing, by which means are corrected; None: no means are."""

    def confidence(self, dictionary: str) -> float:
        """Return the confidence of an ordinary interval in a dictionary's last round, so that it holds in every one
        with probability 95%."""
        return self.design.alone[self.resolution.rounds[dictionary] - 1]


def comparison_rows(resolved: Resolved, score: str, samples: Mapping[str, Scores]) -> list[Row]:
    """Return a row per pair of dictionaries, best means first, then one per lead over the best control.

    A row holds dictionary, against (null: the best control), difference, low, high, verdict (differ, equal, open),
    round (null where no round decided it), rounds (that there were to be), features (with a score, of the first
    dictionary, when it was last looked at), equal_within; and of the whole run n_scored, n_most (features that the
    fixed design scores) and n_free (that rules scored for nothing; null: none). All intervals of a run hold with
    probability 95%. With free scores difference, low and high are of means that these correct, not of the
    leaderboard's.

    Args:
        samples: the dictionaries' scores.
    """
    ranked = sorted(samples, key=lambda name: -float(samples[name].value_F.mean()) if len(samples[name].value_F) else 1)

    def rank(one: Comparison) -> tuple[bool, list[int]]:
        return one.against is None, sorted(ranked.index(name) for name in (one.dictionary, one.against) if name)

    design = resolved.design
    about = {
        "scorer": score,
        "rounds": len(design.ends),
        "equal_within": design.difference,
        "n_scored": sum(resolved.resolution.features.values()),
        "n_most": sum(design.available.values()),
        "n_free": resolved.n_free,
    }
    known = [one for one in resolved.resolution.comparisons if {one.dictionary, one.against} - {None} <= {*ranked}]
    return [about | vars(one) for one in sorted(known, key=rank)]
