"""The offline simulator: reads the rules back from the explanation's sentence and applies them. No language model."""

from collections.abc import Sequence

from autointerp.llm.types import LLMTask
from autointerp.prompting import rules, templates
from autointerp.records import Explanation


class RulesSimulator:
    """Predicts from the text alone; an explanation in free prose is an error, not a zero."""

    name = "rules"
    prompts = (templates.load(rules.PROMPT),)

    def simulate(
        self, explanation: Explanation, fragments: Sequence[tuple[str, ...]]
    ) -> LLMTask[list[tuple[float | None, ...]]]:
        yield from ()  # asks nobody
        predictor = rules.Predictor(rules.from_text(explanation.text))
        return [predictor.predict(tokens) for tokens in fragments]
