"""The fake APIs' faults through the real SDKs: what each becomes, and which requests they strike."""

import asyncio
import contextlib
import json
import time
from typing import Any, get_args

import anthropic
import httpx2
import openai
import pytest

from tests.fakes import FakeApis
from tests.fakes.faults import bend
from tests.fakes.settings import Fault
from tests.fakes_tests.calls import ASK, HELLO, anthropic_client, ask_anthropic, ask_openai, run

EXCEPTIONS = {
    "429": ("RateLimitError", "RateLimitError"),
    "429-after": ("RateLimitError", "RateLimitError"),
    "500": ("InternalServerError", "InternalServerError"),
    "503": ("ServiceUnavailableError", "InternalServerError"),
    "529": ("OverloadedError", "InternalServerError"),
    "timeout": ("APITimeoutError", "APITimeoutError"),
    "drop": ("APIConnectionError", "APIConnectionError"),
    "half": ("APIConnectionError", "APIConnectionError"),
}
"""What Anthropic's and OpenAI's SDKs raise, by fault."""

BENT = {
    "slow": (HELLO, "end_turn", "stop"),
    "refusal": ("I'm sorry, but I can't help with that.", "refusal", "stop"),
    "length": ("echo 2", "max_tokens", "length"),
    "shape": ("echo", "end_turn", "stop"),
}
"""What they answer: the text, Anthropic's and OpenAI's reason for stopping."""


def test_every_fault_has_its_test() -> None:
    assert set(get_args(Fault)) == {*EXCEPTIONS, *BENT, "garbage"}


@pytest.mark.parametrize("fault", EXCEPTIONS)
def test_faults_that_raise(server: FakeApis, fault: str) -> None:
    server.configure(faults={fault: 1}, hang=5, retry_after=0.5)
    for module, name, ask in zip((anthropic, openai), EXCEPTIONS[fault], (ask_anthropic, ask_openai), strict=True):
        with pytest.raises(module.APIError) as caught:
            run(ask(server, timeout=1 if fault == "timeout" else 120))
        assert type(caught.value).__name__ == name
        if fault.startswith("429"):
            expected = "0.5" if fault == "429-after" else None
            assert caught.value.response.headers.get("retry-after") == expected
        if fault in ("drop", "half"):
            assert isinstance(caught.value.__cause__, httpx2.RemoteProtocolError)
        call = server.calls()[-1]
        assert (call["fault"], call["completed"]) == (fault, False)
        assert call["status"] == (None if fault in ("timeout", "drop") else 200 if fault == "half" else int(fault[:3]))


@pytest.mark.parametrize("api", ASK)
def test_garbage_is_no_error_of_the_sdk(server: FakeApis, api: str) -> None:
    server.configure(faults={"garbage": 1})
    with pytest.raises(json.JSONDecodeError):
        run(ASK[api](server))


@pytest.mark.parametrize("fault", BENT)
def test_faults_that_answer(server: FakeApis, fault: str) -> None:
    server.configure(faults={fault: 1}, latency=0.02)
    text, anthropics_reason, openais_reason = BENT[fault]
    began = time.monotonic()
    message = run(ask_anthropic(server))
    took = time.monotonic() - began
    choice = run(ask_openai(server)).choices[0]
    server.configure(latency=0)
    assert (message.content[0].text, message.stop_reason) == (text, anthropics_reason)
    stated = choice.message.refusal if fault == "refusal" else choice.message.content
    assert (stated, choice.finish_reason) == (text, openais_reason)
    assert (choice.message.content is None) == (fault == "refusal")
    assert took >= 0.2 or fault != "slow"
    assert server.calls()[-1]["completed"] == (fault == "slow")


def test_shape_loses_the_last_element_line_or_word() -> None:
    assert json.loads(bend('{"why": "x", "scores": [1, 2]}', "shape").text) == {"why": "x", "scores": [1]}
    assert json.loads(bend("[[1], [2]]", "shape").text) == [[1]]
    assert json.loads(bend('{"a": 1, "b": 2}', "shape").text) == {"a": 1}
    assert bend("one\ntwo\n", "shape").text == "one"


async def faults_of_many(server: FakeApis, order: range) -> dict[str, list[str | None]]:
    """The faults that struck each of 40 questions asked four times."""
    async with anthropic_client(server) as client:

        async def ask(question: str) -> None:
            messages: list[Any] = [{"role": "user", "content": question}]
            with contextlib.suppress(anthropic.InternalServerError):
                await client.messages.create(model="m", max_tokens=9, messages=messages)

        for _ in range(4):
            await asyncio.gather(*(ask(str(i)) for i in order))
    struck: dict[str, list[str | None]] = {}
    for call in sorted(server.calls(), key=lambda call: call["received"]):
        struck.setdefault(call["body"], []).append(call["fault"])
    return struck


def test_faults_depend_on_the_seed_and_not_on_the_order() -> None:
    settings = {"faults": {"500": 0.2, "refusal": 0.2}, "max_faults_per_request": 2}
    runs = []
    for seed, order in ((1, range(40)), (1, range(39, -1, -1)), (2, range(40))):
        with FakeApis(seed=seed, **settings) as server:
            runs.append(run(faults_of_many(server, order)))
    assert runs[0] == runs[1] != runs[2]
    assert {fault for faults in runs[0].values() for fault in faults} == {None, "500", "refusal"}
    counts = [sum(fault is not None for fault in faults) for faults in runs[0].values()]
    assert (min(counts), max(counts)) == (0, 2)
