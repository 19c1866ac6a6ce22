"""The providers through the real SDKs: what is sent, what is read back, and what each fault becomes."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest

from autointerp.llm import pricing, specs
from autointerp.llm.faults import CallError, NoLogprobs
from autointerp.llm.limits import Limits
from autointerp.llm.providers.openai import chat
from autointerp.llm.resolver import make_provider
from autointerp.llm.types import Completion, Message, Request, Usage
from autointerp.sections import Runtime
from tests.fakes import FakeApis, script
from tests.fakes.settings import Fault

HELLO = "echo 2cf24dba"
"""The default script's answer to "hello"."""
SCHEMA = (
    '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false}'
)
TURNS = (
    Message("system", "rules"), Message("user", "example"), Message("assistant", "shown"), Message("user", "hello"),
)  # fmt: skip
OUTCOMES: dict[str, str] = {
    "429": "rate_limit", "429-after": "rate_limit", "529": "rate_limit",
    "500": "transient", "503": "transient", "timeout": "transient", "drop": "transient", "half": "transient",
    "garbage": "transient",
    "slow": "stop", "shape": "stop", "length": "length", "refusal": "refusal",
}  # fmt: skip
"""By fault: the kind of the CallError, or why the completion ended."""


LIMITS = [("openai", "max_completion_tokens"), ("google", "max_tokens"), ("compatible", "max_tokens")]


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeApis]:
    with FakeApis(prompt_cache="real", retry_after=2.5) as server:
        yield server


@pytest.fixture(autouse=True)
def environment(fake: FakeApis, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.configure(faults={}, credit=None, models=None, latency=0)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.url)
    for variable in ("OPENAI_BASE_URL", "GEMINI_BASE_URL"):
        monkeypatch.setenv(variable, fake.openai_url)
    for variable in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "AUTOINTERP_API_KEY"):
        monkeypatch.setenv(variable, "test-key")


@pytest.fixture(params=["anthropic", "openai", "google", "compatible"])
def model(request: pytest.FixtureRequest, fake: FakeApis) -> str:
    return f"{fake.openai_url}#m" if request.param == "compatible" else f"{request.param}/m"


def ask(request: Request, seconds: float = 120.0) -> Completion:
    """One attempt."""

    async def once() -> Completion:
        judge = make_provider(request.model, Runtime(attempt_seconds=seconds), Limits(100))
        try:
            completion: Completion = await judge.complete(request)
            return completion
        finally:
            await judge.close()

    return asyncio.run(once())


def refused(request: Request, **more: float) -> CallError:
    with pytest.raises(CallError) as caught:
        ask(request, **more)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 450
    assert str(caught.value).startswith(request.model)
    return caught.value


def sent(fake: FakeApis) -> Any:
    """The last call's body."""
    return fake.bodies()[fake.calls()[-1]["body"]]


def hello(model: str, **more: Any) -> Request:
    return Request(model, (Message("user", "hello"),), 100, **more)


@pytest.mark.parametrize("fault", get_args(Fault))
def test_every_fault_becomes_what_it_is(fault: str, model: str, fake: FakeApis) -> None:
    fake.configure(faults={fault: 1}, latency=0.001)
    expected = OUTCOMES[fault]
    if expected in ("transient", "rate_limit"):
        error = refused(hello(model), seconds=0.3 if fault == "timeout" else 120)
        assert (error.kind, error.retry_after) == (expected, 2.5 if fault == "429-after" else None)
        return
    completion = ask(hello(model))
    assert completion.stop == expected
    assert completion.usage.calls == 1
    assert (completion.text == HELLO) == (fault == "slow")


def test_what_no_waiting_mends_is_fatal(model: str, fake: FakeApis) -> None:
    for settings in ({"credit": 0, "credit_style": "400"}, {"credit": 0, "credit_style": "402"}, {"models": ["other"]}):
        fake.configure(**{"credit": None, "models": None} | settings)
        assert refused(hello(model)).kind == "fatal"
    nobody = "http://127.0.0.1:9/v1#m"
    assert refused(hello(nobody)).kind == "transient"


def test_a_request_that_is_wrong_is_rejected(model: str) -> None:
    assert refused(Request(model, (), 100)).kind == "rejected"


def test_what_anthropic_is_sent(fake: FakeApis) -> None:
    completion = ask(Request("anthropic/m", TURNS, 50, schema=SCHEMA, static=3))
    assert sent(fake) == {
        "model": "m",
        "max_tokens": 50,
        "system": [{"type": "text", "text": "rules"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "example"}]},
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "shown", "cache_control": {"type": "ephemeral"}}],
            },
            {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        ],
        "output_config": {"format": {"type": "json_schema", "schema": json.loads(SCHEMA)}},
    }
    assert (completion.text, completion.stop) == (HELLO, "stop")
    ask(Request("anthropic/m", TURNS, 50, static=1))
    assert sent(fake)["system"] == [{"type": "text", "text": "rules", "cache_control": {"type": "ephemeral"}}]
    ask(Request("anthropic/m", TURNS, 50))
    assert "cache_control" not in json.dumps(sent(fake))


@pytest.mark.parametrize(("provider", "limit"), LIMITS)
def test_what_openai_and_others_are_sent(provider: str, limit: str, fake: FakeApis) -> None:
    model = f"{fake.openai_url}#m" if provider == "compatible" else f"{provider}/m"
    ask(Request(model, TURNS, 50, static=3))
    plain = {
        "model": "m",
        "messages": [{"role": turn.role, "content": turn.content} for turn in TURNS],
        limit: 50,
    }
    assert sent(fake) == plain
    ask(Request(model, TURNS, 50, temperature=0.0, top_logprobs=99, schema=SCHEMA))
    schema = {"name": "answer", "strict": True, "schema": json.loads(SCHEMA)}
    assert sent(fake) == plain | {
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 20,
        "response_format": {"type": "json_schema", "json_schema": schema},
    }


def test_what_anthropic_does_not_offer_is_fatal_without_a_call(fake: FakeApis) -> None:
    before = len(fake.calls())
    for more, advice in (
        ({"top_logprobs": 5}, "simulation.method=text"),
        ({"slots": (0,)}, "simulation.method=text"),
        ({"temperature": 1.0}, "temperatures null"),
    ):
        error = refused(hello("anthropic/m", **more))
        assert error.kind == "fatal"
        assert advice in str(error)
    assert len(fake.calls()) == before


def test_tokens_from_the_prompt_cache_are_counted_once() -> None:
    """Tokens of the fake: four characters each; OpenAI's cache holds whole blocks of 128, from 1024 on."""
    long = (Message("system", "s" * 8000), Message("user", "u" * 400))
    request = Request("anthropic/cached", long, 10, static=1)
    first, second = ask(request).usage, ask(request).usage
    assert (first.tokens_in, first.cache_read, first.cache_write) == (2100, 0, 2000)
    assert (second.tokens_in, second.cache_read, second.cache_write) == (2100, 2000, 0)
    assert first.tokens_out == len(HELLO) // 4 + 1
    first, second = (ask(replace(request, model="openai/cached")).usage for _ in range(2))
    assert (first.tokens_in, first.cache_read) == (2100, 0)
    assert (second.tokens_in, second.cache_read) == (2100, 2100 // 128 * 128)


def test_logprobs_of_the_answer_are_read_back(fake: FakeApis) -> None:
    for model in ("openai/m", f"{fake.openai_url}#m"):
        completion = ask(hello(model, top_logprobs=5))
        assert completion.text == HELLO == "".join(item.token for item in completion.logprobs)
        offset = 0
        for item in completion.logprobs:
            everything = script.top_logprobs([], HELLO, offset, item.token)
            best = sorted(everything, key=lambda token: -everything[token])[:5]
            assert dict(item.top) == {token: everything[token] for token in {*best, item.token}}
            offset += len(item.token)
        assert ask(hello(model)).logprobs == ()


PROMPT = "Einführung 日本:\nthe\tunknown\nstone\tunknown\n"
SLOTS = tuple(index for index in range(len(PROMPT)) if PROMPT.startswith("unknown", index))


def test_logprobs_at_the_slots_of_a_prompt_are_read_back(fake: FakeApis) -> None:
    request = Request(f"{fake.openai_url}#m", (Message("user", PROMPT),), 1, top_logprobs=11, slots=SLOTS)
    completion = ask(request)
    assert (completion.text, completion.stop, completion.logprobs) == ("", "stop", ())
    assert len(SLOTS) == 2
    for slot, result in zip(SLOTS, completion.slots, strict=True):
        numbers = script.prompt_logprobs(PROMPT, slot, "unknown")
        assert {token: result[token] for token in numbers} == numbers
    assert completion.usage.tokens_in == -(-len(PROMPT) // 4)
    inside = refused(replace(request, slots=(SLOTS[0], SLOTS[1] + 1)))
    assert inside.kind == "rejected"
    assert f"offset {SLOTS[1] + 1}" in str(inside)


def test_a_server_that_does_not_echo_is_refused(fake: FakeApis, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = chat.echo_parameters
    request = Request(f"{fake.openai_url}#m", (Message("user", PROMPT),), 1, top_logprobs=5, slots=SLOTS)
    for lost in ("echo", "logprobs"):
        monkeypatch.setattr(chat, "echo_parameters", lambda *given, lost=lost: honest(*given) | {lost: None})
        error = refused(request)
        assert isinstance(error, NoLogprobs)
        assert (error.kind, "simulation.method=text" in str(error)) == ("rejected", True)
    judge: Any = make_provider(request.model, Runtime(), Limits(100))
    with pytest.raises(CallError, match="does not echo"):
        judge.read_echo({"choices": [{"text": PROMPT}]}, request)
    asyncio.run(judge.close())


WHOLE: dict[str, Any] = {
    "choices": [{"finish_reason": "stop", "message": {"content": "so"}, "text": "p", "logprobs": None}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1}, "content": [{"type": "text", "text": "so"}],
    "stop_reason": "end_turn",
}  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        {}, [], "so", None, 7, WHOLE | {"choices": [], "content": [{}]}, WHOLE | {"choices": None, "content": None},
        WHOLE | {"choices": [{"finish_reason": "stop", "message": None}], "content": [None]},
        WHOLE | {"choices": [{"finish_reason": "stop", "message": "so"}], "content": [{"type": "text", "text": 7}]},
        WHOLE | {"choices": [None], "content": 7},
    ],
)  # fmt: skip
def test_a_200_that_is_no_answer_is_transient(answer: Any, fake: FakeApis) -> None:
    """Proxies send such."""
    claude: Any = make_provider("anthropic/m", Runtime(), Limits(100))
    gpt: Any = make_provider("openai/m", Runtime(), Limits(100))
    asked = hello("openai/m")
    for read, arguments in ((claude.read, (asked,)), (gpt.read, (asked,)), (gpt.read_echo, (asked,))):
        with pytest.raises(CallError) as caught:
            read(answer, *arguments)
        assert caught.value.kind == "transient"
    asyncio.run(claude.close())
    asyncio.run(gpt.close())


def test_an_answer_without_promised_logprobs_or_with_a_strange_end(fake: FakeApis) -> None:
    judge: Any = make_provider("openai/m", Runtime(), Limits(100))
    usage = WHOLE["usage"]
    with pytest.raises(NoLogprobs, match=r"method=text") as caught:
        judge.read(WHOLE, hello("openai/m", top_logprobs=5))
    assert caught.value.kind == "rejected"
    for end, stop in (("content_filter", "refusal"), ("length", "length"), ("eos", "stop")):
        cut = WHOLE | {"choices": [{"finish_reason": end, "message": {"content": None}}]}
        result = judge.read(cut, hello("openai/m", top_logprobs=5))
        assert (result.text, result.stop, result.usage.tokens_in) == ("", stop, usage["prompt_tokens"])
    for end, kind in (("tool_calls", "rejected"), ("insufficient_system_resource", "transient"), (None, "rejected")):
        with pytest.raises(CallError, match=str(end)) as caught:
            judge.read(WHOLE | {"choices": [{"finish_reason": end, "message": {}}]}, hello("openai/m"))
        assert (caught.value.kind, caught.value.may_cost) == (kind, True)
    uncounted = judge.read({"choices": WHOLE["choices"]}, hello("openai/m"))
    assert (uncounted.text, uncounted.is_counted) == ("so", False)
    assert uncounted.usage == Usage(1, pricing.most_tokens(hello("openai/m")), 100)
    asyncio.run(judge.close())


def test_specs_say_who_is_asked() -> None:
    assert specs.parse("openai/ft:m/x").model == "ft:m/x"
    assert (spec := specs.parse("https://h:1/v1/#org/m")).model == "org/m"
    assert spec.base_url == "https://h:1/v1"
