"""Simulates in one forward pass per fragment, from the prompt's own log-probabilities (Bills et al. 2023).

Every token of the fragment stands in the prompt with `unknown` after it; at each `unknown` the expected value over the
numbers 0 to 10 is read. Since each number is conditioned on unknowns only, one pass serves all tokens. The few-shot
features show numbers from a certain token on, and unknowns before it, so that both are seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from autointerp.llm.ask import ask_once, attempt, together
from autointerp.llm.types import Completion, LLMTask, Message, Request, Usage
from autointerp.prompting import parse, render, templates
from autointerp.records import AnswerError, Explanation
from autointerp.simulators import SIMULATORS, Predicted, Simulator
from autointerp.simulators.settings import SimulationSettings, model_of, refuse_method

if TYPE_CHECKING:
    from autointerp.config import Config

PROMPT = "simulator/all_at_once"
EXAMPLE = {str(number): -2.4 for number in range(11)}


class AllAtOnceSimulator(Simulator):
    """Needs the log-probabilities of the prompt: a model in this process, or a server that echoes."""

    asks_model = True
    settings: ClassVar = {"simulation": SimulationSettings}

    def __init__(self, spec: str, config: Config) -> None:
        if not model_of(spec, config).may_have_prompt_logprobs:
            raise refuse_method(spec, "all_at_once", "hf/..., vllm/..., or http://... with echo")
        self.name, self.models = spec, (spec,)
        self.prompts = (templates.load(PROMPT),)
        self._settings = config.section(SimulationSettings)

    def simulate(
        self, explanation: Explanation, fragments: Sequence[tuple[str, ...]]
    ) -> LLMTask[list[Predicted | AnswerError]]:
        """Predict each fragment in one request, all at once."""
        return (yield from together(attempt(self._fragment(explanation.text, tokens)) for tokens in fragments))

    def _fragment(self, explanation: str, tokens: tuple[str, ...]) -> LLMTask[Predicted]:
        text, slots = self._prompt(explanation, tokens)
        request = Request(
            model=self.name,
            messages=(Message("user", text),),
            max_tokens=1,
            top_logprobs=self._settings.top_logprobs,
            slots=slots,
            stage="simulate",
            example=Completion("", usage=Usage(1), slots=(EXAMPLE,) * len(slots)),
        )
        return (yield from ask_once(request, lambda completion: _read(completion, len(tokens))))

    def _prompt(self, explanation: str, tokens: tuple[str, ...]) -> tuple[str, tuple[int, ...]]:
        """Return the whole text, and where each `unknown` of the fragment begins."""
        prompt = self.prompts[0]
        separator, unknown = str(prompt.values["separator"]), str(prompt.values["unknown"])
        head = self._static + self._feature(self._count + 1, explanation.replace("\0", ""), "\0")
        text, _, tail = head.partition("\0")
        slots = []
        for position, token in enumerate(tokens):
            text += ("\n" if position else "") + render.visible(token) + separator
            slots.append(len(text))
            text += unknown
        return text + tail, tuple(slots)

    @cached_property
    def _count(self) -> int:
        return len(render.shots(self.prompts[0].few_shot))

    @cached_property
    def _static(self) -> str:
        """Write the opening and the few-shot features."""
        text = self.prompts[0].render("opening")
        for number, shot in enumerate(render.shots(self.prompts[0].few_shot), start=1):
            records = [*shot.active, *shot.silent[:1]]
            values = zip(records, render.levels(records), strict=True)
            text += self._feature(number, shot.explanation, *(self._half_known(r.tokens, v) for r, v in values))
        return text

    def _half_known(self, tokens: Sequence[str], numbers: Sequence[int]) -> str:
        """Write the first third of the tokens, at least one, with `unknown`, the rest with their numbers."""
        hidden = max(1, len(tokens) // 3)
        unknown = str(self.prompts[0].values["unknown"])
        shown: list[object] = [unknown if i < hidden else number for i, number in enumerate(numbers)]
        return render.token_lines(tokens, shown)

    def _feature(self, number: int, explanation: str, *fragments: str) -> str:
        return self.prompts[0].render("feature", number=number, explanation=explanation, excerpts=fragments)


def _read(completion: Completion, count: int) -> Predicted:
    if len(completion.slots) != count:
        raise AnswerError(f"log-probabilities of {len(completion.slots)} positions for {count} tokens")
    return tuple(parse.expected(slot) for slot in completion.slots)


SIMULATORS.register("all_at_once", AllAtOnceSimulator)
