"""Best of n: several explanations of a feature, and the one that predicts explain records it was not made from best.

The score records are not touched: choosing on them would make the score an optimum instead of a test.
"""

from collections.abc import Sequence
from dataclasses import replace

from autointerp.explainers.language_model import LanguageModelExplainer
from autointerp.llm.ask import attempt, together
from autointerp.llm.types import LLMTask
from autointerp.records import ActivationRecord, AnswerError, Explanation, FeatureRecord
from autointerp.scorers.simulation import correlation
from autointerp.simulators import Simulator

HELD_EVERY = 3
"""Of each source's explain records every third, from the second on, is held out for choosing."""


class BestOf:
    """n candidates from all but the held-out records; ties and candidates without a score: the earlier one."""

    def __init__(self, explainer: LanguageModelExplainer, simulator: Simulator, candidates: int) -> None:
        self.name = f"{explainer.name}, best of {candidates}"
        self.prompts = explainer.prompts + simulator.prompts
        self._explainers = [explainer.sampled(number) for number in range(candidates)]
        self._simulator = simulator

    def explain(self, feature: FeatureRecord) -> LLMTask[Explanation]:
        """Raises AnswerError if no candidate can be read."""
        held = held_out(feature)
        seen = replace(feature, explain=tuple(r for i, r in enumerate(feature.explain) if i not in held))
        found = yield from together(attempt(explainer.explain(seen)) for explainer in self._explainers)
        candidates = list(dict.fromkeys(item for item in found if isinstance(item, Explanation)))
        if not candidates:
            raise AnswerError(f"none of {len(found)} candidates can be read; the first: {found[0]}")
        tests = [feature.explain[place] for place in held]
        scores = yield from together(self._score(candidate, tests) for candidate in candidates)
        return candidates[max(range(len(candidates)), key=lambda place: (scores[place], -place))]

    def _score(self, candidate: Explanation, records: Sequence[ActivationRecord]) -> LLMTask[float]:
        """Correlation on the held-out records, below every real one if there is none."""
        found = yield from attempt(self._simulator.simulate(candidate, [record.tokens for record in records]))
        if isinstance(found, AnswerError):
            return -2.0
        true = [value for record in records for value in record.activations]
        score = correlation(true, [value for values in found for value in values])
        return -2.0 if score is None else score


def held_out(feature: FeatureRecord) -> list[int]:
    """Positions of the explain records that candidates are chosen on."""
    held = []
    for source in dict.fromkeys(record.source for record in feature.explain):
        places = [place for place, record in enumerate(feature.explain) if record.source == source]
        held += places[1::HELD_EVERY]
    return sorted(held)
