"""Simulation in one forward pass per fragment, from the prompt's own log-probabilities (Bills et al. 2023).

Every token of the fragment stands in the prompt with `unknown` after it; at each `unknown` the expected value over the
numbers 0 to 10 is read. Since each place is conditioned on unknowns only, one pass serves all tokens. The few-shot
features show numbers from a certain token on, and unknowns before it, so that both are seen.
"""

from collections.abc import Sequence
from functools import cached_property

from autointerp.config import Simulating
from autointerp.llm.ask import ask_once, together
from autointerp.llm.types import Completion, LLMTask, Message, Request, Usage
from autointerp.prompting import parse, render, templates
from autointerp.records import AnswerError, Explanation

PROMPT = "simulator/all_at_once"
EXAMPLE = {str(number): -2.4 for number in range(11)}


class AllAtOnceSimulator:
    """Needs the log-probabilities of the prompt: a model in this process, or a server that echoes."""

    def __init__(self, model: str, settings: Simulating) -> None:
        self.name = model
        self.prompts = (templates.load(PROMPT),)
        self._settings = settings

    def simulate(
        self, explanation: Explanation, fragments: Sequence[tuple[str, ...]]
    ) -> LLMTask[list[tuple[float | None, ...]]]:
        return (yield from together(self._fragment(explanation.text, tokens) for tokens in fragments))

    def _fragment(self, explanation: str, tokens: tuple[str, ...]) -> LLMTask[tuple[float | None, ...]]:
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
        """The whole text, and where each `unknown` of the fragment begins."""
        prompt = self.prompts[0]
        separator, unknown = str(prompt.values["separator"]), str(prompt.values["unknown"])
        head = self._static + self._feature(self._count + 1, explanation.replace("\0", ""), "\0")
        text, _, tail = head.partition("\0")
        slots = []
        for place, token in enumerate(tokens):
            text += ("\n" if place else "") + render.visible(token) + separator
            slots.append(len(text))
            text += unknown
        return text + tail, tuple(slots)

    @cached_property
    def _count(self) -> int:
        return len(render.shots(self.prompts[0].few_shot))

    @cached_property
    def _static(self) -> str:
        """The opening and the few-shot features."""
        text = self.prompts[0].render("opening")
        for number, shot in enumerate(render.shots(self.prompts[0].few_shot), start=1):
            records = [*shot.active, *shot.silent[:1]]
            values = zip(records, render.levels(records), strict=True)
            text += self._feature(number, shot.explanation, *(self._half_known(r.tokens, v) for r, v in values))
        return text

    def _half_known(self, tokens: Sequence[str], numbers: Sequence[int]) -> str:
        """The first third of the tokens, at least one, with `unknown`, the rest with their numbers."""
        hidden = max(1, len(tokens) // 3)
        unknown = str(self.prompts[0].values["unknown"])
        shown: list[object] = [unknown if place < hidden else number for place, number in enumerate(numbers)]
        return render.token_lines(tokens, shown)

    def _feature(self, number: int, explanation: str, *excerpts: str) -> str:
        return self.prompts[0].render("feature", number=number, explanation=explanation, excerpts=excerpts)


def _read(completion: Completion, count: int) -> tuple[float | None, ...]:
    if len(completion.slots) != count:
        raise AnswerError(f"log-probabilities of {len(completion.slots)} places for {count} tokens")
    return tuple(parse.expected(slot) for slot in completion.slots)
