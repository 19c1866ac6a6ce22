"""Decides, round after round, which comparisons of dictionaries are resolved and which need more features.

Compared are the means of every pair of dictionaries, and each dictionary's lead over its best control. Every comparison
has an interval in every round; with probability 95% all of them hold in all rounds (Bonferroni over comparisons,
`sequential` over rounds). So a comparison may be decided as soon as its interval allows it: it differs if 0 lies
outside, and is equal if the interval lies within +-difference. At most 5% of runs decide one wrongly, whatever the
dependence between pairs, and whichever dictionaries go on.

Free scores of all features, where there are some, make the intervals shorter (`control_variates`): they are the same in
all rounds, as the text is, so that their share of the error correlates looks more strongly, and bounds are crossed less
often.

A comparison that all features would hardly decide is given up (`allocation`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import combinations
from typing import Literal

from autointerp.statistics.allocation import chance
from autointerp.statistics.clusters import Estimate, Scores, estimate
from autointerp.statistics.comparisons import LEVEL
from autointerp.statistics.control_variates import Measured, common_slope
from autointerp.statistics.intervals import Bounds, ends
from autointerp.statistics.sequential import levels, sizes

LEAST = 5
"""Scores that a dictionary must have to be compared."""
Verdict = Literal["differ", "equal", "open"]


@dataclass(frozen=True)
class Design:
    """Holds what is fixed before the first feature is scored."""

    available: Mapping[str, int]
    """Features of each dictionary that may be scored."""
    controls: Sequence[str]
    """Kinds of controls, over which each dictionary has a lead."""
    first: int
    """Features of each dictionary in the first round."""
    difference: float
    """Means that differ by less are equal."""
    bounds: Bounds | None = None
    """The score's range; intervals of differences are cut off at its width."""
    futility: float = 0.0
    """A comparison is given up when its chance to be decided by all features is below this."""

    @cached_property
    def ends(self) -> list[int]:
        """Features of each dictionary with which each round ends."""
        return sizes(self.first, max(self.available.values(), default=self.first))

    @property
    def n_intervals(self) -> int:
        """Intervals of a round: one for each pair, and one for each dictionary and kind of control."""
        return math.comb(len(self.available), 2) + len(self.available) * len(self.controls)

    def sizes(self, rounds: Mapping[str, int]) -> dict[str, int]:
        """Return the features of each dictionary after so many rounds; none before the first."""
        return {name: min(self.ends[n - 1], self.available[name]) if n else 0 for name, n in rounds.items()}

    @cached_property
    def together(self) -> list[float]:
        """Confidence of each interval in each round, so that all hold in all rounds with probability 1 - LEVEL."""
        return [1 - 2 * p for p in levels(self.ends, LEVEL / 2 / max(1, self.n_intervals))]

    @cached_property
    def alone(self) -> list[float]:
        """Confidence of an interval in each round that holds in all rounds with probability 1 - LEVEL."""
        return [1 - 2 * p for p in levels(self.ends, LEVEL / 2)]


@dataclass(frozen=True)
class Comparison:
    """Holds what a round, or the last one that looked at it, says of one comparison."""

    dictionary: str
    against: str | None
    """Another dictionary; None: the best control."""
    verdict: Verdict = "open"
    round: int | None = None
    """The round that decided it, from 1; None if none did."""
    features: int = 0
    """Features of the first dictionary that had been scored by then."""
    difference: float | None = None
    """None, as `low` and `high`, where there are too few scores."""
    low: float | None = None
    """Lower end of the interval by which it was decided: with probability 95% all of a run hold in all rounds."""
    high: float | None = None
    chance: float | None = None
    """Probability that all features decide it; None where it is decided, or has too few scores."""
    given_up: bool = False
    """Whether that was too small; it is not looked at again."""

    @property
    def names(self) -> list[str]:
        """Its dictionaries."""
        return [name for name in (self.dictionary, self.against) if name]

    @property
    def goes_on(self) -> bool:
        """Whether its dictionaries need more features."""
        return self.verdict == "open" and not self.given_up


@dataclass(frozen=True)
class Sample:
    """Holds the scores of some features of one dictionary."""

    scores: Measured
    leads: Mapping[str, Measured]
    """By kind of control: each feature's score minus that control's."""


@dataclass(frozen=True)
class Resolution:
    """Holds what is decided, and what is to be scored before the next decision."""

    comparisons: Sequence[Comparison]
    features: Mapping[str, int]
    """How many features of each dictionary are scored, or are to be scored next."""
    rounds: Mapping[str, int]
    """The last round of each dictionary, from 1."""
    is_over: bool
    """Whether nothing is left to score: all comparisons are decided or given up, or all features are scored."""

    @property
    def n_decided(self) -> int:
        """Count the comparisons that are decided."""
        return sum(one.verdict != "open" for one in self.comparisons)


SampleOf = Callable[[str, int], Sample | None]
"""Returns a dictionary's first n features; None if some of them are not scored yet."""


def resolve(design: Design, sample_of: SampleOf) -> Resolution:
    """Go through the rounds as far as features are scored.

    Whatever is scored beyond a dictionary's last round is not looked at, so that a run which was interrupted decides as
    one that was not.
    """
    made = [Comparison(*pair) for pair in combinations(design.available, 2)]
    made += [Comparison(name, None) for name in design.available if design.controls]
    rounds, sample_of = dict.fromkeys(design.available, 0), cache(sample_of)
    for number in range(len(design.ends)):
        due = [one.goes_on for one in made]
        rounds |= {name: number + 1 for one in made if one.goes_on for name in one.names}
        samples = {name: sample_of(name, n) for name, n in design.sizes(rounds).items() if n}
        known = {name: sample for name, sample in samples.items() if sample}
        if not any(due) or len(known) < len(samples):
            return Resolution(made, design.sizes(rounds), rounds, not any(due))
        parts = _corrected(known, design)
        made = [_looked(one, parts, design, number) if is_due else one for one, is_due in zip(made, due, strict=True)]
    return Resolution(made, design.sizes(rounds), rounds, True)


Parts = Sequence[Scores]
"""Samples whose means add up to an estimate; the first is of the judged features."""


def _corrected(samples: Mapping[str, Sample], design: Design) -> dict[str, dict[str | None, Parts]]:
    """Correct each dictionary's scores (None), and leads by kind of control, by the free ones."""
    made: dict[str, dict[str | None, Parts]] = {name: {} for name in samples}
    for kind in (None, *design.controls):
        measured = {name: sample.leads[kind] if kind else sample.scores for name, sample in samples.items()}
        slope = common_slope(measured.values())
        for name, one in measured.items():
            made[name][kind] = one.corrected(slope)
    return made


def _looked(
    one: Comparison, samples: Mapping[str, Mapping[str | None, Parts]], design: Design, number: int
) -> Comparison:
    """Look at one comparison in a round; its first dictionary is then the one with the higher mean."""
    compared = _compared(one, samples, design)
    estimates = [_estimate(pair) for pair in compared]
    known = [made for made in estimates if made and made.error > 0]
    if not known or len(known) < len(estimates):
        return one
    width = math.inf if design.bounds is None else design.bounds[1] - design.bounds[0]
    intervals = [ends(made, (-width, width), design.together[number]) for made in known]
    low, high = (min(side) for side in zip(*intervals, strict=True))  # all hold at once, so their least ends do, too
    verdict: Verdict = "open"
    if low > 0 or high < 0:
        verdict = "differ"
    elif -design.difference < low and high < design.difference:
        verdict = "equal"
    scored = {name: len(samples[name][None][0].value_F) for name in one.names}
    sizes = [(n, design.available[name]) for name, n in scored.items()]
    hope = min(
        chance(made, _shrinking(pair), sizes, design.difference, design.together[-1])
        for made, pair in zip(known, compared, strict=True)
    )
    looked = replace(
        one,
        verdict=verdict,
        round=None if verdict == "open" else number + 1,
        features=scored[one.dictionary],
        difference=min(made.value for made in known),
        low=low,
        high=high,
        chance=hope if verdict == "open" else None,
        given_up=verdict == "open" and hope < design.futility,
    )
    return _higher_first(looked)


def _compared(
    one: Comparison, samples: Mapping[str, Mapping[str | None, Parts]], design: Design
) -> list[Sequence[Parts]]:
    """List what is estimated: the difference of two samples' means, or a lead's mean for each kind of control."""
    own = samples[one.dictionary]
    if one.against is None:
        return [[own[kind]] for kind in design.controls]
    return [[own[None], samples[one.against][None]]]


def _estimate(pair: Sequence[Parts]) -> Estimate | None:
    """Estimate a mean, or the difference of two; None where there are too few scores."""
    if any(len(parts[0].value_F) < LEAST for parts in pair):
        return None
    return estimate(*((weight, part) for weight, parts in zip((1.0, -1.0), pair, strict=False) for part in parts))


def _shrinking(pair: Sequence[Parts]) -> float:
    """Return the variance that judging more features makes smaller."""
    estimated = estimate(*zip((1.0, -1.0), (parts[0] for parts in pair), strict=False))
    return estimated.from_features if estimated else 0.0


def _higher_first(one: Comparison) -> Comparison:
    """Turn a pair round if the mean of its second dictionary is the higher one."""
    if one.against is None or one.difference is None or one.difference >= 0:
        return one
    low, high = (None if end is None else -end for end in (one.high, one.low))
    turned = replace(one, dictionary=one.against, against=one.dictionary)
    return replace(turned, difference=-one.difference, low=low, high=high)
