"""Explains offline: learns rules greedily from the explain records alone, without a language model.

A rule's strength is the mean activation where it holds. Rules are added one at a time, each the one that most lowers
the squared error of predicting every token by the strongest rule that holds there; N is the explanation's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autointerp.explainers import EXPLAINERS, Explainer, unknown
from autointerp.llm.types import LLMTask
from autointerp.prompting import rules, templates
from autointerp.prompting.rules import KINDS, NEAR_WINDOW, Rule, RuleKind
from autointerp.records import ActivationRecord, Explanation, FeatureRecord

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
    """Writes at most `limit` rules; None: as many as pay."""

    forms = "rules-N (N = 1, 2, ...), rules-unlimited"

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.name = f"rules-{limit or 'unlimited'}"
        self.prompts = (templates.load(rules.PROMPT),)

    @classmethod
    def of(cls, spec: str, config: Config) -> RulesExplainer:
        """Read `rules-N`, `rules-unlimited`, or `rules`, which is rules-5. Raises UserError otherwise."""
        limit = spec.partition("-")[2]
        if limit == "unlimited":
            return cls(None)
        if limit == "" or (limit.isdigit() and int(limit) > 0):
            return cls(int(limit or 5))
        raise unknown(spec)

    def explain(self, feature: FeatureRecord) -> LLMTask[Explanation]:
        """Write the first `limit` rules of the greedy search."""
        yield from ()  # asks nobody
        return explanation(learn(tuple(feature.explain))[: self.limit], self.name)


def explanation(learnt: Sequence[Rule], name: str) -> Explanation:
    """Word rules as the explanation of the explainer of this name."""
    return Explanation(rules.to_text(learnt), templates.load(rules.PROMPT).label, name)


def control_rules(records: Sequence[ActivationRecord]) -> tuple[Rule, ...]:
    """Learn a few rules from a feature's explain records, which predict a whole text for nothing.

    Language models' predictions are compared with theirs where both are known: the control variate of the population
    score.
    """
    return learn(tuple(records))[:CONTROL_RULES]


@lru_cache(maxsize=4096)
def learn(records: tuple[ActivationRecord, ...]) -> tuple[Rule, ...]:
    """Return all rules that pay, in the order the greedy search takes them: the first N are the best N it finds."""
    everything = Candidates.of(records, KINDS)
    predicted_T = np.zeros_like(everything.target_T)
    least = max(1e-9, LEAST_GAIN * float((everything.target_T**2).sum()))
    candidates = everything.only(everything.gains(predicted_T) > least)
    picks: list[int] = []
    while len(candidates.strength_R):
        gain_R = candidates.gains(predicted_T)
        best = int(np.round(gain_R, GAIN_DIGITS).argmax())
        if gain_R[best] <= least:
            break
        picks.append(best)
        where_T = candidates.positions(best)
        predicted_T[where_T] = np.maximum(predicted_T[where_T], candidates.strength_R[best])
    return candidates.rules(picks)


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
        code_R, rule_P, length_R = np.unique(code_P, return_inverse=True, return_counts=True)
        mean_R = np.bincount(rule_P, weights=target_T[position_P], minlength=len(code_R)) / length_R
        grouped_P = position_P[np.argsort(rule_P, kind="stable")]
        every_rule = Candidates(names, target_T, code_R, np.round(mean_R, 1), length_R, grouped_P)
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
    def _error_P(self) -> Floats:
        """The squared error at each position if the rule decides there."""
        error_P: Floats = (self.target_T[self.position_P] - self._strength_P) ** 2
        return error_P

    def gains(self, predicted_T: Floats) -> Floats:
        """Return by how much adding each rule lowers the sum of squared errors, [R]."""
        if not len(self.code_R):
            return np.zeros(0)
        now_P = predicted_T[self.position_P]
        saved_P = (self.target_T[self.position_P] - now_P) ** 2 - self._error_P
        sums: Floats = np.add.reduceat(np.where(self._strength_P > now_P, saved_P, 0.0), self._start_R)
        return sums

    def positions(self, rule: int) -> Integers:
        """Return where a rule holds."""
        return self.position_P[self._start_R[rule] : self._start_R[rule] + self.length_R[rule]]

    def rules(self, indices: Sequence[int] | Integers) -> tuple[Rule, ...]:
        """Return the candidates of these numbers as rules."""
        return tuple(self._rule(int(self.code_R[i]), float(self.strength_R[i])) for i in indices)

    def _rule(self, code: int, strength: float) -> Rule:
        size = len(self.names) + 1
        kind, first, second = KINDS[code // size**2], code // size % size, code % size
        key = (self.names[first],) if second == 0 else (self.names[first], self.names[second - 1])
        return Rule(kind, key, strength)


def _conditions(
    records: Sequence[ActivationRecord], names: tuple[str, ...], kinds: Sequence[RuleKind]
) -> tuple[Integers, Integers]:
    """Return the rules that hold, and where: code = (kind, first token, 0 or 1 + second token) in base 1 + names."""
    number = {name: i for i, name in enumerate(names)}
    token_T = np.array([number[token] for record in records for token in record.tokens], np.int64)
    position_T = np.concatenate([np.arange(len(record.tokens)) for record in records] or [np.zeros(0, np.int64)])
    size = len(names) + 1
    follows = np.flatnonzero(position_T >= 1)
    codes_of = {
        "token": lambda: (token_T * size, np.arange(len(token_T))),
        "pair": lambda: (token_T[follows - 1] * size + token_T[follows] + 1, follows),
        "after": lambda: (token_T[follows - 1] * size, follows),
        "near": lambda: _near(token_T, position_T, size),
    }
    parts = [(KINDS.index(kind) * size**2 + codes, where) for kind in kinds for codes, where in [codes_of[kind]()]]
    return np.concatenate([codes for codes, _ in parts]), np.concatenate([where for _, where in parts])


def _near(token_T: Integers, position_T: Integers, size: int) -> tuple[Integers, Integers]:
    """Return every token up to NEAR_WINDOW before each position, once however often it recurs there."""
    pairs = []
    for distance in range(1, NEAR_WINDOW + 1):
        where = np.flatnonzero(position_T >= distance)
        pairs.append(where * size + token_T[where - distance])
    where, token = np.divmod(np.unique(np.concatenate(pairs)), size)
    return token * size, where


EXPLAINERS.register("rules", RulesExplainer)
