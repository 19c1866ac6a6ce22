"""The offline explainers: no language model, rules learnt greedily from the explain records alone.

A rule's strength is the mean activation where it holds. Rules are added one at a time, each the one that most lowers
the squared error of predicting every token by the strongest rule that holds there; N is the explanation's length.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autointerp import prompts, rules
from autointerp.records import ActivationRecord, Explanation
from autointerp.rules import Rule

LEAST_STRENGTH = 0.05
"""Weaker rules would be written as 0.0."""
LEAST_GAIN = 5e-4
"""A rule must explain at least this share of the sum of squared activations: below it, it memorises single tokens."""
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class RulesExplainer:
    """At most `limit` rules; None: as many as pay."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.name = f"rules-{limit or 'unlimited'}"

    def explain(self, records: Sequence[ActivationRecord]) -> Explanation:
        learnt = learn(tuple(records))
        return _explanation(learnt[: self.limit], self.name)


class TokenTableExplainer:
    """Every token's mean activation: the token look-up table that Bills et al. 2023 compare explanations with.

    Here it is learnt from the explain records, as every explanation is, not from the whole corpus.
    """

    name = "token-table"

    def explain(self, records: Sequence[ActivationRecord]) -> Explanation:
        candidates = _Candidates(tuple(records), kinds=("token",))
        return _explanation(candidates.rules(np.argsort(-candidates.strength_R, kind="stable")), self.name)


def _explanation(chosen: Sequence[Rule], name: str) -> Explanation:
    return Explanation(rules.to_text(chosen), prompts.load(rules.PROMPT).label, name)


@lru_cache(maxsize=4)
def learn(records: tuple[ActivationRecord, ...]) -> tuple[Rule, ...]:
    """All rules that pay, in the order the greedy search takes them: the first N are the best N it finds."""
    candidates = _Candidates(records, rules.KINDS)
    predicted_T = np.zeros_like(candidates.target_T)
    least = LEAST_GAIN * float((candidates.target_T**2).sum())
    chosen: list[int] = []
    while len(candidates.strength_R):
        gain_R = candidates.gains(predicted_T)
        best = int(gain_R.argmax())
        if gain_R[best] <= max(least, 1e-9):
            break
        chosen.append(best)
        where_T = candidates.positions(best)
        predicted_T[where_T] = np.maximum(predicted_T[where_T], candidates.strength_R[best])
    return candidates.rules(chosen)


class _Candidates:
    """Every condition that holds somewhere in the records, with the positions where it does.

    Shape suffixes: T token positions of all records, R candidate rules, P (rule, position) pairs sorted by rule.
    """

    def __init__(self, records: tuple[ActivationRecord, ...], kinds: Sequence[str]) -> None:
        values = np.array([value for record in records for value in record.activations], np.float64)
        highest = values.max(initial=0.0)
        self.target_T: Floats = 10 * values / highest if highest > 0 else np.zeros_like(values)
        held: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        start = 0
        for record in records:
            for position, kind, key in rules.conditions(record.tokens):
                if kind in kinds:
                    held.setdefault((kind, key), []).append(start + position)
            start += len(record.tokens)
        self._use([(kind, key) for kind, key in held], list(held.values()))

    def _use(self, names: list[tuple[str, tuple[str, ...]]], held: list[list[int]]) -> None:
        """Keep the candidates whose strength can be written; ties later go to the earlier, more general kind."""
        mean = [float(self.target_T[where].mean()) for where in held]
        order = [i for i in range(len(names)) if mean[i] >= LEAST_STRENGTH]
        order.sort(key=lambda i: rules.KINDS.index(names[i][0]))  # type: ignore[arg-type]
        self.names = [names[i] for i in order]
        self.strength_R: Floats = np.round([mean[i] for i in order], 1)
        lengths = np.array([len(held[i]) for i in order], np.int64)
        self.start_R: Integers = np.concatenate([[0], lengths.cumsum()])[:-1].astype(np.int64)
        self.length_R = lengths
        self.position_P: Integers = np.array([t for i in order for t in held[i]], np.int64)
        self.strength_P: Floats = np.repeat(self.strength_R, lengths)
        self.error_P: Floats = (self.target_T[self.position_P] - self.strength_P) ** 2

    def gains(self, predicted_T: Floats) -> Floats:
        """By how much adding each rule lowers the sum of squared errors."""
        now_T = (self.target_T - predicted_T) ** 2
        saved_P = np.where(self.strength_P > predicted_T[self.position_P], now_T[self.position_P] - self.error_P, 0.0)
        sums: Floats = np.add.reduceat(saved_P, self.start_R)
        return sums

    def positions(self, rule: int) -> Integers:
        return self.position_P[self.start_R[rule] : self.start_R[rule] + self.length_R[rule]]

    def rules(self, chosen: Sequence[int] | Integers) -> tuple[Rule, ...]:
        return tuple(Rule(*self.names[i], float(self.strength_R[i])) for i in chosen)  # type: ignore[arg-type]
