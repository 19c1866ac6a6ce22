"""Simulates offline: reads the rules back from the explanation's sentence and applies them. No language model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from autointerp.llm.types import LLMTask
from autointerp.prompting import rules, templates
from autointerp.prompting.predict_text import predict_fragments, predict_text
from autointerp.records import Explanation
from autointerp.simulators import SIMULATORS, Predicted, Simulator

if TYPE_CHECKING:
    from autointerp.config import Config
    from autointerp.population import Floats, PopulationText

TEXTS_KEPT = 8
"""Whole texts whose predictions are kept: a feature's, from its own explanation and its controls'."""


class RulesSimulator(Simulator):
    """Predicts from the text alone; an explanation in free prose is an error, not a zero."""

    reads_prose = False

    def __init__(self, spec: str, config: Config) -> None:
        self.name = spec
        self.prompts = (templates.load(rules.PROMPT),)

    def simulate(self, explanation: Explanation, fragments: Sequence[tuple[str, ...]]) -> LLMTask[list[Predicted]]:
        """Apply the explanation's rules to each fragment. Raises AnswerError if it is not made of rules."""
        yield from ()  # asks nobody
        return list(predict_fragments(rules.from_text(explanation.text), fragments))

    def simulate_all(self, explanation: Explanation, text: PopulationText) -> Floats:
        """Apply the explanation's rules to every fragment. Raises AnswerError if it is not made of rules."""
        return _predicted(explanation.text, text)


@lru_cache(maxsize=TEXTS_KEPT)
def _predicted(explanation: str, text: PopulationText) -> Floats:
    """Predict a whole text, [M, L]: the documents' influences are computed from what the score was."""
    predicted_ML = predict_text(rules.from_text(explanation), text)
    predicted_ML.flags.writeable = False
    return predicted_ML


SIMULATORS.register("rules", RulesSimulator)
