"""What calls cost that nobody counted, and what a task reads of an answer with thinking before it."""

from pathlib import Path
from typing import Any

import pytest

from autointerp.llm import reading
from autointerp.llm.budget import BudgetReached
from autointerp.llm.pricing import load_prices
from autointerp.llm.providers.anthropic import messages
from autointerp.llm.providers.openai import chat
from autointerp.llm.types import Completion, Failure, Message, Request, TokenLogprobs
from tests.autointerp.llm.test_client import CLAUDE, GPT, Run, requests, texts
from tests.fakes import FakeApis


@pytest.mark.parametrize(
    ("fault", "is_charged"),
    [("timeout", True), ("drop", True), ("half", True), ("garbage", True), ("500", False), ("429", False)],
)
@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_a_call_that_nobody_counted_costs_its_bound(
    model: str, fault: str, is_charged: bool, fake: FakeApis, tmp_path: Path
) -> None:
    """It was sent, and may be on the bill; what the provider refused is not."""
    fake.configure(faults={fault: 1})
    (asked,) = requests(model, 1)
    bound = load_prices().bound(asked) or 0.0
    run = Run(tmp_path, 10.0, tries=2, attempt_seconds=0.3 if fault == "timeout" else 60)
    (answer,) = run(asked)
    assert isinstance(answer, Failure)
    assert run.client.budget.spent == pytest.approx(2 * bound if is_charged else 0)
    assert run.client.tally.uncounted == (2 if is_charged else 0)
    assert run.client.tally.uncounted_usd == pytest.approx(run.client.budget.spent)
    assert run.client.tally.paid.cost_usd == pytest.approx(run.client.budget.spent)


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_an_answer_that_nobody_can_read_costs_its_bound(
    model: str, fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that stopped to call a tool."""
    for module in (chat, messages):
        monkeypatch.setattr(module, "STOPS", {})
    run = Run(tmp_path, 10.0)
    (asked,) = requests(model, 1)
    (answer,) = run(asked)
    assert isinstance(answer, Failure)
    assert "stopped for" in answer.reason
    assert run.client.budget.spent == pytest.approx(load_prices().bound(asked))
    assert (run.client.tally.uncounted, len(fake.calls())) == (1, 1)


def test_a_server_that_is_not_there_costs_nothing(tmp_path: Path) -> None:
    asked = Request("http://127.0.0.1:9/v1#m", (Message("user", "hello"),), 60)
    run = Run(tmp_path, tries=2)
    (answer,) = run(asked)
    assert isinstance(answer, Failure)
    assert "connection refused" in answer.reason
    assert (run.client.tally.calls, run.client.tally.uncounted) == (2, 0)


def test_unanswered_calls_do_not_pass_the_budget(fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(faults={"drop": 1})
    bound = load_prices().bound(requests(GPT, 1)[0]) or 0.0
    run = Run(tmp_path, 3.5 * bound, tries=9)
    answers = run(*requests(GPT, 4))
    assert BudgetReached in {type(answer) for answer in answers}
    assert run.client.budget.spent == pytest.approx(3 * bound)
    assert len(fake.calls()) == 3


def thinking(messages: list[dict[str, str]], body: dict[str, Any]) -> str:
    """A script of the fake: an answer with its thinking before it."""
    return "\n<think>\nfive or 7?\n</think>\n\nso 7"


def test_thinking_before_an_answer_is_taken_off(fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(script="tests.autointerp.llm.test_charges:thinking")
    asked = [*requests(CLAUDE, 1), *requests(GPT, 1), *requests(GPT, 1, top_logprobs=5)]
    for _ in range(2):  # the second time from the cache, which keeps what was paid for
        run = Run(tmp_path)
        answers = run(*asked)
        assert texts(answers) == ["so 7"] * 3
        assert "".join(item.token for item in answers[2].logprobs) == "so 7"
        assert answers[2].usage.tokens_out > 8
    assert run.client.tally.cached == 3


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>a</think>b", "b"), ("<think></think>", ""), ("b <think>a</think>", "b <think>a</think>"),
        ("<think>a", "<think>a"), ("<think>a</think>b<think>c</think>", "b<think>c</think>"),
        ("so, 5\nor 7?\n</think>\n\n7", "7"), ("so\n</think>", ""), ("on </think> tokens", "on </think> tokens"),
        ("a\t1\n</think>\t3\nb\t0", "a\t1\n</think>\t3\nb\t0"), ("b <think>a\n</think>\nc", "b <think>a\n</think>\nc"),
    ],
)  # fmt: skip
def test_only_thinking_at_the_beginning_is_taken_off(text: str, rest: str) -> None:
    assert reading.without_thinking(Completion(text)) == Completion(rest)


def test_a_token_that_the_thinking_ends_in_keeps_its_end() -> None:
    tokens = tuple(TokenLogprobs(piece, {piece: -0.5, "x": -1.0}) for piece in ("<think>a", "</think>\n7", "\n"))
    answer = reading.without_thinking(Completion("<think>a</think>\n7\n", logprobs=tokens))
    assert answer == Completion("7\n", logprobs=(TokenLogprobs("7", {}), tokens[2]))


@pytest.mark.parametrize(
    ("counted", "tokens_out"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}, 5),
        ({"prompt_tokens": 7, "completion_tokens": 5}, 5),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 3}, 5),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": "many"}, 5),
        # Gemini 3 Flash, as discuss.ai.google.dev/t/127400 quotes it, and Grok, Wei-Shaw/sub2api #5771.
        ({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 105}, 96),
        ({"prompt_tokens": 10120, "completion_tokens": 1499, "total_tokens": 14428}, 1499 + 2809),
    ],
)
def test_thinking_that_only_the_total_counts_is_paid_for(counted: dict[str, Any], tokens_out: int) -> None:
    usage = chat.usage_of(counted)
    assert usage is not None
    assert (usage.tokens_in, usage.tokens_out) == (counted["prompt_tokens"], tokens_out)
