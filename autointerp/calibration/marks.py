"""Judges each score by marks that were fixed beforehand; a mark that is not reached is shown as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from autointerp.calibration.attacks import Attacked, orderings
from autointerp.calibration.cells import closed_form
from autointerp.calibration.concepts import EXACT, SINGLE
from autointerp.calibration.measure import ALL_TOKENS, Row
from autointerp.calibration.purity import FeaturePurity
from autointerp.statistics.intervals import mean_interval
from autointerp.statistics.ranks import spearman

EXPLAINER = "explainer"
"""Stands for a score's name where a mark is of the explanations themselves."""
MOST_NOISE_NAMED = 0.5
"""The noise share up to which an explainer must name a planted token."""


@dataclass(frozen=True)
class Mark:
    """Holds what one score reached of one mark."""

    name: str
    score: str
    value: float | None
    """None where nothing could be measured, which does not reach the mark."""
    low: float | None
    """Lower end of the value's 95% interval, where there is one."""
    high: float | None
    bound: str
    reached: bool


@dataclass(frozen=True)
class Evidence:
    """Holds everything that was measured."""

    rows: Sequence[Row]
    attacked: Sequence[Attacked]
    trained: Sequence[FeaturePurity]
    chances: Mapping[str, float | None]
    """The chance level of every score."""

    def of(self, score: str) -> list[tuple[Row, float]]:
        """Return the rows in which the explanation has this score, each with it."""
        pairs = [(row, score_of(row, score)) for row in self.rows]
        return [(row, value) for row, value in pairs if value is not None]

    def chance(self, score: str) -> float:
        """Return the score of an explanation that says nothing."""
        return self.chances.get(score) or 0.0


def score_of(row: Row, score: str) -> float | None:
    """Return the score of the explainer's explanation; None where it is undefined or an error."""
    return row.harness_all if score == ALL_TOKENS else row.harness.get(score)


def oracle_of(row: Row, score: str) -> float | None:
    """Return the score of the true text."""
    return row.oracle_all if score == ALL_TOKENS else row.oracle.get(score)


def all_marks(evidence: Evidence, scores: Sequence[str]) -> list[Mark]:
    """Judge every score by every mark, and the explanations by theirs."""
    return [mark(evidence, score) for score in scores for mark in BY_SCORE] + [_named(evidence)]


def _rises(evidence: Evidence, score: str) -> Mark:
    """Count the noise levels whose mean score is not below that of the level before."""
    levels: dict[float, list[float]] = {}
    for row, value in _over_noise(evidence, score):
        levels.setdefault(row.noise, []).append(value)
    means = [float(np.mean(levels[noise])) for noise in sorted(levels)]
    rises = float(sum(later >= earlier for earlier, later in pairwise(means)))
    return _mark("rises with noise", score, rises if len(means) > 1 else None, "0", lambda value: value == 0)


def _slope(evidence: Evidence, score: str) -> Mark:
    """Regress the score on the noise share."""
    points = _over_noise(evidence, score)
    noise, values = np.array([row.noise for row, _ in points]), np.array([value for _, value in points])
    if len(points) < 3 or np.ptp(noise) == 0:
        return _mark("slope in noise", score, None, "interval below 0", bool)
    centred = noise - noise.mean()
    slope = float(centred @ values / (centred @ centred))
    residuals = values - values.mean() - slope * centred
    reach = 1.96 * float(np.sqrt(residuals @ residuals / (len(points) - 2) / (centred @ centred)))
    mark = _mark("slope in noise", score, slope, "interval below 0", lambda value: value + reach < 0)
    return Mark(mark.name, score, slope, slope - reach, slope + reach, mark.bound, mark.reached)


def _over_noise(evidence: Evidence, score: str) -> list[tuple[Row, float]]:
    """Return features that rules can say exactly, with wrong firings as strong as right ones."""
    return [(row, value) for row, value in evidence.of(score) if row.family in EXACT and row.amplitude == 1]


def _mismatched(evidence: Evidence, score: str) -> Mark:
    values = [value for row in evidence.rows if (value := _control_of(row, score)) is not None]
    chance = evidence.chance(score)
    return _mean_mark("mismatched - chance", score, [v - chance for v in values], "|.| < 0.03", lambda v: abs(v) < 0.03)


def _control_of(row: Row, score: str) -> float | None:
    return row.control_all if score == ALL_TOKENS else row.control.get(score)


def _position(evidence: Evidence, score: str) -> Mark:
    chance = evidence.chance(score)
    values = [value - chance for row, value in evidence.of(score) if row.family == "position"]
    return _mean_mark("position only - chance", score, values, "|.| <= 0.03", lambda v: abs(v) <= 0.03)


def _oracle(evidence: Evidence, score: str) -> Mark:
    """Take the family in which the true text of features without noise scores least."""
    families: dict[str, list[float]] = {}
    for row in evidence.rows:
        value = oracle_of(row, score)
        if row.family in EXACT and row.noise == 0 and value is not None:
            families.setdefault(row.family, []).append(value)
    lowest = min((float(np.mean(values)) for values in families.values()), default=None)
    return _mark("true text, no noise", score, lowest, ">= 0.99", lambda value: value >= 0.99)


def _bias(evidence: Evidence, score: str) -> Mark:
    """Compare the true text's score with what it must be over all tokens; only for correlations."""
    pairs = [(row.closed_form, oracle_of(row, score)) for row in evidence.rows]
    values = [b - a for a, b in pairs if a is not None and b is not None] if _is_correlation(score) else []
    return _mean_mark("true text - closed form", score, values, "|.| <= 0.02", lambda value: abs(value) <= 0.02)


def _error(evidence: Evidence, score: str) -> Mark:
    pairs = [(row.closed_form, oracle_of(row, score)) for row in evidence.rows]
    squares = [(b - a) ** 2 for a, b in pairs if a is not None and b is not None] if _is_correlation(score) else []
    value = float(np.sqrt(np.mean(squares))) if squares else None
    return _mark("its root mean square error", score, value, "<= 0.12", lambda value: value <= 0.12)


def _is_correlation(score: str) -> bool:
    return score == ALL_TOKENS or score.startswith("simulation")


def _false_orderings(evidence: Evidence, score: str) -> Mark:
    known = [one for one in evidence.attacked if score in one.scores]
    rate = orderings(known, score)["all"].failure_rate
    return _mark("false orderings", score, rate, "<= 0.05", lambda value: value <= 0.05)


def _purity(evidence: Evidence, score: str) -> Mark:
    """Correlate ranks of score and purity over the planted features of a single concept."""
    pairs = [(value, _purity_of(row)) for row, value in evidence.of(score) if _is_single(row)]
    return _mark("Spearman with purity", score, spearman(pairs), ">= 0.9", lambda value: value >= 0.9)


def _purity_of_truth(evidence: Evidence, score: str) -> Mark:
    """Do the same with the true text, so that only the score's own error is left."""
    rows = [row for row in evidence.rows if _is_single(row)]
    pairs = [(value, _purity_of(row)) for row in rows if (value := oracle_of(row, score)) is not None]
    return _mark("the same, true text", score, spearman(pairs), ">= 0.9", lambda value: value >= 0.9)


def _is_single(row: Row) -> bool:
    return row.family in SINGLE and row.amplitude == 1


def _purity_of(row: Row) -> float:
    """Return the Matthews correlation of a planted feature's firing with its concept."""
    return closed_form(row.density, row.noise)


def _labelled(evidence: Evidence, score: str) -> Mark:
    """Do the same over trained features, each with the true text about the concept that fits best."""
    pairs = [(value, one.purity) for one in evidence.trained if (value := one.labelled.get(score)) is not None]
    return _mark("the same, trained, best concept's text", score, spearman(pairs), ">= 0.9", lambda value: value >= 0.9)


def _trained(evidence: Evidence, score: str) -> Mark:
    """Do the same with the explainer's text, which may list the several concepts of an impure feature."""
    pairs = [(value, one.purity) for one in evidence.trained if (value := one.scores.get(score)) is not None]
    return _mark("the same, trained, explainer's text", score, spearman(pairs), ">= 0.9", lambda value: value >= 0.9)


def _named(evidence: Evidence) -> Mark:
    named = [row.named for row in evidence.rows if row.named is not None and row.noise <= MOST_NOISE_NAMED]
    value = float(np.mean(named)) if named else None
    return _mark("planted token named", EXPLAINER, value, ">= 0.95", lambda value: value >= 0.95)


def _mean_mark(name: str, score: str, values: Sequence[float], bound: str, reached: Callable[[float], bool]) -> Mark:
    interval = mean_interval(list(values))
    if interval is None:
        return _mark(name, score, None, bound, reached)
    return Mark(name, score, interval.mean, interval.low, interval.high, bound, reached(interval.mean))


def _mark(name: str, score: str, value: float | None, bound: str, reached: Callable[[float], bool]) -> Mark:
    return Mark(name, score, value, None, None, bound, value is not None and bool(reached(value)))


BY_SCORE = (
    _rises, _slope, _mismatched, _position, _oracle, _bias, _error, _false_orderings, _purity, _purity_of_truth,
    _labelled, _trained,
)  # fmt: skip
