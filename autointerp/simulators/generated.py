"""Simulates by generated activations: the model writes every token again with a number from 0 to 10.

With log-probabilities each number becomes the expected value over the numbers the model might have written there;
without (formats `lines` and `json`) it is taken as written; JSON is held to a schema where the provider can do that.
Several samples are averaged token by token.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from autointerp.llm.ask import ask, attempt, together
from autointerp.llm.types import Completion, LLMTask, Request, TokenLogprobs
from autointerp.prompting import parse, render, templates
from autointerp.records import ActivationRecord, AnswerError, Explanation
from autointerp.simulators import SIMULATORS, Predicted, Simulator
from autointerp.simulators.samples import averaged
from autointerp.simulators.settings import SimulationSettings, method_of, model_of, refuse_method

if TYPE_CHECKING:
    from autointerp.config import Config

TOKENS_PER_LINE = 12
"""Most tokens that one re-typed line takes, with room; for max_tokens."""
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "activations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "t": {"type": "string"},
                        "a": {"type": "integer", "enum": list(range(render.TOP + 1))},
                    },
                    "required": ["t", "a"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["activations"],
        "additionalProperties": False,
    }
)


class GeneratedSimulator(Simulator):
    """Reads expected values from log-probabilities where it has them, else numbers as written."""

    asks_model = True
    settings: ClassVar = {"simulation": SimulationSettings}

    def __init__(self, spec: str, config: Config) -> None:
        model, self._settings = model_of(spec, config), config.section(SimulationSettings)
        method = method_of(spec, config)
        if method == "logprobs" and not model.may_have_logprobs:
            raise refuse_method(spec, method, "any model but anthropic/...")
        self.name, self.models = spec, (spec,)
        self._logprobs = method == "logprobs"
        self._structured = self._settings.format == "json" and not self._logprobs
        self._schema = SCHEMA if self._structured and model.has_schema else None
        prompt = templates.load("simulator/structured" if self._structured else "simulator/lines")
        self.prompts = (prompt, templates.load("again"))
        shots = render.shots(self.prompts[0].few_shot)
        self._shots = [self._shot(shot, shot.active[0]) for shot in shots]
        self._shots += [self._shot(shot, shot.silent[0]) for shot in shots[:1]]

    def simulate(
        self, explanation: Explanation, fragments: Sequence[tuple[str, ...]]
    ) -> LLMTask[list[Predicted | AnswerError]]:
        """Predict each fragment in as many requests as there are samples, and average them."""
        samples = range(self._settings.samples)
        questions = [attempt(self._sample(explanation.text, tokens, n)) for tokens in fragments for n in samples]
        answers = yield from together(questions)
        size = len(samples)
        return [averaged(answers[i * size : (i + 1) * size]) for i in range(len(fragments))]

    def _sample(self, explanation: str, tokens: tuple[str, ...], number: int) -> LLMTask[Predicted]:
        values = {"explanation": explanation, "tokens": render.token_lines(tokens)}
        messages = self.prompts[0].conversation(self._shots, values)
        request = Request(
            model=self.name,
            messages=messages,
            max_tokens=TOKENS_PER_LINE * len(tokens) + 50 + self._settings.reasoning_tokens,
            temperature=self._settings.temperature,
            top_logprobs=self._settings.top_logprobs if self._logprobs else 0,
            schema=self._schema,
            sample=number,
            static=len(messages) - 1,
            stage="simulate",
            example=self._example(tokens),
        )
        return (yield from ask(request, lambda completion: self._read(completion, tokens), templates.again))

    def _read(self, completion: Completion, tokens: tuple[str, ...]) -> Predicted:
        if self._structured:
            return tuple(map(float, parse.token_json(completion.text, tokens)))
        numbers = parse.token_lines(completion.text, tokens)
        if self._logprobs:
            return tuple(parse.expected_at(completion, numbers))
        return tuple(float(number.value) for number in numbers)

    def _written(self, tokens: Sequence[str], numbers: Sequence[int]) -> str:
        """Write an answer as it should look."""
        if not self._structured:
            return render.token_lines(tokens, numbers)
        entries = [{"t": render.visible(token), "a": n} for token, n in zip(tokens, numbers, strict=True)]
        return json.dumps({"activations": entries}, ensure_ascii=False)

    def _shot(self, shot: render.Shot, record: ActivationRecord) -> tuple[dict[str, str], dict[str, str]]:
        """Write a fragment of an invented feature as a question and its answer."""
        question = {"explanation": shot.explanation, "tokens": render.token_lines(record.tokens)}
        numbers = [int(value) for value in record.activations]
        return question, {"answer": self._written(record.tokens, numbers)}

    def _example(self, tokens: tuple[str, ...]) -> Completion:
        if not self._logprobs:
            return Completion(self._written(tokens, [0] * len(tokens)))
        pieces = [piece for token in tokens for piece in (render.visible(token) + "\t", "0", "\n")][:-1]
        return Completion("".join(pieces), logprobs=tuple(TokenLogprobs(piece, {piece: 0.0}) for piece in pieces))


SIMULATORS.register("generated", GeneratedSimulator)
