"""Judges by a language model, which answers in JSON: several items per request, or which one of them is odd."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from pydantic import Field

from autointerp.judges import JUDGES, LANGUAGE_MODEL, Judge, OddOneOut, Question, Verdict, YesNo
from autointerp.llm import specs
from autointerp.llm.ask import ask, together
from autointerp.llm.types import Completion, LLMTask, Message, Request, TokenLogprobs
from autointerp.parts import I
from autointerp.prompting import parse, templates
from sae.common.errors import UserError
from sae.common.settings import Section

if TYPE_CHECKING:
    from autointerp.config import Config

T = TypeVar("T")
SPARE_TOKENS = 50
"""Tokens that an answer may have besides its numbers."""
TOKENS_PER_ANSWER = 4
BITS = ("0", "1")
REASONING = "Text 1 has none of the words that the explanation names, so the feature is silent there. "
"""A sentence of the usual length, for dry runs."""
TOP_LOGPROBS = 5


class JudgementSettings(Section):
    """Sets how a language model is asked by detection, fuzzing, intruder, logits and effect."""

    reasoning: Annotated[bool, I] = False
    """Ask for a sentence of reasoning about each item before the answer (chain of thought). No JSON schema then."""
    reasoning_tokens: Annotated[int, I, Field(ge=0)] = 2000
    """Tokens added to the answer's limit, for models that think before they answer, and for `reasoning`."""
    temperature: Annotated[float | None, I, Field(ge=0)] = None
    """Sampling temperature; null: 0 where the API takes one."""


class LanguageModelJudge(Judge):
    """Asks the question's prompt; probabilities come from the log-probabilities of the answers."""

    settings: ClassVar = {"judgement": JudgementSettings}

    def __init__(self, spec: str, config: Config, question: Question[Any]) -> None:
        self._model, self._settings = specs.parse(spec), config.section(JudgementSettings)
        specs.refuse_temperature(self._model, self._settings.temperature, "judgement.temperature")
        if question.graded and not self._model.may_have_logprobs:
            raise UserError(f"{spec} gives no log-probabilities; set {question.name}.logprobs=false")
        self._prompt = templates.load(f"scorer/{question.name}")
        self.prompts, self.models = (self._prompt, templates.load("again")), (spec,)

    def fits(self, question: YesNo[T], explanation: str, items: Sequence[T]) -> LLMTask[list[Verdict]]:
        """Ask about `question.per_request` items at a time, in the order given."""
        starts = range(0, len(items), question.per_request)
        groups = [items[start : start + question.per_request] for start in starts]
        answered = yield from together(self._group(question, explanation, group) for group in groups)
        return [verdict for group in answered for verdict in group]

    def _group(self, question: YesNo[T], explanation: str, items: Sequence[T]) -> LLMTask[list[Verdict]]:
        messages = self._messages(texts=[question.written(item) for item in items], explanation=explanation)
        request = Request(
            model=self._model.text,
            messages=messages,
            max_tokens=TOKENS_PER_ANSWER * len(items) + SPARE_TOKENS + self._settings.reasoning_tokens,
            temperature=self._settings.temperature,
            top_logprobs=TOP_LOGPROBS if question.graded else 0,
            schema=self._schema("answers", {"type": "array", "items": {"type": "integer", "enum": [0, 1]}}),
            static=len(messages) - 1,
            stage=question.name,
            example=_example(len(items), question.graded, self._reasoning(len(items))),
        )
        return (yield from ask(request, lambda a: self._read(a, len(items), question.graded), templates.again))

    def odd_one(self, question: OddOneOut[T], items: Sequence[T]) -> LLMTask[int]:
        """Ask for the number of the item that does not belong."""
        messages = self._messages(texts=[question.written(item) for item in items])
        request = Request(
            model=self._model.text,
            messages=messages,
            max_tokens=SPARE_TOKENS + self._settings.reasoning_tokens,
            temperature=self._settings.temperature,
            schema=self._schema("intruder", {"type": "integer", "enum": list(range(1, len(items) + 1))}),
            static=len(messages) - 1,
            stage=question.name,
            example=Completion(self._reasoning(len(items)) + '{"intruder": 1}'),
        )
        return (yield from ask(request, lambda a: self._read_one(a, len(items)), templates.again))

    def _read(self, completion: Completion, count: int, graded: bool) -> list[Verdict]:
        answers = parse.choices(completion.text, count, self._start(completion.text))
        probabilities = parse.expected_at(completion, answers, BITS) if graded else [None] * count
        return [Verdict(number.value, p) for number, p in zip(answers, probabilities, strict=True)]

    def _read_one(self, completion: Completion, count: int) -> int:
        return parse.one_of(completion.text[self._start(completion.text) :], count)

    def _start(self, text: str) -> int:
        """Return where the JSON begins: after the reasoning, if there should be one."""
        return parse.after_reasoning(text) if self._settings.reasoning else 0

    def _reasoning(self, count: int) -> str:
        """Write reasoning of the length that is asked for, for dry runs; nothing if none is asked for."""
        return REASONING * count + "\n" if self._settings.reasoning else ""

    def _messages(self, **values: object) -> tuple[Message, ...]:
        """Write a question after the prompt's examples, which hold the values of a question and of its answer."""
        left_out = () if self._settings.reasoning else ("why",)
        shots = [
            {name: value for name, value in shot.items() if name not in left_out}
            for shot in self._prompt.values.get("shots", ())
        ]
        values["reasoning"] = self._settings.reasoning
        return self._prompt.conversation([(shot, shot) for shot in shots], values)

    def _schema(self, name: str, values: dict[str, Any]) -> str | None:
        """Write the schema of an object with one field, for providers that hold an answer to it."""
        if self._settings.reasoning or not self._model.has_schema:
            return None
        form = {"type": "object", "properties": {name: values}, "required": [name], "additionalProperties": False}
        return json.dumps(form)


def _example(count: int, graded: bool, reasoning: str) -> Completion:
    pieces = [reasoning + '{"answers": [', *[piece for _ in range(count) for piece in ("0", ", ")][:-1], "]}"]
    tokens = tuple(TokenLogprobs(piece, {piece: 0.0}) for piece in pieces) if graded else ()
    return Completion("".join(pieces), logprobs=tokens)


JUDGES.register(LANGUAGE_MODEL, LanguageModelJudge)
