"""Simulates by numbers: the model names the active tokens of several excerpts by their numbers, all others are 0.

Nothing is typed again, so that no token can be lost or merged, and one question serves all of a feature's fragments.
Where the answer about a fragment cannot be read, that fragment alone is asked about once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from autointerp.llm.ask import ask_once, attempt, require_whole, together
from autointerp.llm.types import Completion, LLMTask, Request
from autointerp.prompting import numbered, render, templates
from autointerp.prompting.numbered import Excerpt, Levels
from autointerp.records import AnswerError, Explanation
from autointerp.simulators import SIMULATORS, Predicted, Simulator
from autointerp.simulators.samples import averaged
from autointerp.simulators.settings import SimulationSettings, model_of

if TYPE_CHECKING:
    from autointerp.config import Config

PROMPT = "simulator/numbered"
TOKENS_PER_ENTRY = 9
"""Most tokens that an entry of the answer takes, with room; for max_tokens."""
EXAMPLE_EVERY = 10
"""In the example answers of dry runs, one token in so many is active."""
SHOWN_REASONS = 3
"""Faults of an answer that the second question names."""
Readings = list[Levels | AnswerError]
"""What was read about each excerpt of a question."""


class NumberedSimulator(Simulator):
    """Takes activations as they are written; the answer is held to a JSON schema where the provider can do that."""

    asks_model = True
    settings: ClassVar = {"simulation": SimulationSettings}

    def __init__(self, spec: str, config: Config) -> None:
        model, self._settings = model_of(spec, config), config.section(SimulationSettings)
        self.name, self.models = spec, (spec,)
        self.prompts = (templates.load(PROMPT),)
        self._schema = numbered.SCHEMA if model.has_schema else None
        self._shots = [_shot(shot) for shot in render.shots(self.prompts[0].few_shot)]

    def simulate(
        self, explanation: Explanation, fragments: Sequence[tuple[str, ...]]
    ) -> LLMTask[list[Predicted | AnswerError]]:
        """Predict `simulation.fragments` fragments per question, as often as there are samples, and average them."""
        size = self._settings.fragments or max(1, len(fragments))
        groups = [fragments[start : start + size] for start in range(0, len(fragments), size)]
        samples = range(self._settings.samples)
        questions = [self._group(explanation.text, group, number) for group in groups for number in samples]
        answers = yield from together(questions)
        by_group = [answers[start : start + len(samples)] for start in range(0, len(answers), len(samples))]
        return [averaged(readings) for group in by_group for readings in zip(*group, strict=True)]

    def _group(self, explanation: str, fragments: Sequence[tuple[str, ...]], sample: int) -> LLMTask[Readings]:
        """Ask about some fragments, and once more about those whose answer cannot be read."""
        shown = numbered.excerpts(fragments)
        request = self._request(explanation, shown, sample)
        completion = yield from attempt(ask_once(request, lambda answer: answer))
        readings = _read(completion, shown, request)
        wrong = {e.number: r for e, r in zip(shown, readings, strict=True) if isinstance(r, AnswerError)}
        if not wrong or isinstance(completion, AnswerError):
            return readings
        reasons = list(dict.fromkeys(map(str, wrong.values())))[:SHOWN_REASONS]
        left = [excerpt for excerpt in shown if excerpt.number in wrong]
        longer = 2 if completion.stop == "length" else 1
        second = self._request(explanation, left, sample, "; ".join(reasons), longer)
        completion = yield from attempt(ask_once(second, lambda answer: answer))
        again = dict(zip(wrong, _read(completion, left, second), strict=True))
        return [again.get(excerpt.number, reading) for excerpt, reading in zip(shown, readings, strict=True)]

    def _request(
        self, explanation: str, shown: Sequence[Excerpt], sample: int, reason: str = "", longer: int = 1
    ) -> Request:
        """Write the question; `reason` says why an earlier answer cannot be used, and `longer` how much room it had."""
        values = {"explanation": explanation, "excerpts": shown, "reason": reason}
        messages = self.prompts[0].conversation(self._shots, values)
        tokens = sum(len(excerpt.tokens) for excerpt in shown)
        return Request(
            model=self.name,
            messages=messages,
            max_tokens=longer * (TOKENS_PER_ENTRY * tokens + 50 + self._settings.reasoning_tokens),
            temperature=self._settings.temperature,
            schema=self._schema,
            sample=sample,
            static=len(messages) - 1,
            stage="simulate",
            example=Completion(numbered.answer(shown, [_example(excerpt) for excerpt in shown])),
        )


def _read(completion: Completion | AnswerError, shown: Sequence[Excerpt], request: Request) -> Readings:
    """Read an answer about each excerpt; one that cannot be used at all is an error of every excerpt."""
    if isinstance(completion, AnswerError):
        return [completion] * len(shown)
    try:
        return numbered.read(require_whole(completion, request).text, shown)
    except AnswerError as error:
        return [error] * len(shown)


def _shot(shot: render.Shot) -> tuple[dict[str, object], dict[str, object]]:
    """Write an invented feature's fragments, active and silent, as one question and its answer."""
    records = [*shot.active, *shot.silent[:1]]
    shown = numbered.excerpts([record.tokens for record in records])
    question: dict[str, object] = {"explanation": shot.explanation, "excerpts": shown, "reason": ""}
    return question, {"answer": numbered.answer(shown, render.levels(records))}


def _example(excerpt: Excerpt) -> Levels:
    return tuple(int(number % EXAMPLE_EVERY == 0) for number in excerpt.numbers)


SIMULATORS.register("numbered", NumberedSimulator)
