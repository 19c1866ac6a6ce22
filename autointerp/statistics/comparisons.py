"""Compares dictionaries with each other: every pair, as far apart as the data say, or proven to be alike.

Tests keep the dependence that exists: features of one direction are paired, and both means move with the same text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from autointerp.statistics.clusters import RELATIVE_TOLERANCE, Estimate, Floats, Scores, estimate
from autointerp.statistics.intervals import Bounds, ends, holm, tails

LEVEL = 0.05
"""Error rate of all tests of a run together."""
MARGIN = 0.05
"""Means that differ by less are equivalent."""
POWER = 0.8


@dataclass(frozen=True)
class Difference:
    """Holds what the data say of the mean of one dictionary minus that of another."""

    dictionary: str
    """The one with the higher mean."""
    against: str
    difference: float
    low: float
    """Lower end of the 95% interval, of this pair alone."""
    high: float
    p: float
    """Of "the means are equal", two-sided."""
    p_holm: float
    """The same, adjusted for the number of pairs."""
    p_equivalence: float
    """Of "the means differ by MARGIN or more" (two one-sided tests; Schuirmann 1987), adjusted for the pairs."""
    effect: float | None
    """Difference in standard deviations of one feature's score (Hedges' g); None where neither's scores vary."""
    superiority: float
    """Probability that a feature of the first scores higher than one of the second; ties count half."""
    n_matched: int
    """Directions of which both have features."""
    features_needed: int | None
    """Features of each dictionary with which a difference of MARGIN is detected with probability POWER at LEVEL; None
    where no number suffices, because the text is too short."""


def compare_all(samples: Mapping[str, Scores], bounds: Bounds | None) -> list[Difference]:
    """Compare every pair of dictionaries, best means first; those with fewer than two features are left out.

    Two dictionaries whose scores do not vary at all, neither with the features nor with the text, are not compared
    either.

    Args:
        samples: one score of each dictionary's features.
        bounds: the score's range; intervals of differences are cut off at its width.
    """
    usable = [name for name in samples if len(samples[name].value_F) > 1]
    ranked = sorted(usable, key=lambda name: -float(samples[name].value_F.mean()))
    estimates = {
        pair: estimated
        for pair in combinations(ranked, 2)
        if (estimated := estimate(*zip((1.0, -1.0), (samples[name] for name in pair), strict=True)))
        and estimated.error > 0
    }
    p_values = [2 * min(tails(estimated, 0.0)) for estimated in estimates.values()]
    alike = [max(tails(e, -MARGIN)[0], tails(e, MARGIN)[1]) for e in estimates.values()]
    adjusted = zip(estimates.items(), p_values, holm(p_values), holm(alike), strict=True)
    return [_difference(pair, samples, estimated, bounds, p) for (pair, estimated), *p in adjusted]


def _difference(
    pair: tuple[str, str],
    samples: Mapping[str, Scores],
    estimated: Estimate,
    bounds: Bounds | None,
    p_values: Sequence[float],
) -> Difference:
    a, b = (samples[name] for name in pair)
    width = math.inf if bounds is None else bounds[1] - bounds[0]
    low, high = ends(estimated, (-width, width))
    p, p_holm, p_equivalence = p_values
    return Difference(
        *pair,
        difference=estimated.value,
        low=low,
        high=high,
        p=p,
        p_holm=p_holm,
        p_equivalence=p_equivalence,
        effect=_effect(a.value_F, b.value_F),
        superiority=_superiority(a.value_F, b.value_F),
        n_matched=len(np.intersect1d(a.cluster_F, b.cluster_F)),
        features_needed=features_needed(estimated, len(a.value_F), len(b.value_F)),
    )


def _effect(a_F: Floats, b_F: Floats) -> float | None:
    freedom = len(a_F) + len(b_F) - 2
    pooled = math.sqrt((len(a_F) * float(a_F.var()) + len(b_F) * float(b_F.var())) / freedom)
    if pooled <= RELATIVE_TOLERANCE * max(float(np.abs(a_F).max()), float(np.abs(b_F).max())):
        return None
    return float(a_F.mean() - b_F.mean()) / pooled * (1 - 3 / (4 * freedom - 1))


def _superiority(a_F: Floats, b_F: Floats) -> float:
    ordered_F = np.sort(b_F)
    below = [np.searchsorted(ordered_F, a_F, side) for side in ("left", "right")]
    return float(np.mean(below)) / len(b_F)


def features_needed(estimated: Estimate, n_a: int, n_b: int, difference: float = MARGIN) -> int | None:
    """Return the features of each dictionary that a difference needs: detected with POWER at LEVEL, two-sided.

    The variance from features shrinks with their number, the variance from documents does not. Returns None if that
    alone is too large.
    """
    from scipy import special

    reach = float(special.ndtri(1 - LEVEL / 2) + special.ndtri(POWER))
    left = (difference / reach) ** 2 - (estimated.from_documents or 0.0)
    if left <= 0:
        return None
    return max(2, math.ceil(estimated.from_features * 2 / (1 / n_a + 1 / n_b) / left))


def letters(ranked: Sequence[str], separated: Iterable[frozenset[str]]) -> dict[str, str]:
    """Name groups of ranks by letters, best first: the data separate two of them if they share no letter (Piepho 2004).

    Args:
        ranked: names, best first.
        separated: the pairs that are separated.
    """
    groups = [frozenset(ranked)] if ranked else []
    for pair in separated:
        split = [group - {name} for group in groups if pair <= group for name in pair]
        groups = list(dict.fromkeys([*(group for group in groups if not pair <= group), *split]))
        groups = [group for group in groups if not any(group < other for other in groups)]
    groups.sort(key=lambda group: sorted(map(ranked.index, group)))
    return {name: "".join(_letter(index) for index, group in enumerate(groups) if name in group) for name in ranked}


def _letter(index: int) -> str:
    """Return a, b, ..., z, then a1, b1 and so on."""
    return chr(ord("a") + index % 26) + (str(index // 26) if index >= 26 else "")
