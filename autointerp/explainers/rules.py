"""Explains offline: learns rules greedily from the explain records alone, without a language model.

A rule's strength is the mean activation where it holds. Rules are added one at a time, each the one that most lowers
the squared error of predicting every token by the strongest rule that holds there; N is the explanation's length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autointerp.explainers import EXPLAINERS, Explainer, unknown
from autointerp.llm.types import LLMTask
from autointerp.prompting import rules, templates
from autointerp.prompting.rules import KINDS, NEAR_WINDOW, Rule, RuleKind
from autointerp.records import ActivationRecord, Explanation, FeatureRecord, is_index

if TYPE_CHECKING:
    from autointerp.config import Config

CONTROL_RULES = 5
"""Rules that predict a whole text where language models predict a part of it."""
LEAST_STRENGTH = 0.05
"""Least strength of a rule: a weaker one would be written as 0.0."""
LEAST_GAIN = 1e-3
"""A rule must explain at least this share of the sum of squared activations, by itself and beside the rules learnt
before it: below that it memorises single tokens."""
GAIN_DIGITS = 9
"""Decimals of gains that are compared: what differs only after them is the order of summation, and a tie."""
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class RulesExplainer(Explainer):
    """Writes at most `limit` rules; None: as many as the search yields."""

    forms = "rules-N (N = 1, 2, ...), rules-unlimited"

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.name = f"rules-{limit or 'unlimited'}"
        self.prompts = (templates.load(rules.PROMPT),)

    @classmethod
    def of(cls, spec: str, config: Config) -> RulesExplainer:
        """Read `rules-N`, `rules-unlimited`, or `rules`, which is rules-5. Raises UserError otherwise."""
        _, dash, limit = spec.partition("-")
        if limit == "unlimited":
            return cls(None)
        if not dash:
            return cls(5)
        if is_index(limit) and int(limit) > 0:
            return cls(int(limit))
        raise unknown(spec)

    def explain(self, feature: FeatureRecord) -> LLMTask[Explanation]:
        """Write the first `limit` rules of the greedy search."""
        yield from ()  # asks nobody
        return explanation(learn(tuple(feature.explain), self.limit), self.name)


def explanation(learnt: Sequence[Rule], name: str) -> Explanation:
    """Word rules as the explanation of the explainer of this name."""
    return Explanation(rules.to_text(learnt), templates.load(rules.PROMPT).label, name)


@lru_cache(maxsize=4096)
def _control_rules(records: tuple[ActivationRecord, ...]) -> tuple[Rule, ...]:
    return tuple(islice(_greedy(records), CONTROL_RULES))


def control_rules(records: Sequence[ActivationRecord]) -> tuple[Rule, ...]:
    """Learn a few rules from a feature's explain records, which predict a whole text for nothing.

    Language models' predictions are compared with theirs where both are known: the control variate of the population
    score.
    """
    return _control_rules(tuple(records))


def learn(records: tuple[ActivationRecord, ...], limit: int | None = None) -> tuple[Rule, ...]:
    """Return the first `limit` rules of the greedy search, or all that it yields: the first N are its best N."""
    return _search(records).first(limit)


class _Search:
    """Searches as far as the longest explanation of these records that was asked for."""

    def __init__(self, records: tuple[ActivationRecord, ...]) -> None:
        self._rules: list[Rule] = []
        self._rest = _greedy(records)

    def first(self, limit: int | None) -> tuple[Rule, ...]:
        self._rules += islice(self._rest, limit if limit is None else max(0, limit - len(self._rules)))
        return tuple(self._rules[:limit])


@lru_cache(maxsize=4)
def _search(records: tuple[ActivationRecord, ...]) -> _Search:
    """Keep the searches of the last features: a feature's explanations of several lengths are made in turn."""
    return _Search(records)


def _greedy(records: tuple[ActivationRecord, ...]) -> Iterator[Rule]:
    """Yield rules that explain at least LEAST_GAIN, each the one that lowers the error most beside those before it."""
    everything = Candidates.of(records, KINDS)
    predicted_T = np.zeros_like(everything.target_T)
    least = max(1e-9, LEAST_GAIN * float((everything.target_T**2).sum()))
    candidates = everything.only(everything.gains(predicted_T) > least)
    while len(candidates.strength_R):
        gain_R = candidates.gains(predicted_T)
        best = int(gain_R.round(GAIN_DIGITS).argmax())
        if gain_R[best] <= least:
            return
        yield candidates.rule(best)
        where_T = candidates.positions(best)
        predicted_T[where_T] = np.maximum(predicted_T[where_T], candidates.strength_R[best])


@dataclass(frozen=True)
class Candidates:
    """Holds rules that apply somewhere in some records and predict more than nothing, with the positions where.

    They are in the order of KINDS, so that of two equally good rules the search takes the more general one.

    Shape suffixes: T token positions of all records, R rules, P (rule, position) pairs grouped by rule.
    """

    names: tuple[str, ...]
    target_T: Floats
    code_R: Integers
    strength_R: Floats
    length_R: Integers
    position_P: Integers

    @staticmethod
    def of(records: Sequence[ActivationRecord], kinds: Sequence[RuleKind]) -> Candidates:
        """Collect every rule of these kinds whose strength can be written; targets are scaled to a maximum of 10."""
        values_T = np.array([value for record in records for value in record.activations], np.float64)
        highest = values_T.max(initial=0.0)
        target_T = 10 * values_T / highest if highest > 0 else np.zeros_like(values_T)
        names = tuple(dict.fromkeys(token for record in records for token in record.tokens))
        code_P, position_P = _conditions(records, names, kinds)
        start_R = np.flatnonzero(_is_first(code_P))
        code_R, length_R = code_P[start_R], np.diff(start_R, append=len(code_P))
        rule_P = np.repeat(np.arange(len(code_R)), length_R)
        mean_R = np.bincount(rule_P, weights=target_T[position_P], minlength=len(code_R)) / length_R
        every_rule = Candidates(names, target_T, code_R, np.round(mean_R, 1), length_R, position_P)
        return every_rule.only(mean_R >= LEAST_STRENGTH)

    def only(self, kept_R: NDArray[np.bool_]) -> Candidates:
        """Keep some of the candidates."""
        kept_P = np.repeat(kept_R, self.length_R)
        code_R, strength_R, length_R = self.code_R[kept_R], self.strength_R[kept_R], self.length_R[kept_R]
        return Candidates(self.names, self.target_T, code_R, strength_R, length_R, self.position_P[kept_P])

    @cached_property
    def _start_R(self) -> Integers:
        return np.cumsum(self.length_R) - self.length_R

    @cached_property
    def _strength_P(self) -> Floats:
        return np.repeat(self.strength_R, self.length_R)

    @cached_property
    def _target_P(self) -> Floats:
        return self.target_T[self.position_P]

    @cached_property
    def _error_P(self) -> Floats:
        """The squared error at each position if the rule decides there."""
        return np.square(self._target_P - self._strength_P)

    def gains(self, predicted_T: Floats) -> Floats:
        """Return by how much adding each rule lowers the sum of squared errors, [R]."""
        if not len(self.code_R):
            return np.zeros(0)
        now_P = predicted_T[self.position_P]
        saved_P = np.square(self._target_P - now_P) - self._error_P
        sums: Floats = np.add.reduceat(np.where(self._strength_P > now_P, saved_P, 0.0), self._start_R)
        return sums

    def positions(self, rule: int) -> Integers:
        """Return where a rule holds."""
        return self.position_P[self._start_R[rule] : self._start_R[rule] + self.length_R[rule]]

    def rule(self, index: int) -> Rule:
        """Return the candidate of this number as a rule."""
        size, code = len(self.names) + 1, int(self.code_R[index])
        kind, first, second = KINDS[code // size**2], code // size % size, code % size
        key = (self.names[first],) if second == 0 else (self.names[first], self.names[second - 1])
        return Rule(kind, key, float(self.strength_R[index]))


def _conditions(
    records: Sequence[ActivationRecord], names: tuple[str, ...], kinds: Sequence[RuleKind]
) -> tuple[Integers, Integers]:
    """Return the rules that hold, and where: code = (kind, first token, 0 or 1 + second token) in base 1 + names.

    They are grouped by rule, in the order of positions; a rule holds once, however often its token recurs nearby.
    """
    number = {name: i for i, name in enumerate(names)}
    token_T = np.array([number[token] for record in records for token in record.tokens], np.int64)
    position_T = np.concatenate([np.arange(len(record.tokens)) for record in records] or [np.zeros(0, np.int64)])
    size = len(names) + 1

    def before(distance: int) -> tuple[Integers, Integers]:
        where = np.flatnonzero(position_T >= distance)
        return token_T[where - distance] * size, where

    after, follows = before(1)
    held: dict[RuleKind, Callable[[], list[tuple[Integers, Integers]]]] = {
        "token": lambda: [(token_T * size, np.arange(len(token_T)))],
        "pair": lambda: [(after + token_T[follows] + 1, follows)],
        "after": lambda: [(after, follows)],
        "near": lambda: [before(distance) for distance in range(1, NEAR_WINDOW + 1)],
    }
    each = [(KINDS.index(kind) * size**2 + code, where) for kind in kinds for code, where in held[kind]()]
    # Sorted, not np.unique, which hashes: that takes ten times as long on these.
    code_and_position = np.sort(np.concatenate([code * len(token_T) + where for code, where in each]))
    code_P, position_P = np.divmod(code_and_position[_is_first(code_and_position)], max(1, len(token_T)))
    return code_P, position_P


def _is_first(sorted_P: Integers) -> NDArray[np.bool_]:
    """Tell which of sorted numbers are the first of their value."""
    return np.append(True, sorted_P[1:] != sorted_P[:-1])[: len(sorted_P)]


EXPLAINERS.register("rules", RulesExplainer)
