"""Whatever bytes a server sends, the call that asked gets an answer that can be used, or an error of its own."""

import asyncio
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from autointerp.llm.budget import Budget
from autointerp.llm.cache import AnswerCache, canonical, is_clean
from autointerp.llm.client import Client
from autointerp.llm.faults import CallError
from autointerp.llm.limits import Limits
from autointerp.llm.pricing import load_prices
from autointerp.llm.providers.batches import Outcome, Progress
from autointerp.llm.resolver import make_provider
from autointerp.llm.retries import RetryPolicy
from autointerp.llm.types import Answer, Completion, Failure, Message, Request
from autointerp.prompting import parse
from autointerp.records import AnswerError
from autointerp.sections import Runtime
from sae.common.errors import UserError
from tests.autointerp.llm.rubbish import answering, bent, http, mutated, random_json

FEW, MANY = 40, 3000
CLAUDE, GPT = "anthropic/claude-haiku-4-5", "openai/gpt-4o-mini"
PROMPT = "a\tunknown\nb\tunknown\n"
SLOTS = (2, 12)
MESSAGE = {
    "id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
    "content": [{"type": "thinking", "thinking": "", "signature": "s"}, {"type": "text", "text": "a\t7"}],
    "usage": {"input_tokens": 5, "output_tokens": 3, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0},
}  # fmt: skip
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}
TOKENS = [
    {
        "token": token,
        "logprob": -0.1,
        "top_logprobs": [{"token": token, "logprob": -0.1}, {"token": "3", "logprob": -3}],
    }
    for token in ("a\t", "7")
]
CHAT = {
    "id": "c", "object": "chat.completion", "model": "m", "usage": USAGE,
    "choices": [{
        "index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "a\t7", "refusal": None},
        "logprobs": {"content": TOKENS},
    }],
}  # fmt: skip
ECHO = {
    "id": "e", "object": "text_completion", "model": "m", "usage": USAGE,
    "choices": [{"index": 0, "text": PROMPT + "x", "finish_reason": "length", "logprobs": {
        "tokens": ["a\t", "unknown", "\nb\t", "unknown", "\n", "x"], "text_offset": [0, 2, 9, 12, 19, 20],
        "token_logprobs": [None, -1, -1, -1, -1, -1],
        "top_logprobs": [None, {"7": -1.5, "3": -0.5}, {"b": -1}, {"0": -0.1}, {"\n": -1}, {"x": -1}],
    }}],
}  # fmt: skip
KINDS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "messages": (CLAUDE, MESSAGE, {}),
    "chat": (GPT, CHAT, {"top_logprobs": 5}),
    "a server of one's own": ("{url}/v1#m", CHAT, {"schema": "{}"}),
    "an echoed prompt": ("{url}/v1#m", ECHO, {"top_logprobs": 5, "slots": SLOTS}),
}
"""Model, a real answer, and what else the request has."""
FATAL = (401, 403, 404)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "AUTOINTERP_API_KEY"):
        monkeypatch.setenv(variable, "test-key")


def any_response(rng: random.Random, real: Any) -> tuple[bytes, bool]:
    """A response of any kind, and whether it may stop the run: its status says that no request will succeed."""
    body = rng.choice((
        lambda: rng.randbytes(rng.randrange(300)), lambda: random_json(rng).encode("utf-8", "surrogatepass"),
        lambda: mutated(rng, real), lambda: mutated(rng, real),
    ))()  # fmt: skip
    if rng.random() < 0.3:
        return bent(rng, http(body)), False
    if rng.random() < 0.2:
        status = rng.choice((400, 408, 418, 429, 500, 503, 599, 204, *FATAL))
        after = rng.choice((b"x: y", b"retry-after: 0", b"retry-after: \xff", b"retry-after: 1e400"))
        return http(body, status, after), status in FATAL
    return http(body), False


def check_usable(answer: Completion, request: Request, cache: AnswerCache) -> None:
    """An answer has the types that it says, can be written to a file, and its log-probabilities are some."""
    assert isinstance(answer.text, str)
    answer.text.encode("utf-8")
    json.dumps(vars(answer.usage), allow_nan=False)
    assert all(type(count) is int and count >= 0 for name, count in vars(answer.usage).items() if name != "cost_usd")
    for top in (*(item.top for item in answer.logprobs), *answer.slots):
        assert all(isinstance(token, str) and value <= 0 for token, value in top.items())
    for slot in answer.slots:
        expected = parse.expected(slot)
        assert expected is None or 0 <= expected <= 10
    if request.top_logprobs and answer.logprobs:
        try:
            numbers = parse.token_lines(answer.text, ["a"])
            assert all(value is None or math.isfinite(value) for value in parse.expected_at(answer, numbers))
        except AnswerError:
            pass
    if is_clean(answer):
        cache.put("key", canonical(request, ""), answer)
        assert cache.get("key") == answer


async def outcomes(kind: str, count: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Answer | UserError]:
    """What `count` calls through the client and the real SDK bring, each answered by a random response."""
    rng, (model, real, more) = random.Random(f"{kind} {count}"), KINDS[kind]
    current: list[bytes] = []
    async with answering(lambda path: current[0]) as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
        limits, cache, prices = Limits(4), AnswerCache(folder), load_prices()
        provider = make_provider(model.format(url=url), Runtime(attempt_seconds=5), limits)
        ended: list[Answer | UserError] = []
        for number in range(count):
            request = Request(model.format(url=url), (Message("user", PROMPT),), 20, sample=number, **more)
            response, may_stop = any_response(rng, real)
            current[:] = [response]
            policy = RetryPolicy(tries=2, first_wait=0.0)
            client = Client(lambda _: provider, cache, prices, Budget(None), policy, limits)
            try:
                answer: Answer | UserError = await client.answer(request)
            except UserError as error:
                answer = error
            assert may_stop or not isinstance(answer, UserError), (response[:300], answer)
            if isinstance(answer, Completion):
                check_usable(answer, request, cache)
            if isinstance(answer, Failure | UserError):
                assert "\n" not in str(answer)
            ended.append(answer)
        await provider.close()
        cache.close()
    return ended


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_are_an_answer_or_an_error_of_that_call(
    kind: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.run(outcomes(kind, count, tmp_path, monkeypatch))
    assert {Completion, Failure} <= {type(answer) for answer in ended} <= {Completion, Failure, UserError}


HOSTILE: dict[str, bytes] = {
    "nested 10,000 deep": http(b"[" * 10_000 + b"]" * 10_000),
    "a malformed status line": b"HTTP/1.1 2OO OK\r\n\r\n{}",
    "a head over 8 kB": b"HTTP/1.1 200 OK\r\nx: " + b"a" * 9000 + b"\r\n\r\n{}",
    "a log-probability of 5000": http(json.dumps(CHAT).replace("-0.1", "5000").encode()),
    "a log-probability that is no number": http(json.dumps(CHAT).replace("-0.1", "NaN").encode()),
    "content that is a number": http(json.dumps(CHAT).replace('"a\\t7"', "7").encode()),
    "an unhashable end": http(json.dumps(CHAT).replace('"stop"', "[]").encode()),
}


async def ask(response: bytes, monkeypatch: pytest.MonkeyPatch, model: str = GPT, **more: Any) -> Completion:
    """One attempt at a call that is answered by these bytes."""
    async with answering(lambda path: response) as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
        provider = make_provider(model, Runtime(attempt_seconds=5), Limits(4))
        try:
            return await provider.complete(Request(model, (Message("user", PROMPT),), 20, **more))
        finally:
            await provider.close()


@pytest.mark.parametrize("case", HOSTILE)
def test_each_hostile_answer_is_an_error_of_the_call(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CallError) as caught:
        asyncio.run(ask(HOSTILE[case], monkeypatch, top_logprobs=5))
    assert caught.value.kind in ("transient", "rejected")
    assert caught.value.may_cost == (caught.value.kind == "transient")


@pytest.mark.parametrize(
    ("tokens_in", "tokens_out", "counted"),
    [
        (5, 3, (5, 3)), ("5", "3", (5, 3)), (5.0, 3, (5, 3)), (0, 0, (0, 0)),
        (-5, 3, None), (float("inf"), 3, None), (None, 3, None), ("many", 3, None), ([], {}, None), (1e12, 3, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_counts_of_tokens_are_whole_numbers_or_the_most_there_can_be(
    model: str, tokens_in: Any, tokens_out: Any, counted: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("input_tokens", "output_tokens") if model == CLAUDE else ("prompt_tokens", "completion_tokens")
    real: dict[str, Any] = MESSAGE if model == CLAUDE else CHAT
    body = json.dumps(real | {"usage": dict(zip(names, (tokens_in, tokens_out), strict=True))})
    answer = asyncio.run(ask(http(body.replace("Infinity", "1e400").encode()), monkeypatch, model))
    assert (answer.text, answer.is_counted) == ("a\t7", counted is not None)
    if counted:
        assert (answer.usage.tokens_in, answer.usage.tokens_out) == counted
    else:
        assert answer.usage.tokens_out == 20
        assert answer.usage.tokens_in > len(PROMPT)


def test_the_text_parts_of_a_content_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a\t"}]
    parts.append({"type": "text", "text": "7"})
    body = json.dumps(CHAT).replace('"content": "a\\t7"', f'"content": {json.dumps(parts)}')
    assert asyncio.run(ask(http(body.encode()), monkeypatch)).text == "a\t7"


@pytest.mark.parametrize("where", ["a\\t7", "stop", "end_turn"])
@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_a_key_in_an_answer_is_not_kept(model: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers for debugging answer with what they were sent, headers among it."""
    key = "sk-0123456789abcdef0123"
    monkeypatch.setenv("ANTHROPIC_API_KEY" if model == CLAUDE else "OPENAI_API_KEY", key)
    body = json.dumps(MESSAGE if model == CLAUDE else CHAT)
    assert asyncio.run(ask(http(body.encode()), monkeypatch, model)).text == "a\t7"
    if f'"{where}"' in body:
        with pytest.raises(CallError) as caught:
            asyncio.run(ask(http(body.replace(f'"{where}"', f'"Bearer {key}"').encode()), monkeypatch, model))
        assert caught.value.kind == "rejected"
        assert key not in str(caught.value)


def test_a_short_key_may_be_a_word_of_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "7")
    assert asyncio.run(ask(http(json.dumps(CHAT).encode()), monkeypatch)).text == "a\t7"


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_a_key_in_a_batchs_error_is_not_shown(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-0123456789abcdef0123"
    monkeypatch.setenv("ANTHROPIC_API_KEY" if model == CLAUDE else "OPENAI_API_KEY", key)
    error = {"message": f"wrong header: Bearer {key}"}
    ends = {"result": {"type": "errored", "error": error}} if model == CLAUDE else {"error": error, "response": None}

    async def outcome() -> Outcome | None:
        state, line = json.dumps(STATES[model]).encode(), json.dumps({"custom_id": "k"} | ends).encode()
        async with answering(lambda path: http(line if path.endswith(("results", "content")) else state)) as url:
            monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
            monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
            provider = make_provider(model, Runtime(attempt_seconds=5), Limits(4))
            assert provider.batches is not None
            results = await provider.batches.results("b", {"k": Request(model, (Message("user", PROMPT),), 20)})
            await provider.close()
        return results.get("k")

    reason = str(asyncio.run(outcome()))
    assert "wrong header: Bearer [key]" in reason
    assert key not in reason


LINES = {
    CLAUDE: {"custom_id": "k", "result": {"type": "succeeded", "message": MESSAGE}},
    GPT: {"id": "r", "custom_id": "k", "error": None, "response": {"status_code": 200, "body": CHAT}},
}
STATES: dict[str, Any] = {
    CLAUDE: {
        "id": "b", "type": "message_batch", "processing_status": "ended", "archived_at": None,
        "request_counts": {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 0},
    },
    GPT: {
        "id": "b", "object": "batch", "status": "completed", "output_file_id": "f", "error_file_id": None,
        "request_counts": {"completed": 1, "failed": 0, "total": 1},
    },
}  # fmt: skip


async def batch_outcomes(model: str, count: int, monkeypatch: pytest.MonkeyPatch) -> list[Outcome | Progress | None]:
    """What reading a batch brings when its state and its results are random, mutated or real."""
    rng = random.Random(f"{model} {count}")

    def reply(path: str) -> bytes:
        if path.endswith(("results", "content")):
            lines = [rng.choice((json.dumps(LINES[model]).encode(), mutated(rng, LINES[model]))), rng.randbytes(40)]
            lines.append(random_json(rng).encode("utf-8", "surrogatepass"))
            return http(b"\n".join(rng.sample(lines, len(lines))))
        state = json.dumps(STATES[model]).encode()
        return http(
            rng.choice((state, state, mutated(rng, STATES[model]), random_json(rng).encode("utf-8", "replace")))
        )

    ended: list[Outcome | Progress | None] = []
    async with answering(reply) as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
        provider = make_provider(model, Runtime(attempt_seconds=5), Limits(4))
        assert provider.batches is not None
        for _ in range(count):
            try:
                results = await provider.batches.results("b", {"k": Request(model, (Message("user", PROMPT),), 20)})
                ended += [results.get("k"), await provider.batches.progress("b")]
            except CallError as error:
                ended.append(error)
        await provider.close()
    return ended


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_any_results_of_a_batch_are_answers_or_errors_of_single_calls(
    model: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.run(batch_outcomes(model, count, monkeypatch))
    for outcome in ended:
        assert outcome is None or isinstance(outcome, Completion | CallError | Progress)
        if isinstance(outcome, Completion):
            outcome.text.encode("utf-8")
    assert sum(isinstance(outcome, Completion) for outcome in ended) > count / 10
