"""One question, one paid answer: the cache, retries, waits, adaptive concurrency and budget, against the fake APIs."""

import asyncio
import gc
import random
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from autointerp.llm import client as clients
from autointerp.llm import limits, retries
from autointerp.llm.budget import Budget, BudgetReached
from autointerp.llm.cache import AnswerCache
from autointerp.llm.client import Client
from autointerp.llm.limits import Limits
from autointerp.llm.pricing import load_prices
from autointerp.llm.resolver import LiveResolver, make_provider
from autointerp.llm.retries import RetryPolicy
from autointerp.llm.types import Completion, Failure, Message, Question, Request
from autointerp.sections import Runtime
from sae.common.errors import UserError
from tests.fakes import FakeApis, script, usage
from tests.fakes.anthropic_api import conversation

T = TypeVar("T")
CLAUDE, GPT = "anthropic/claude-haiku-4-5", "openai/gpt-4o-mini"
TOKEN_USD = {CLAUDE: (1e-6, 5e-6), GPT: (0.15e-6, 0.6e-6)}
"""In and out, by the shipped list."""


class Run:
    """One invocation's client for both judges over a cache folder; asks all it is given at once."""

    def __init__(
        self, folder: Path, most_usd: float | None = None, concurrency: int = 100, **retry_policy: Any
    ) -> None:
        self._judges: dict[str, Any] = {}
        cache, budget = AnswerCache(folder), Budget(most_usd)
        kept = RetryPolicy(**{"first_wait": 0.0} | retry_policy)
        self.limits = Limits(concurrency)
        self.client = Client(self.judge, cache, load_prices(), budget, kept, self.limits)

    def judge(self, question: Question) -> Any:
        if question.model not in self._judges:
            self._judges[question.model] = make_provider(question.model, Runtime(), self.limits)
        return self._judges[question.model]

    def __call__(self, *questions: Question) -> list[Any]:
        """Answers and exceptions, each at its question's index."""

        async def gathered() -> list[Any]:
            return await asyncio.gather(*map(self.client.answer, questions), return_exceptions=True)

        return self.do(gathered())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end of an invocation."""

        async def whole() -> T:
            try:
                return await work
            finally:
                for judge in self._judges.values():
                    await judge.close()
                self.client.cache.close()

        return asyncio.run(whole())


def requests(model: str, count: int = 6, **more: Any) -> list[Request]:
    return [Request(model, (Message("user", f"question {number}"),), 60, **more) for number in range(count)]


def texts(answers: Sequence[Any]) -> list[str]:
    assert not [answer for answer in answers if isinstance(answer, Failure)], answers
    return [answer.text for answer in answers]


def right(asked: Sequence[Request]) -> list[str]:
    """What the fake says to each, by its own script."""
    return [script.answer([{"role": "user", "content": one.messages[-1].content}], {}) for one in asked]


def test_identical_questions_at_once_are_one_call_and_later_none(fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(latency=0.05)
    asked = [*requests(CLAUDE, 5), *requests(GPT, 5)]
    run = Run(tmp_path)
    first = run(*(asked * 4))
    assert texts(first) == right(asked) * 4
    assert (len(fake.calls()), run.client.tally.calls) == (10, 10)
    again = Run(tmp_path)
    assert again(*asked) == first[:10]
    assert (len(fake.calls()), again.client.tally.calls, again.client.tally.cached) == (10, 0, 10)
    assert again.client.tally.paid.cost_usd == 0
    assert sum(answer.usage.cost_usd for answer in first[:10]) == pytest.approx(run.client.tally.paid.cost_usd)
    Run(tmp_path)(*requests(GPT, 2, sample=1))
    assert len(fake.calls()) == 12


@pytest.mark.parametrize("fault", ["500", "503", "529", "429", "drop", "half", "garbage"])
def test_passing_faults_are_tried_again(fault: str, fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(faults={fault: 1}, max_faults_per_request=3)
    asked = [*requests(CLAUDE, 3), *requests(GPT, 3)]
    run = Run(tmp_path, tries=4)
    assert texts(run(*asked)) == right(asked)
    assert (run.client.tally.calls, run.client.tally.retries) == (24, 18)


def test_the_last_try_ends_in_a_failure_that_is_not_kept(fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(faults={"503": 1})
    asked = [*requests(CLAUDE, 2), *requests(GPT, 2)]
    run = Run(tmp_path, tries=3)
    answers = run(*asked)
    assert all(isinstance(answer, Failure) and "503" in answer.reason for answer in answers)
    assert (len(fake.calls()), run.client.tally.failures, run.client.tally.paid.cost_usd) == (12, 4, 0)
    fake.configure(faults={})
    assert texts(Run(tmp_path)(*asked)) == right(asked)


def test_a_call_that_hangs_ends_at_its_deadline(fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(faults={"timeout": 1})
    (answer,) = Run(tmp_path, attempt_seconds=0.1, call_seconds=0.25)(*requests(GPT, 1))
    assert isinstance(answer, Failure)
    assert "no answer in time" in answer.reason
    assert len(fake.calls()) <= 3


def test_a_long_queue_is_no_reason_to_give_up(fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that moves a second with each answer: all take longer than one call may, on any machine."""
    clock, call = Clock(monkeypatch), clients._call

    async def timed(*question: Any) -> Any:
        answer = await call(*question)
        clock.now += 1
        return answer

    monkeypatch.setattr(clients, "_call", timed)
    fake.configure(max_in_flight=3, latency=0.01)
    asked = requests(GPT, 100)
    assert texts(Run(tmp_path, call_seconds=40, tries=50)(*asked)) == right(asked)


def test_a_rejected_question_is_asked_once(fake: FakeApis, tmp_path: Path) -> None:
    bad = Request(GPT, (), 10)
    answers = Run(tmp_path)(bad, *requests(GPT, 1))
    assert isinstance(answers[0], Failure)
    assert isinstance(answers[1], Completion)
    assert len(fake.calls()) == 2


def test_what_the_user_must_mend_stops_all(fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "old-key")
    fake.configure(latency=0.01)
    answers = Run(tmp_path, concurrency=4)(*requests(GPT, 40))
    assert {type(answer) for answer in answers} == {UserError}
    assert all("OPENAI_API_KEY" in str(answer) and "\n" not in str(answer) for answer in answers)
    assert len(fake.calls()) <= 8, "calls went on after the key was refused"


@pytest.mark.parametrize("fault", ["refusal", "length"])
def test_what_is_not_whole_is_paid_but_not_kept(fault: str, fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(faults={fault: 1})
    asked = [*requests(CLAUDE, 1), *requests(GPT, 1)]
    for number in (1, 2):
        run = Run(tmp_path)
        answers = run(*asked)
        assert [answer.stop for answer in answers] == [fault, fault]
        assert all(answer.usage.cost_usd > 0 for answer in answers)
        assert len(fake.calls()) == 2 * number


def test_a_whole_text_is_kept_however_odd(fake: FakeApis, tmp_path: Path) -> None:
    """It was paid for, and would be said again."""
    fake.configure(faults={"shape": 1})
    asked = requests(GPT, 1)
    odd = Run(tmp_path)(*asked)
    assert texts(odd) != right(asked)
    fake.configure(faults={})
    assert Run(tmp_path)(*asked) == odd
    assert len(fake.calls()) == 1


def test_only_an_open_resolver_changes_the_process(tmp_path: Path) -> None:
    """The garbage collector's thresholds are a run's while its resolver is open, and nobody else's."""
    before = gc.get_threshold(), gc.get_freeze_count()
    resolver = LiveResolver([], Runtime(), tmp_path)
    assert (gc.get_threshold(), gc.get_freeze_count()) == before
    with resolver:
        assert gc.get_threshold() > before[0]
        assert gc.get_freeze_count() > before[1]
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before[0], 0)


class Clock:
    """Time that passes only in sleeps, at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.waits = 1000.0, list[float]()
        self._sleep = asyncio.sleep
        for module in (limits, clients, retries):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        until = self.now + seconds
        await self._sleep(0)
        self.now = max(self.now, until)


def test_waits_are_at_least_what_the_server_asks(
    fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.configure(faults={"429-after": 1}, max_faults_per_request=3, retry_after=20)
    clock = Clock(monkeypatch)
    assert texts(Run(tmp_path)(*requests(GPT, 1))) == right(requests(GPT, 1))
    assert [wait for wait in clock.waits if wait] == [20, 20, 20]
    assert clock.now == 1060
    clock.waits.clear()
    fake.configure(retry_after=10_000)
    answers = Run(tmp_path)(*requests(GPT, 20, sample=7, temperature=0.5))
    assert {type(answer) for answer in answers} == {UserError}, "nobody waits for hours: call_seconds is 600"
    for stated in map(str, answers):
        assert "asks to wait 2.8 h, longer than runtime.call_seconds=600" in stated
        assert "the same command goes on from the cache" in stated
        assert "\n" not in stated
    assert clock.now < 1060 + 1, "the endpoint was closed"


def test_an_endpoint_is_never_closed_longer_than_a_call_may_take(
    fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.configure(faults={"429-after": 1}, retry_after=500)
    clock = Clock(monkeypatch)
    answers = Run(tmp_path, tries=2)(*requests(GPT, 30))
    assert {type(answer) for answer in answers} == {Failure}
    assert max(clock.waits) <= 500 + 1


def test_waits_double_with_jitter(fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.configure(faults={"500": 1})
    clock = Clock(monkeypatch)
    drawn: list[float] = []

    def middle(low: float, high: float) -> float:
        drawn.append(high)
        return (low + high) / 2

    monkeypatch.setattr(random, "uniform", middle)
    run = Run(tmp_path, tries=9, first_wait=1.0)
    run(*requests(GPT, 1))
    assert [wait for wait in clock.waits if wait] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert drawn[:8] == [2, 4, 8, 16, 32, 64, 120, 120]


def test_concurrency_settles_near_what_the_server_bears(fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(max_in_flight=8, latency=0.1)
    asked = requests(GPT, 150)
    run = Run(tmp_path)
    assert texts(run(*asked)) == right(asked)
    (limit,) = run.limits._limits.values()
    assert 3 <= limit.limit < 16, "it began with 16, and might have had 100"
    calls = fake.calls()
    late = [call["in_flight"] for call in calls[len(calls) // 2 :]]
    assert max(late) <= 13
    assert sum(late) / len(late) > 2  # a busy machine sends fewer at once
    assert sum(call["status"] == 429 for call in calls) < 0.2 * len(calls)


def test_concurrency_grows_to_its_setting_where_nothing_objects(fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(latency=0.2)
    run = Run(tmp_path, concurrency=40)
    run(*requests(GPT, 180))
    (limit,) = run.limits._limits.values()
    assert limit.limit == 40
    assert max(call["in_flight"] for call in fake.calls()) <= 40


def paid(fake: FakeApis, model: str) -> float:
    """What the fake was asked and has said, counted by its rule of four characters a token, in USD."""
    bodies, total = fake.bodies(), 0.0
    for call in fake.calls():
        if call["completed"]:
            messages = conversation(bodies[call["body"]])
            asked = usage.count("".join(message["content"] for message in messages))
            total += asked * TOKEN_USD[model][0] + usage.count(script.answer(messages, {})) * TOKEN_USD[model][1]
    return total


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_a_budget_is_never_passed_and_nothing_is_paid_twice(model: str, fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(latency=0.002, faults={"500": 0.1, "429": 0.1})
    asked = requests(model, 120)
    whole = 120 * (3 * TOKEN_USD[model][0] + 4 * TOKEN_USD[model][1])
    limit = 0.4 * whole + (load_prices().bound(asked[0]) or 0)
    run = Run(tmp_path, limit)
    answers = run(*asked)
    made = [answer for answer in answers if isinstance(answer, Completion)]
    assert {type(answer) for answer in answers} == {Completion, BudgetReached}
    assert 0.4 * whole <= paid(fake, model) <= limit
    assert run.client.budget.spent == pytest.approx(paid(fake, model))
    again = Run(tmp_path, None)
    assert texts(again(*asked)) == right(asked)
    assert again.client.tally.cached == len(made)
    assert sum(call["completed"] for call in fake.calls()) == 120
