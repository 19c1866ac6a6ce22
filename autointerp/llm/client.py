"""One question to its answer: the cache, else one paid call with retries, within the budget and the endpoint's limit.

Knows providers only by their protocol, and nothing of what is asked.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import tenacity

from autointerp.llm.budget import Budget
from autointerp.llm.cache import AnswerCache, canonical, is_clean, key_of
from autointerp.llm.faults import CallError
from autointerp.llm.limits import Limits
from autointerp.llm.pricing import Prices
from autointerp.llm.providers import Provider
from autointerp.llm.types import Answer, Completion, EmbeddingRequest, Failure, Question, Usage, Vectors
from sae.common.errors import UserError

T = TypeVar("T")
log = logging.getLogger(__name__)
LONGEST_WAIT = 60.0
"""Seconds between tries, unless the provider asks for more."""


@dataclass(frozen=True)
class RetryPolicy:
    """How hard one call is tried: at most `tries` attempts of `attempt_seconds` each within `call_seconds`.

    Waiting for one of the endpoint's places is not in them: a long queue is no reason to give up.
    first_wait: seconds before the second attempt, on average; it doubles from there.
    """

    tries: int = 8
    call_seconds: float = 600.0
    attempt_seconds: float = 120.0
    first_wait: float = 1.0


class Deadline:
    """When one call is given up."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._at - time.monotonic()

    def extend(self, seconds: float) -> None:
        self._at += seconds


@dataclass
class Tally:
    """What this invocation did, for the progress line. paid: of answers got now; waiting: for which batch."""

    calls: int = 0
    cached: int = 0
    retries: int = 0
    failures: int = 0
    paid: Usage = field(default_factory=Usage)
    waiting: str = ""


class Client:
    """Answers questions, each distinct one at most once at a time."""

    def __init__(
        self,
        providers: Callable[[Question], Provider],
        cache: AnswerCache,
        prices: Prices,
        budget: Budget,
        retry_policy: RetryPolicy,
        limits: Limits,
    ) -> None:
        self.tally = Tally()
        self.cache, self.prices, self.budget = cache, prices, budget
        self._provider_of = providers
        self._patience, self._limits = retry_policy, limits
        self._under_way: dict[str, asyncio.Future[Answer]] = {}
        self._stopped: UserError | None = None

    async def answer(self, question: Question) -> Answer:
        """The answer, with its cost. Raises UserError for what stops every call, and when the budget is reached."""
        form = canonical(question, self._provider_of(question).fingerprint)
        key = key_of(form)
        found = self.known(key)
        if found is not None:
            self.tally.cached += 1
            return self.priced(question, found)
        if key not in self._under_way:
            task = asyncio.ensure_future(self._obtain(question, key, form))
            self._under_way[key] = task
            task.add_done_callback(lambda ended: self._forget(key, ended))
        # Shielded: whoever asked first may be cancelled while others wait for the same answer.
        return self.priced(question, await asyncio.shield(self._under_way[key]))

    def known(self, key: str) -> Completion | Vectors | None:
        """What the cache has."""
        return self.cache.get(key)

    def priced(self, question: Question, answer: Answer) -> Answer:
        """The answer with what it costs at the prices in force."""
        return replace(answer, usage=self.prices.with_cost(question.model, answer.usage))

    def _forget(self, key: str, ended: asyncio.Future[Answer]) -> None:
        del self._under_way[key]
        if not ended.cancelled():
            ended.exception()  # seen, even if whoever asked is gone

    async def drain(self, seconds: float) -> None:
        """Let calls under way bring their answers, for which money is owed; none begins, and none is tried again."""
        self._stopped = self._stopped or UserError("the run was stopped")
        if self._under_way:
            await asyncio.wait(list(self._under_way.values()), timeout=seconds)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in list(self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        self.cache.close()

    async def _obtain(self, question: Question, key: str, form: dict[str, Any]) -> Answer:
        """Pay for an answer and keep it."""
        bound = self.prices.bound(question)
        reserved = await self.budget.reserve(bound)
        answer: Answer = Failure("not asked")
        try:
            answer = await self._with_patience(question)
        finally:
            usage = self.prices.with_cost(question.model, answer.usage)
            self.budget.settle(reserved, usage.cost_usd)
            self.tally.paid += usage
        if is_clean(answer):
            self.cache.put(key, form, answer)
        return answer

    async def _with_patience(self, question: Question) -> Answer:
        """An answer, or a failure, which is an answer too. Raises UserError if it is fatal."""
        deadline = Deadline(self._patience.call_seconds)
        try:
            return await self.persistently(lambda: self._attempt(question, deadline), deadline)
        except CallError as error:
            self.tally.failures += 1
            log.info("no answer: %s", error)
            return Failure(str(error))

    async def persistently(self, attempt: Callable[[], Awaitable[T]], deadline: Deadline | None = None) -> T:
        """Try until it succeeds or retry_policy ends. Raises the last CallError, or UserError if one is fatal."""
        ends = deadline or Deadline(self._patience.call_seconds)
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_is_worth_another_try),
            stop=lambda state: state.attempt_number >= self._patience.tries or state.upcoming_sleep >= ends.left,
            wait=self._wait,
            before_sleep=self._note_retry,
            reraise=True,
        )
        try:
            return await retrying(_awaiting(attempt))
        except CallError as error:
            if error.kind == "fatal":
                self._stopped = UserError(str(error))
                raise self._stopped from error
            raise

    async def _attempt(self, question: Question, deadline: Deadline) -> Answer:
        provider = self._provider_of(question)
        limit, queued = self._limits.of(provider.endpoint), time.monotonic()
        async with limit.call() as started:
            if self._stopped:
                raise self._stopped
            deadline.extend(started - queued)
            seconds = min(self._patience.attempt_seconds, deadline.left) if provider.has_timeout else None
            try:
                async with asyncio.timeout(seconds):
                    answer = await _call(provider, question)
            except TimeoutError as error:
                raise CallError("transient", f"{question.model}: no answer in time") from error
            except CallError as error:
                if error.kind == "rate_limit":
                    limit.throttled(started, error.retry_after)
                raise
            finally:
                self.tally.calls += 1
            limit.succeeded()
            return answer

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Exponential with full jitter, but never less than the provider asked for."""
        mean = min(LONGEST_WAIT, self._patience.first_wait * 2 ** (state.attempt_number - 1))
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, CallError) else None
        # The jitter decides when a call is made, never what it says: results do not depend on it.
        return (asked or 0.0) + random.uniform(0, 2 * mean)

    def _note_retry(self, state: tenacity.RetryCallState) -> None:
        self.tally.retries += 1
        log.info("again in %.1f s: %s", state.upcoming_sleep, state.outcome and state.outcome.exception())


def _is_worth_another_try(error: BaseException) -> bool:
    return isinstance(error, CallError) and error.kind in ("transient", "rate_limit")


def _awaiting(attempt: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """As a coroutine function: tenacity does not await what a plain function, such as a lambda, returns."""

    async def awaited() -> T:
        return await attempt()

    return awaited


async def _call(provider: Provider, question: Question) -> Answer:
    if isinstance(question, EmbeddingRequest):
        return await provider.embed(question)
    return await provider.complete(question)
