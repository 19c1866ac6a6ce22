"""Answers one question: from the cache, else by one paid call with retries, within the budget and the limits."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import tenacity

from autointerp.llm.budget import Budget
from autointerp.llm.cache import AnswerCache, canonical, is_clean, key_of
from autointerp.llm.efforts import AS_IT_IS, RequestSettings
from autointerp.llm.faults import CallError
from autointerp.llm.limits import Limits
from autointerp.llm.pricing import Prices
from autointerp.llm.providers import Provider
from autointerp.llm.reading import without_thinking
from autointerp.llm.retries import Deadline, RetryPolicy, awaiting, is_worth_another_try, wait_before
from autointerp.llm.types import Answer, Completion, EmbeddingRequest, Failure, Question, Usage, Vectors
from autointerp.llm.waits import Waits, duration
from sae.common.errors import UserError

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass
class Tally:
    """Counts what this invocation did, for the progress line."""

    calls: int = 0
    cached: int = 0
    retries: int = 0
    failures: int = 0
    paid: Usage = field(default_factory=Usage)
    """Usage of the answers that this invocation paid for."""
    uncounted: int = 0
    """Attempts whose tokens nobody counted: sent without an answer (a timeout, a dropped connection), answered without
    a usage, or so that the answer is not read. Each is charged with the most that it can have cost, which is in
    `uncounted_usd`."""
    uncounted_usd: float = 0.0


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
        settings: RequestSettings = AS_IT_IS,
    ) -> None:
        """Make a client.

        Args:
            settings: what is filled into every request.
        """
        self.settings = settings
        self.tally = Tally()
        self.waits = Waits()
        self.cache, self.prices, self.budget = cache, prices, budget
        self._provider_of = providers
        self._retry_policy, self._limits = retry_policy, limits
        self._under_way: dict[str, asyncio.Future[Answer]] = {}
        self._stopped: UserError | None = None

    async def answer(self, question: Question) -> Answer:
        """Answer a question. Raises UserError for what stops every call, and when the budget is reached."""
        question = self.settings.prepared(question)
        form = canonical(question, self._provider_of(question).fingerprint)
        key = key_of(form)
        known = self.known(key)
        if known is not None:
            self.tally.cached += 1
            return self.priced(question, known)
        if key not in self._under_way:
            task = asyncio.ensure_future(self._obtain(question, key, form))
            self._under_way[key] = task
            task.add_done_callback(lambda ended: self._forget(key, ended))
        # Shielded: the first task that asks may be cancelled while others wait for the same answer.
        return self.priced(question, await asyncio.shield(self._under_way[key]))

    def waiting(self) -> str:
        """Say what is waited for and for how long, if no call is in flight."""
        return self.waits.note(self._limits)

    def takes_schema(self, question: Question) -> bool:
        """Return whether the question's model has taken every JSON schema so far."""
        return self._provider_of(question).takes_schema

    def known(self, key: str) -> Completion | Vectors | None:
        """Look an answer up in the cache."""
        return self.cache.get(key)

    def priced(self, question: Question, answer: Answer) -> Answer:
        """Return the answer as a task reads it: without the model's thinking, with its cost at the prices in force."""
        answer = without_thinking(answer)
        return replace(answer, usage=self.prices.with_cost(question.model, answer.usage))

    def _forget(self, key: str, ended: asyncio.Future[Answer]) -> None:
        del self._under_way[key]
        if not ended.cancelled():
            ended.exception()  # retrieved, even if no task waits for it any more

    async def drain(self, seconds: float) -> None:
        """Let calls under way bring their answers, which are paid for; start no call, and retry none."""
        self._stopped = self._stopped or UserError("the run was stopped")
        if self._under_way:
            await asyncio.wait(list(self._under_way.values()), timeout=seconds)

    async def close(self) -> None:
        """Cancel the calls under way and close the cache."""
        for task in list(self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        self.cache.close()

    async def _obtain(self, question: Question, key: str, form: dict[str, Any]) -> Answer:
        """Pay for an answer and keep it."""
        answer = await self._answer_or_failure(question)
        if is_clean(answer):
            self.cache.put(key, form, answer)
        return answer

    async def fresh(self, question: Question, retry_policy: RetryPolicy) -> Answer:
        """Answer a question as it is by a call, whatever the cache holds, and without keeping the answer.

        Raises the last CallError, BudgetReached, and UserError if the run has been stopped.
        """
        deadline = Deadline(retry_policy.call_seconds)
        return await self._retrying(lambda: self._attempt(question, deadline), deadline, retry_policy)

    async def _answer_or_failure(self, question: Question) -> Answer:
        """Call until there is an answer, or return a Failure. Raises UserError if an error is fatal."""
        deadline = Deadline(self._retry_policy.call_seconds)
        try:
            return await self.persistently(lambda: self._attempt(question, deadline), deadline)
        except CallError as error:
            self.tally.failures += 1
            log.info("no answer: %s", error)
            return Failure(str(error))

    async def persistently(self, attempt: Callable[[], Awaitable[T]], deadline: Deadline | None = None) -> T:
        """Retry until it succeeds or the retry policy ends.

        Raises the last CallError, and UserError if no call will succeed until the user does something.
        """
        ends = deadline or Deadline(self._retry_policy.call_seconds)
        try:
            return await self._retrying(attempt, ends, self._retry_policy)
        except CallError as error:
            if error.kind == "fatal":
                raise self._stop(str(error)) from error
            raise

    async def _retrying(self, attempt: Callable[[], Awaitable[T]], ends: Deadline, retry_policy: RetryPolicy) -> T:
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(is_worth_another_try),
            stop=lambda state: state.attempt_number >= retry_policy.tries or state.upcoming_sleep >= ends.left,
            wait=lambda state: wait_before(state, retry_policy.first_wait),
            before=lambda state: self._note_try(ends),
            before_sleep=lambda state: self._note_retry(ends, state),
            reraise=True,
        )
        try:
            return await retrying(awaiting(lambda: self._unless_too_long(attempt)))
        finally:
            self._note_try(ends)  # if it was cancelled before its next try

    async def _unless_too_long(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make an attempt. Raises UserError, which stops the run, if the provider asks to wait longer than any call may
        take: waiting would not help, and the endpoint would look frozen.
        """
        try:
            return await attempt()
        except CallError as error:
            longest = self._retry_policy.call_seconds
            if not is_worth_another_try(error) or (error.retry_after or 0.0) <= longest:
                raise
            asked = f"{error}; the provider asks to wait {duration(error.retry_after or 0.0)}"
            advice = "everything is kept; after that time the same command goes on from the cache"
            raise self._stop(f"{asked}, longer than runtime.call_seconds={longest:g}; {advice}") from error

    def _stop(self, reason: str) -> UserError:
        """Let no further call start. Returns the error to raise."""
        self._stopped = UserError(reason)
        return self._stopped

    async def _attempt(self, question: Question, deadline: Deadline) -> Answer:
        """Make one attempt, within the budget and the endpoint's limit."""
        queued, bound = time.monotonic(), self.prices.bound(question)
        reserved = await self.budget.reserve(bound)
        cost: float | None = 0.0
        try:
            answer = await self._sent(question, deadline, queued)
            cost = self.charge(question, answer)
        except CallError as error:
            cost = self.charge_unread(bound) if error.may_cost else 0.0
            raise
        finally:
            self.budget.settle(reserved, cost)
        return answer

    async def _sent(self, question: Question, deadline: Deadline, queued: float) -> Answer:
        """Send a question once the endpoint has a permit; the time since `queued` is not the call's own."""
        provider = self._provider_of(question)
        limit = self._limits.of(provider.endpoint)
        async with limit.call() as started:
            if self._stopped:
                raise self._stopped
            deadline.extend(started - queued)
            seconds = min(self._retry_policy.attempt_seconds, deadline.left) if provider.has_timeout else None
            try:
                async with asyncio.timeout(seconds):
                    answer = await _call(provider, question)
            except TimeoutError as error:
                raise CallError("transient", f"{question.model}: no answer in time", may_cost=True) from error
            except CallError as error:
                if error.kind == "rate_limit" and (error.retry_after or 0.0) <= self._retry_policy.call_seconds:
                    limit.throttled(started, error.retry_after)
                raise
            finally:
                self.tally.calls += 1
            limit.succeeded()
            return answer

    def charge(self, question: Question, answer: Answer) -> float | None:
        """Count what an answer costs, and return it in USD."""
        usage = self.prices.with_cost(question.model, answer.usage)
        self.tally.paid += usage
        if isinstance(answer, Completion) and not answer.is_counted:
            self.tally.uncounted += 1
            self.tally.uncounted_usd += usage.cost_usd or 0.0
        return usage.cost_usd

    def charge_unread(self, bound: float | None) -> float | None:
        """Count an attempt without a readable answer that may be charged for; return the most that it can cost."""
        self.tally.uncounted += 1
        self.tally.uncounted_usd += bound or 0.0
        self.tally.paid += Usage(cost_usd=bound)
        return bound

    def _note_try(self, call: Deadline) -> None:
        self.waits.retries.pop(call, None)

    def _note_retry(self, call: Deadline, state: tenacity.RetryCallState) -> None:
        self.tally.retries += 1
        self.waits.retries[call] = time.monotonic() + state.upcoming_sleep
        log.info("retry in %.1f s: %s", state.upcoming_sleep, state.outcome and state.outcome.exception())


async def _call(provider: Provider, question: Question) -> Answer:
    if isinstance(question, EmbeddingRequest):
        return await provider.embed(question)
    return await provider.complete(question)
