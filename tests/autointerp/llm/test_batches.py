"""Batches of both providers: live answers at half price, partial failures, and no batch submitted twice."""

import asyncio
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autointerp.llm import batches
from autointerp.llm.batches import SUBMISSIONS, BatchRounds, drive_in_batches
from autointerp.llm.budget import BudgetReached
from autointerp.llm.faults import CallError
from autointerp.llm.pricing import load_prices
from autointerp.llm.providers import batches as provider_batches
from autointerp.llm.providers.anthropic import messages
from autointerp.llm.providers.anthropic.batches import AnthropicBatches
from autointerp.llm.providers.openai import chat
from autointerp.llm.providers.openai.batches import OpenAIBatches
from autointerp.llm.types import Answer, Completion, Failure, LLMTask, Message, Question, Request
from sae.common.errors import UserError
from tests.autointerp.llm.test_client import CLAUDE, GPT, requests, right, texts
from tests.autointerp.llm.test_client import Run as Live
from tests.fakes import FakeApis, script

PATHS = {CLAUDE: "/v1/messages/batches", GPT: "/v1/batches"}
APIS: dict[str, Any] = {CLAUDE: AnthropicBatches, GPT: OpenAIBatches}
SCHEMA = '{"type": "object", "properties": {}, "required": [], "additionalProperties": false}'
both = pytest.mark.parametrize("model", [CLAUDE, GPT])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApis]:
    with FakeApis() as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        for variable in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "AUTOINTERP_API_KEY"):
            monkeypatch.setenv(variable, "test-key")
        yield server


class Run(Live):
    """The same in batches."""

    def __init__(self, folder: Path, most_usd: float | None = None, tries: int = 4) -> None:
        super().__init__(folder, most_usd, tries=tries)
        self.rounds = BatchRounds(self.client, self.judge, 0.02)

    def __call__(self, *questions: Question) -> list[Any]:
        return self.do(self.answers(questions))

    async def answers(self, questions: Sequence[Question]) -> list[Answer]:
        result = await self.rounds.answers(questions)
        return [result[question] for question in questions]


def created(fake: FakeApis, model: str) -> int:
    """Batches made so far."""
    return sum(call["path"] == PATHS[model] and call["body"] is not None for call in fake.calls())


def ledger(folder: Path) -> list[Path]:
    return list((folder / "batches").glob("*"))


@both
def test_batches_say_what_live_calls_say_at_half_price(model: str, fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(batch_seconds=0.1)
    asked = requests(model, 20, schema=SCHEMA)
    live = Live(tmp_path / "live")(*asked)
    calls = len(fake.calls())
    run = Run(tmp_path / "batch")
    result = run(*asked, *asked)
    assert result[:20] == result[20:]
    for answer, usual in zip(result, live * 2, strict=True):
        usage = replace(usual.usage, batch=1, cost_usd=pytest.approx(usual.usage.cost_usd / 2))
        assert answer == replace(usual, usage=usage)
    assert run.client.tally.paid.batch == 20
    assert run.client.budget.spent == pytest.approx(sum(answer.usage.cost_usd for answer in live) / 2)
    assert {call["path"] for call in fake.calls()[calls:]}.isdisjoint({"/v1/messages", "/v1/chat/completions"})
    assert (created(fake, model), ledger(tmp_path / "batch")) == (1, [])
    assert Live(tmp_path / "batch")(*asked) == result[:20], "a live run takes what a batch brought"
    assert created(fake, model) == 1


def two_rounds(number: int) -> LLMTask[list[str]]:
    """Asks one judge, then both about its answer."""
    first = Request(CLAUDE, (Message("user", f"first {number}"),), 60)
    (heard,) = yield (first,)
    assert isinstance(heard, Completion)
    second = [Request(model, (Message("user", heard.text),), 60) for model in (CLAUDE, GPT)]
    answers = yield tuple(second)
    return [heard.text, *(answer.text for answer in answers if isinstance(answer, Completion))]


def test_tasks_are_driven_in_step_a_batch_per_judge_and_round(fake: FakeApis, tmp_path: Path) -> None:
    run, done = Run(tmp_path), dict[int, list[str]]()
    tasks = [two_rounds(number) for number in range(5)]
    run.do(drive_in_batches(tasks, done.__setitem__, run.client, run.judge, 0.02))
    for number in range(5):
        first = script.answer([{"role": "user", "content": f"first {number}"}], {})
        assert done[number] == [first] + [script.answer([{"role": "user", "content": first}], {})] * 2
    assert (created(fake, CLAUDE), created(fake, GPT)) == (2, 1)


@both
@pytest.mark.parametrize("fault", ["errored", "expired"])
def test_what_a_batch_did_not_do_is_submitted_again(model: str, fault: str, fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(batch_faults={fault: 0.4}, max_faults_per_request=SUBMISSIONS - 1)
    asked = requests(model, 20)
    assert texts(Run(tmp_path)(*asked)) == right(asked)
    assert 1 < created(fake, model) <= SUBMISSIONS
    assert ledger(tmp_path) == []


@both
def test_after_three_submissions_it_is_a_failure_that_is_not_kept(model: str, fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(batch_faults={"errored": 1})
    answers = Run(tmp_path)(*requests(model))
    assert all(isinstance(answer, Failure) and model in answer.reason for answer in answers)
    assert created(fake, model) == SUBMISSIONS == 3
    fake.configure(batch_faults={})
    assert texts(Run(tmp_path)(*requests(model))) == right(requests(model))


@both
def test_what_is_invalid_is_rejected_at_once(model: str, fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(batch_faults={"invalid": 0.5})
    asked = requests(model, 20)
    answers = Run(tmp_path)(*asked)
    assert {type(answer) for answer in answers} == {Failure, Completion}
    for answer, text in zip(answers, right(asked), strict=True):
        if isinstance(answer, Failure):
            assert "invalid by the test's wish" in answer.reason
        else:
            assert answer.text == text
    assert created(fake, model) == 1


@both
def test_a_run_stopped_during_a_batch_picks_it_up(model: str, fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(batch_seconds=600)
    asked, run = requests(model), Run(tmp_path)

    async def stopped() -> list[Answer]:
        task = asyncio.create_task(run.answers(tuple(asked)))
        async with asyncio.timeout(200):
            while not run.client.waiting():
                await asyncio.sleep(0.01)
        assert re.search(r"0 of 6 done, submitted \d+ s ago", run.client.waiting())
        task.cancel()
        return await task

    with pytest.raises(asyncio.CancelledError):
        run.do(stopped())
    assert run.client.waiting() == ""
    assert len(ledger(tmp_path)) == 1
    fake.configure(batch_seconds=0)
    # Fewer are wanted now, and others: what the batch brings for the rest is not lost.
    fewer = asked[:2] + requests(model, 1, sample=1)
    assert texts(Run(tmp_path)(*fewer)) == right(fewer)
    assert created(fake, model) == 2
    last = Run(tmp_path)
    assert texts(last(*asked)) == right(asked)
    assert (last.client.tally.cached, created(fake, model), ledger(tmp_path)) == (2, 2, [])


class Killed(BaseException):
    """As SIGKILL: nothing of ours handles it."""


@both
def test_a_batch_whose_id_was_lost_is_found_again(
    model: str, fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the provider's answer and its writing down; meanwhile somebody else submits as well."""
    write = batches.Ledger.write

    def killing(self: batches.Ledger, entry: batches.Entry) -> None:
        if entry.batch is not None:
            raise Killed
        write(self, entry)

    asked, others = requests(model), requests(model, 7, sample=9)
    with monkeypatch.context() as patch:
        patch.setattr(batches.Ledger, "write", killing)
        with pytest.raises(Killed):
            Run(tmp_path)(*asked)
    Run(tmp_path / "other")(*others)
    assert (created(fake, model), len(ledger(tmp_path))) == (2, 1)
    assert texts(Run(tmp_path)(*asked)) == right(asked)
    assert (created(fake, model), ledger(tmp_path)) == (2, [])


@both
@pytest.mark.parametrize("arrived", [True, False])
def test_a_submission_that_failed_half_way_is_looked_up_before_it_is_repeated(
    model: str, arrived: bool, fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, tried = APIS[model].submit, itertools.count()

    async def flaky(self: Any, *given: Any) -> str:
        first = next(tried) == 0
        batch: str = await honest(self, *given) if arrived or not first else ""
        if first:
            raise CallError("transient", "the answer was lost")
        return batch

    monkeypatch.setattr(APIS[model], "submit", flaky)
    assert texts(Run(tmp_path)(*requests(model))) == right(requests(model))
    assert created(fake, model) == 1


def test_a_lost_submission_is_not_taken_for_another_models(
    fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both models' batches are of the same size, and the other's is the newer one."""
    honest, first, other = AnthropicBatches.submit, asyncio.Event(), asyncio.Event()
    models = [CLAUDE, "anthropic/claude-sonnet-4-5"]

    async def flaky(self: AnthropicBatches, asked: Any, tag: str) -> str:
        if next(iter(asked.values())).model == models[1]:
            await first.wait()
            batch = await honest(self, asked, tag)
            other.set()
            return batch
        batch = await honest(self, asked, tag)
        if first.is_set():
            return batch
        first.set()
        await other.wait()
        raise CallError("transient", "the answer was lost")

    monkeypatch.setattr(AnthropicBatches, "submit", flaky)
    asked = [request for model in models for request in requests(model)]
    assert texts(Run(tmp_path)(*asked)) == right(asked)
    assert created(fake, CLAUDE) == 2


@both
def test_faults_of_the_calls_about_batches_change_nothing(model: str, fake: FakeApis, tmp_path: Path) -> None:
    for number, fault in enumerate(("500", "429", "drop", "half", "garbage")):
        fake.configure(faults={fault: 0.25}, faults_on="everything", batch_seconds=0.05, seed=3)
        asked = requests(model, 5 + number)
        assert texts(Run(tmp_path / fault, tries=30)(*asked)) == right(asked), fault
        assert ledger(tmp_path / fault) == []


@both
def test_damaged_results_are_fetched_again_and_not_paid_for_again(
    model: str, fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damages: list[Callable[[bytes], bytes]] = [
        lambda _: b"garbage",
        lambda _: b"<html>busy</html>",
        lambda content: content[: len(content) // 2],
        lambda content: content[len(content) // 2 :],
    ]
    honest = provider_batches.lines_by_id
    monkeypatch.setattr(
        provider_batches, "lines_by_id", lambda content: honest(damages.pop(0)(content) if damages else content)
    )
    assert texts(Run(tmp_path)(*requests(model))) == right(requests(model))
    assert damages == []
    assert created(fake, model) == 1


@both
def test_requests_that_no_download_holds_are_submitted_again(
    model: str, fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, downloads = provider_batches.lines_by_id, itertools.count()

    def without_last(content: bytes) -> dict[str, Any]:
        lines = honest(content)
        return lines if next(downloads) >= provider_batches.DOWNLOADS else dict(list(lines.items())[:-1])

    monkeypatch.setattr(provider_batches, "lines_by_id", without_last)
    assert texts(Run(tmp_path)(*requests(model))) == right(requests(model))
    assert created(fake, model) == 2


def test_slots_and_servers_without_batches_are_asked_live(fake: FakeApis, tmp_path: Path) -> None:
    own = f"{fake.openai_url}#m"
    slots = Request(GPT, (Message("user", "the\tunknown\n"),), 1, top_logprobs=5, slots=(4,))
    result = Run(tmp_path)(*requests(own), slots, *requests(GPT))
    assert texts(result) == [*right(requests(own)), "", *right(requests(GPT))]
    assert len(result[6].slots) == 1
    paths = [call["path"] for call in fake.calls()]
    assert (paths.count("/v1/chat/completions"), paths.count("/v1/completions"), created(fake, GPT)) == (6, 1, 1)


@both
def test_a_budget_splits_a_stage_into_batches_that_it_bears(model: str, fake: FakeApis, tmp_path: Path) -> None:
    asked = requests(model, 12)
    bound = load_prices().bound(asked[0], batch=True)
    assert bound is not None
    run = Run(tmp_path, 5.5 * bound)
    with pytest.raises(BudgetReached):
        run(*asked, *requests(model, 80, sample=1))
    assert 2 < created(fake, model) < 40
    assert 4.4 * bound < run.client.budget.spent <= 5.5 * bound
    assert run.client.tally.paid.calls == run.client.tally.calls > 12
    with pytest.raises(BudgetReached):
        Run(tmp_path / "b", 0.5 * bound)(*asked)


def test_what_no_request_can_mend_is_not_paid_three_times(
    fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, honest = requests(GPT, top_logprobs=5), chat.parameters
    silent = {"logprobs": False, "top_logprobs": None}
    monkeypatch.setattr(chat, "parameters", lambda *given: honest(*given) | silent)
    answers = Run(tmp_path)(*asked)
    assert {type(answer) for answer in answers} == {Failure}
    assert all("simulation.method=text" in answer.reason for answer in answers)
    assert (created(fake, GPT), ledger(tmp_path)) == (1, [])


@both
def test_what_a_batch_answered_and_nobody_can_read_is_charged(
    model: str, fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that stopped to call a tool: the provider did its work."""
    for module in (chat, messages):
        monkeypatch.setattr(module, "STOPS", {})
    asked, run = requests(model), Run(tmp_path, 10.0)
    assert {type(answer) for answer in run(*asked)} == {Failure}
    bounds = sum(load_prices().bound(request, batch=True) or 0.0 for request in asked)
    assert run.client.budget.spent == pytest.approx(bounds)
    assert (run.client.tally.uncounted, created(fake, model)) == (len(asked), 1)


def test_a_damaged_record_of_a_batch_is_told_in_a_line(fake: FakeApis, tmp_path: Path) -> None:
    run = Run(tmp_path)
    (tmp_path / "batches").mkdir()
    (tmp_path / "batches" / "tag.json").write_text('{"judge": "a"')
    with pytest.raises(UserError, match=r"tag.json, the record of a batch under way, is damaged; .* delete this file"):
        run(*requests(GPT))


def test_a_refused_batch_is_reported_once_and_then_submitted_again(fake: FakeApis, tmp_path: Path) -> None:
    """Such as one beyond the account's limit of enqueued tokens: waiting for it again would never end."""

    def mixed(model: str, name: str, request: Request) -> dict[str, Any]:
        return {"model": request.messages[0].content, "messages": []}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat, "parameters", mixed)
        with pytest.raises(UserError, match="was refused: mismatched_model"):
            Run(tmp_path)(*requests(GPT))
    assert texts(Run(tmp_path)(*requests(GPT))) == right(requests(GPT))


@both
def test_a_batch_that_is_gone_is_submitted_again(model: str, fake: FakeApis, tmp_path: Path) -> None:
    """Deleted, or another account's."""
    asked, run = requests(model), Run(tmp_path)
    run.rounds._ledger.write(batches.Entry(model, "tag", tuple(map(run.rounds._key, asked)), 0.0, "batch_gone"))
    assert texts(run(*asked)) == right(asked)
    assert ledger(tmp_path) == []


def test_results_with_unusual_line_breaks_are_read(
    fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """U+2028 and U+0085 may stand in JSON as they are; they end no line of JSONL."""
    text = "a\u2028b\x85c"
    body = {"choices": [{"finish_reason": "stop", "message": {"content": text}}]}
    lines = [{"custom_id": name, "response": {"status_code": 200, "body": body}} for name in "xy"]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    async def get(_: str) -> SimpleNamespace:
        return SimpleNamespace(output_file_id="f", error_file_id=None, text=content, content=content.encode())

    asked, run = requests(GPT, 1)[0], Run(tmp_path)
    judge = run.judge(asked)
    monkeypatch.setattr(judge.sdk.files, "content", get)
    monkeypatch.setattr(judge.sdk.batches, "retrieve", get)
    result = run.do(OpenAIBatches(judge).results("batch", {"x": asked, "y": asked}))
    assert texts(list(result.values())) == [text, text]


def test_a_batch_waits_for_the_money_that_another_models_has_reserved(fake: FakeApis, tmp_path: Path) -> None:
    prices, asked = load_prices(), requests(CLAUDE) + requests(GPT)
    bounds = [prices.bound(request, batch=True) or 0.0 for request in asked]
    run = Run(tmp_path, sum(bounds[:6]) + bounds[-1] / 2)  # no request of the second model fits beside the first's
    assert texts(run(*asked)) == right(asked)
    assert run.client.budget.spent < sum(bounds)
    assert (created(fake, CLAUDE), created(fake, GPT)) == (1, 1)


@both
def test_a_batch_stays_below_the_providers_bytes(
    model: str, fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [replace(each, messages=(Message("user", "\U0001f600\t" * 999),), sample=n, schema=SCHEMA)
             for n, each in enumerate(requests(model))]  # fmt: skip
    monkeypatch.setattr(batches, "MOST_BYTES", 4 * batches._size(asked[0]))
    assert len(set(texts(Run(tmp_path)(*asked)))) == 1
    assert created(fake, model) == 2
    longest = max(len(json.dumps(body)) for body in fake.bodies().values())
    assert longest < batches.MOST_BYTES
