"""Takes, of several explanations of a feature, the one that best predicts explain records held out from it.

The score records are not touched: choosing on them would make the score an optimum instead of a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autointerp.explainers import Explainer
from autointerp.llm.ask import attempt, together
from autointerp.llm.types import LLMTask
from autointerp.records import ActivationRecord, AnswerError, Explanation, FeatureRecord
from autointerp.scorers.slices import correlation
from autointerp.simulators import Simulator

HELD_EVERY = 3
"""Of each source's explain records every third, from the second on, is held out for choosing."""


class BestOf(Explainer):
    """Chooses among candidates; of equally good ones, and of those without a score, it takes the earliest."""

    def __init__(self, candidates: Sequence[Explainer], simulator: Simulator) -> None:
        first = candidates[0]
        self.name = f"{first.name}, best of {len(candidates)}"
        self.prompts = first.prompts + simulator.prompts
        self.models = first.models + simulator.models
        self._explainers, self._simulator = candidates, simulator

    def explain(self, feature: FeatureRecord) -> LLMTask[Explanation]:
        """Explain by the best candidate. Raises AnswerError if no candidate can be read."""
        held = held_out(feature)
        seen = replace(feature, explain=tuple(r for i, r in enumerate(feature.explain) if i not in held))
        explanations = yield from together(attempt(explainer.explain(seen)) for explainer in self._explainers)
        candidates = list(dict.fromkeys(item for item in explanations if isinstance(item, Explanation)))
        if not candidates:
            raise AnswerError(f"none of {len(explanations)} candidates can be read; the first: {explanations[0]}")
        tests = [feature.explain[index] for index in held]
        scores = yield from together(self._score(candidate, tests) for candidate in candidates)
        return candidates[max(range(len(candidates)), key=lambda index: (scores[index], -index))]

    def _score(self, candidate: Explanation, records: Sequence[ActivationRecord]) -> LLMTask[float]:
        """Return the correlation on the held-out records; -2, below every real one, if there is none."""
        predicted = yield from attempt(self._simulator.simulate(candidate, [record.tokens for record in records]))
        if isinstance(predicted, AnswerError):
            return -2.0
        readable = [values for values in predicted if not isinstance(values, AnswerError)]
        if len(readable) < len(records):
            return -2.0
        true = [value for record in records for value in record.activations]
        score = correlation(true, [value for values in readable for value in values])
        return score if isinstance(score, float) else -2.0


def held_out(feature: FeatureRecord) -> list[int]:
    """Return the indices of the explain records that candidates are compared on."""
    held = []
    for source in dict.fromkeys(record.source for record in feature.explain):
        indices = [index for index, record in enumerate(feature.explain) if record.source == source]
        held += indices[1::HELD_EVERY]
    return sorted(held)
