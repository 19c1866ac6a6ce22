"""Estimates a run's calls, tokens and cost: renders, counts and prices the real prompts without any call.

Cached answers are used, so that later stages' prompts are the real ones; elsewhere a well-formed answer of the usual
length takes their part.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from autointerp.llm import keys, specs, tokens
from autointerp.llm.ask import answered_by
from autointerp.llm.cache import AnswerCache, canonical, key_of
from autointerp.llm.efforts import AS_IT_IS, RequestSettings, purpose_of
from autointerp.llm.pricing import Prices, load_prices
from autointerp.llm.reading import without_thinking
from autointerp.llm.types import Answer, EmbeddingRequest, LLMTask, Question, Request, Usage, Vectors
from autointerp.llm.uses import Use
from autointerp.sections import Runtime

T = TypeVar("T")


@dataclass
class Stage:
    """Counts the calls of one model in one stage."""

    stage: str
    model: str
    calls: int = 0
    cached: int = 0
    usage: Usage = field(default_factory=Usage)
    thinks: bool = False
    """Whether the model may think before it answers: its tokens out are then counted up to the limit."""
    most_usd: float | None = 0.0
    """The cost if every answer were as long as it may be; None if no price is known."""


class Estimator:
    """Resolves tasks without a call, from cached and example answers."""

    def __init__(self, runtime: Runtime, cache: Path, settings: RequestSettings = AS_IT_IS) -> None:
        """Open the cache and the price list.

        Args:
            settings: what is filled into every request.
        """
        self._settings = settings
        self.prices: Prices = load_prices(runtime.prices)
        self._batch = runtime.batch
        self._cache = AnswerCache(cache)
        self._stages: dict[tuple[str, str], Stage] = {}
        self._seen: set[str] = set()

    @property
    def stages(self) -> Sequence[Stage]:
        """All stages, in the order in which they were first needed."""
        return list(self._stages.values())

    def note(self) -> str:
        """Say how many calls were counted so far."""
        return f"{sum(stage.calls for stage in self.stages):,} calls"

    def check(self, uses: Sequence[Use]) -> list[bool]:
        """Assume, without a call, that every model gives what it is used for."""
        return [True] * len(uses)

    def resolve(self, tasks: Sequence[LLMTask[T]], done: Callable[[int, T], None], tick: Callable[[], None]) -> None:
        """Drive each task with cached and example answers."""
        for index, task in enumerate(tasks):
            done(index, answered_by(task, self._answer))
            tick()

    def _answer(self, question: Question) -> Answer:
        question = self._settings.prepared(question)
        stage = self._stages.setdefault((question.stage, question.model), Stage(question.stage, question.model))
        key = key_of(canonical(question, self._fingerprint(question.model)))
        known = self._cache.get(key)
        if known is not None:
            stage.cached += 1
            return without_thinking(known)
        if key not in self._seen:
            self._seen.add(key)
            self._count(stage, question)
        if isinstance(question, EmbeddingRequest):
            return Vectors(((1.0,),) * len(question.texts))
        return question.example

    def _count(self, stage: Stage, question: Question) -> None:
        stage.calls += 1
        usage = self._usage(question)
        cost = self.prices.cost(question.model, usage)
        stage.usage += replace(usage, cost_usd=cost)
        if isinstance(question, EmbeddingRequest) or cost is None or stage.most_usd is None:
            stage.most_usd = None if cost is None else stage.most_usd
            return
        stage.thinks = stage.thinks or self._may_think(question)
        longest = replace(usage, tokens_out=question.max_tokens)
        stage.most_usd += self.prices.cost(question.model, longest) or 0.0

    def _usage(self, question: Question) -> Usage:
        if isinstance(question, EmbeddingRequest):
            return Usage(1, sum(tokens.estimate(text) for text in question.texts))
        tokens_in = tokens.of_request(question)
        tokens_out = 1 if question.only_reads else tokens.estimate(question.example.text, question.model)
        if self._may_think(question):
            tokens_out = question.max_tokens
        batch = int(self._batch and specs.parse(question.model).has_batches)
        return Usage(1, tokens_in, tokens_out, batch=batch)

    def _may_think(self, question: Request) -> bool:
        """Return whether a model may think before it answers; that is counted up to the limit on the answer."""
        fills_in = self._settings.fills_in and not question.only_reads
        return fills_in and self._settings.manner(question.model, purpose_of(question)).may_think

    @staticmethod
    def _fingerprint(model: str) -> str:
        """Return the provider's fingerprint; not that of models in this process, which would have to be loaded."""
        return "not loaded" if specs.is_free(model) else keys.fingerprint(specs.parse(model))


def rows(stages: Sequence[Stage]) -> list[Mapping[str, Any]]:
    """Return a row per stage and model, for tables."""
    return [
        {
            "stage": stage.stage,
            "model": stage.model,
            "calls": stage.calls,
            "in cache": stage.cached,
            "tokens in": stage.usage.tokens_in,
            "tokens out": stage.usage.tokens_out,
            "usd": stage.usage.cost_usd,
            "most usd": stage.most_usd,
            "thinking": "up to its limit" if stage.thinks else "-",
        }
        for stage in stages
    ]
