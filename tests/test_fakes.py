"""The fake APIs, asked through the real SDKs: right answers, every fault, batches, and the log of it all."""

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, get_args

import anthropic
import httpx2
import openai
import pytest

from tests.fakes import JudgeServer
from tests.fakes.faults import bend
from tests.fakes.logprobs import tokens
from tests.fakes.settings import Fault

HELLO = "echo 2cf24dba"
"""The default script's answer to "hello"."""
SCHEMA = {
    "type": "object",
    "properties": {"scores": {"type": "array", "items": {"type": "integer"}}},
    "required": ["scores"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    """One for the tests that leave no trace but settings, which they set themselves."""
    with JudgeServer() as running:
        yield running


def anthropic_client(server: JudgeServer, key: str = "test-key", timeout: float = 10) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=server.url, api_key=key, max_retries=0, timeout=timeout)


def openai_client(server: JudgeServer, key: str = "test-key", timeout: float = 10) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=server.openai_url, api_key=key, max_retries=0, timeout=timeout)


async def ask_anthropic(server: JudgeServer, content: Any = "hello", **more: Any) -> anthropic.types.Message:
    async with anthropic_client(server, more.pop("key", "test-key"), more.pop("timeout", 10)) as client:
        request = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": content}]} | more
        return await client.messages.create(**request)


async def ask_openai(server: JudgeServer, content: Any = "hello", **more: Any) -> openai.types.chat.ChatCompletion:
    async with openai_client(server, more.pop("key", "test-key"), more.pop("timeout", 10)) as client:
        request = {"model": "m", "messages": [{"role": "user", "content": content}]} | more
        return await client.chat.completions.create(**request)


ASK = {"anthropic": ask_anthropic, "openai": ask_openai}


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def test_both_apis_answer_and_the_log_tells(tmp_path: Path) -> None:
    with JudgeServer(log=tmp_path / "log.jsonl") as server:
        message = run(ask_anthropic(server, system=[{"type": "text", "text": "be brief"}]))
        assert (message.content[0].text, message.stop_reason) == (HELLO, "end_turn")
        assert (message.usage.input_tokens, message.usage.output_tokens) == (4, 4)
        chat = run(ask_openai(server, [{"type": "text", "text": "hello"}]))
        assert (chat.choices[0].message.content, chat.choices[0].finish_reason) == (HELLO, "stop")
        assert (chat.usage.prompt_tokens, chat.usage.completion_tokens) == (2, 4)
        calls, bodies = server.calls(), server.bodies()
        assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == calls
    assert [(call["path"], call["status"], call["completed"]) for call in calls] == [
        ("/v1/messages", 200, True),
        ("/v1/chat/completions", 200, True),
    ]
    assert bodies[calls[0]["body"]]["system"] == [{"type": "text", "text": "be brief"}]


def test_tokens_make_up_the_text() -> None:
    text = "a  b, 10.5\nÜber-straße 日本 🎉 unknown\tx_1"
    assert "".join(tokens(text)) == text
    assert tokens("feature 12:\t10") == ["feature", " ", "12", ":", "\t", "10"]


def test_structured_output_is_taken_and_its_schema_checked(server: JudgeServer) -> None:
    server.configure(faults={})
    for_openai = {"type": "json_schema", "json_schema": {"name": "scores", "strict": True, "schema": SCHEMA}}
    output = {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert run(ask_anthropic(server, output_config=output, extra_body={"temperature": 0})).content[0].text == HELLO
    assert run(ask_openai(server, response_format=for_openai)).choices[0].message.content == HELLO
    loose = {"type": "object", "properties": {"score": {"type": "integer", "minimum": 0}}}
    with pytest.raises(anthropic.BadRequestError, match="additionalProperties"):
        run(ask_anthropic(server, output_config={"format": {"type": "json_schema", "schema": loose}}))
    strict = {"type": "json_schema", "json_schema": {"name": "score", "strict": True, "schema": loose}}
    with pytest.raises(openai.BadRequestError, match="additionalProperties"):
        run(ask_openai(server, response_format=strict))


def test_the_prompt_cache_counts_what_is_marked() -> None:
    marked = [{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}]

    def usage(server: JudgeServer, **more: Any) -> tuple[int, int, int]:
        used = run(ask_anthropic(server, **more)).usage
        return used.input_tokens, used.cache_creation_input_tokens, used.cache_read_input_tokens

    with JudgeServer() as server:
        assert usage(server, system="x" * 400) == (102, 0, 0)
        assert usage(server, system=marked) == (2, 0, 100)
        server.configure(prompt_cache="write")
        assert usage(server, system=marked) == (2, 100, 0)
        server.configure(prompt_cache="real")
        assert [usage(server, system=marked) for _ in range(2)] == [(2, 100, 0), (2, 0, 100)]
        long = [run(ask_openai(server, "x" * 6000)).usage.prompt_tokens_details.cached_tokens for _ in range(2)]
        assert long == [0, 1500 // 128 * 128]


def test_chat_logprobs_make_up_the_text(server: JudgeServer) -> None:
    server.configure(faults={})
    chat = run(ask_openai(server, logprobs=True, top_logprobs=2))
    content = chat.choices[0].logprobs.content
    assert "".join(each.token for each in content) == HELLO
    assert b"".join(bytes(each.bytes) for each in content) == HELLO.encode()
    assert all(each.top_logprobs[0].token == each.token and len(each.top_logprobs) == 2 for each in content)
    with pytest.raises(openai.BadRequestError, match="top_logprobs"):
        run(ask_openai(server, logprobs=True, top_logprobs=21))


def test_a_completion_echoes_its_prompt_with_logprobs(server: JudgeServer) -> None:
    server.configure(faults={})
    prompt = "the\tunknown\ncat\tunknown\n"

    async def complete(**more: Any) -> openai.types.CompletionChoice:
        async with openai_client(server) as client:
            answer = await client.completions.create(**{"model": "m", "prompt": prompt, "logprobs": 11} | more)
        return answer.choices[0]

    echoed = run(complete(echo=True, max_tokens=0))
    logprobs = echoed.logprobs
    assert echoed.text == "".join(logprobs.tokens) == prompt
    offsets = zip(logprobs.text_offset, logprobs.tokens, strict=True)
    assert all(prompt.startswith(token, offset) for offset, token in offsets)
    assert logprobs.token_logprobs[0] is None
    assert logprobs.top_logprobs[0] is None
    first, second = (logprobs.top_logprobs[place] for place in (2, 6))
    assert first != second
    chances = {token: math.exp(logprob) for token, logprob in first.items()}
    assert {str(number) for number in range(11)} | {"unknown"} == set(chances)
    assert sum(chances.values()) == pytest.approx(1)
    longer = run(complete(echo=True, max_tokens=1))
    assert (longer.text, longer.finish_reason) == (prompt + "echo", "length")
    assert longer.logprobs.token_logprobs[-1] == pytest.approx(math.log(0.9))
    assert run(complete(max_tokens=1)).logprobs.tokens == ["echo"]
    assert run(complete(max_tokens=1, prompt="an", echo=True)).logprobs.tokens == ["an", "echo"]


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
def test_faults_that_raise(server: JudgeServer, fault: str) -> None:
    server.configure(faults={fault: 1}, hang=5, retry_after=0.5)
    for module, name, ask in zip((anthropic, openai), EXCEPTIONS[fault], (ask_anthropic, ask_openai), strict=True):
        with pytest.raises(module.APIError) as caught:
            run(ask(server, timeout=0.3 if fault == "timeout" else 10))
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
def test_garbage_is_no_error_of_the_sdk(server: JudgeServer, api: str) -> None:
    server.configure(faults={"garbage": 1})
    with pytest.raises(json.JSONDecodeError):
        run(ASK[api](server))


@pytest.mark.parametrize("fault", BENT)
def test_faults_that_answer(server: JudgeServer, fault: str) -> None:
    server.configure(faults={fault: 1}, latency=0.02)
    text, anthropics_reason, openais_reason = BENT[fault]
    began = time.monotonic()
    message = run(ask_anthropic(server))
    took = time.monotonic() - began
    choice = run(ask_openai(server)).choices[0]
    server.configure(latency=0)
    assert (message.content[0].text, message.stop_reason) == (text, anthropics_reason)
    said = choice.message.refusal if fault == "refusal" else choice.message.content
    assert (said, choice.finish_reason) == (text, openais_reason)
    assert (choice.message.content is None) == (fault == "refusal")
    assert took >= 0.2 or fault != "slow"
    assert server.calls()[-1]["completed"] == (fault == "slow")


def test_shape_loses_the_last_element_line_or_word() -> None:
    assert json.loads(bend('{"why": "x", "scores": [1, 2]}', "shape").text) == {"why": "x", "scores": [1]}
    assert json.loads(bend("[[1], [2]]", "shape").text) == [[1]]
    assert json.loads(bend('{"a": 1, "b": 2}', "shape").text) == {"a": 1}
    assert bend("one\ntwo\n", "shape").text == "one"


def test_a_wrong_key_is_refused_and_never_logged(tmp_path: Path) -> None:
    with JudgeServer(log=tmp_path / "log.jsonl") as server:
        with pytest.raises(anthropic.AuthenticationError, match="invalid x-api-key"):
            run(ask_anthropic(server, key="sk-abcdefxyz"))
        with pytest.raises(openai.AuthenticationError, match=r"provided: sk-ab\*\*\*xyz\. "):
            run(ask_openai(server, key="sk-abcdefxyz"))
        server.configure(echo_key=True)
        for ask in ASK.values():
            with pytest.raises((anthropic.AuthenticationError, openai.AuthenticationError), match="sk-abcdefxyz"):
                run(ask(server, key="sk-abcdefxyz"))
        assert len(server.calls()) == 4
    assert "sk-abcdefxyz" not in (tmp_path / "log.jsonl").read_text()
    assert "authorization" not in (tmp_path / "log.jsonl").read_text()


def test_unknown_models_and_wrong_requests_are_refused() -> None:
    async def without_max_tokens(server: JudgeServer) -> None:
        async with anthropic_client(server) as client:
            await client.post("/v1/messages", body={"model": "m", "messages": []}, cast_to=object)

    with JudgeServer(models=["m"]) as server:
        with pytest.raises(anthropic.NotFoundError, match="not_found_error"):
            run(ask_anthropic(server, model="other"))
        with pytest.raises(openai.NotFoundError) as caught:
            run(ask_openai(server, model="other"))
        assert caught.value.code == "model_not_found"
        for ask in ASK.values():
            with pytest.raises((anthropic.BadRequestError, openai.BadRequestError), match="messages"):
                run(ask(server, messages=[]))
        with pytest.raises(anthropic.BadRequestError, match="max_tokens: Field required"):
            run(without_max_tokens(server))


@pytest.mark.parametrize("api", ASK)
def test_credit_lasts_for_exactly_so_many_answers(api: str) -> None:
    async def many(server: JudgeServer) -> list[Any]:
        return await asyncio.gather(*(ASK[api](server, str(i)) for i in range(10)), return_exceptions=True)

    with JudgeServer(credit=4, latency=0.05) as server:
        outcomes = run(many(server))
        errors = [each for each in outcomes if isinstance(each, Exception)]
        assert len(outcomes) - len(errors) == sum(call["completed"] for call in server.calls()) == 4
        if api == "openai":
            assert {(each.status_code, each.code, each.type) for each in errors} == {
                (429, "insufficient_quota", "insufficient_quota")
            }
        else:
            assert all(isinstance(each, anthropic.BadRequestError) and "credit balance" in str(each) for each in errors)
            server.configure(credit_style="402")
            with pytest.raises(anthropic.PaymentRequiredError, match="billing_error"):
                run(ask_anthropic(server))


async def faults_of_many(server: JudgeServer, order: range) -> dict[str, list[str | None]]:
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
        with JudgeServer(seed=seed, **settings) as server:
            runs.append(run(faults_of_many(server, order)))
    assert runs[0] == runs[1] != runs[2]
    assert {fault for faults in runs[0].values() for fault in faults} == {None, "500", "refusal"}
    counts = [sum(fault is not None for fault in faults) for faults in runs[0].values()]
    assert (min(counts), max(counts)) == (0, 2)


async def ask_at_once(server: JudgeServer, count: int) -> list[Any]:
    """Answers and exceptions of so many different questions over as many connections."""
    http_client = httpx2.AsyncClient(limits=httpx2.Limits(max_connections=None))
    async with openai_client(server).copy(http_client=http_client) as client:
        create, asked = client.chat.completions.create, [[{"role": "user", "content": str(i)}] for i in range(count)]
        calls: list[Any] = [create(model="m", messages=messages) for messages in asked]
        return await asyncio.gather(*calls, return_exceptions=True)


def test_too_many_at_once_are_turned_away_at_once() -> None:
    with JudgeServer(max_in_flight=5, latency=0.5) as server:
        outcomes = run(ask_at_once(server, 12))
        assert sum(isinstance(each, openai.RateLimitError) for each in outcomes) == 7
        assert max(call["in_flight"] for call in server.calls() if call["status"] == 200) == 5


def test_a_burst_is_served_at_once() -> None:
    with JudgeServer(latency=0.05) as server:
        answers = run(ask_at_once(server, 200))
        assert len({answer.choices[0].message.content for answer in answers}) == 200
        calls = server.calls()
        assert sum(call["completed"] for call in calls) == 200
        # One after the other they would take ten seconds.
        assert max(call["answered"] for call in calls) - min(call["received"] for call in calls) < 5


def test_who_hangs_up_is_logged_and_forgotten() -> None:
    with JudgeServer(latency=5) as server:
        with pytest.raises(anthropic.APITimeoutError):
            run(ask_anthropic(server, timeout=0.2))
        (call,) = server.calls()
        assert (call["status"], call["completed"]) == (None, False)
        assert call["answered"] - call["received"] < 4


def test_another_script_and_mistaken_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def answer(messages, body):\n    return body['model'] + ' '.join(each['role'] for each in messages)\n"
    (tmp_path / "own_script.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with JudgeServer(script="own_script") as server:
        assert run(ask_anthropic(server, system="s")).content[0].text == "msystem user"
        for wrong in ({"latncy": 1}, {"faults": {"600": 1}}, {"script": "nowhere"}, {"prompt_cache": "maybe"}):
            with pytest.raises(ValueError, match=next(iter(wrong)) if "script" not in wrong else "nowhere"):
                server.configure(**wrong)
    with pytest.raises(RuntimeError, match="did not start"), JudgeServer(latncy=1):
        pass


def anthropic_items(*names: str) -> list[Any]:
    params = {"model": "m", "max_tokens": 100}
    return [{"custom_id": name, "params": params | {"messages": [{"role": "user", "content": name}]}} for name in names]


def test_an_anthropic_batch_from_creation_to_results() -> None:
    names = [f"item-{i}" for i in range(40)]

    async def create(server: JudgeServer) -> str:
        async with anthropic_client(server) as client:
            batch = await client.messages.batches.create(requests=anthropic_items(*names))
            assert (batch.processing_status, batch.request_counts.processing) == ("in_progress", 40)
            return batch.id

    async def collect(server: JudgeServer, name: str) -> None:
        async with anthropic_client(server) as client:
            batch = await client.messages.batches.retrieve(name)
            assert batch.processing_status == "ended"
            results = [result async for result in await client.messages.batches.results(name)]
        assert all(result.custom_id != name for result, name in zip(results, names, strict=True))
        kinds = {result.custom_id: result.result.type for result in results}
        assert set(kinds) == set(names)
        assert set(kinds.values()) == {"succeeded", "errored", "expired"}
        counts = batch.request_counts
        assert counts.succeeded == list(kinds.values()).count("succeeded")
        assert counts.succeeded + counts.errored + counts.expired == 40
        errors = {result.result.error.error.type for result in results if result.result.type == "errored"}
        assert errors == {"api_error", "invalid_request_error"}

    with JudgeServer(batch_seconds=0.4, batch_faults={"errored": 0.2, "expired": 0.2, "invalid": 0.2}) as server:
        name = run(create(server))
        time.sleep(0.5)
        run(collect(server, name))


def test_anthropic_batches_listed_canceled_and_refused() -> None:
    async def story(server: JudgeServer) -> None:
        async with anthropic_client(server) as client:
            batches = client.messages.batches
            ids = [(await batches.create(requests=anthropic_items("a", "b"))).id for _ in range(3)]
            page = await batches.list(limit=2)
            assert ([each.id for each in page.data], page.has_more) == ([ids[2], ids[1]], True)
            assert [each.id async for each in batches.list(limit=2)] == ids[::-1]
            assert (await batches.cancel(ids[0])).processing_status == "canceling"
            assert (await batches.retrieve(ids[0])).request_counts.canceled == 2
            assert [each.result.type async for each in await batches.results(ids[0])] == ["canceled"] * 2
            for wrong in (["a", "a"], ["a b"], ["x" * 65], []):
                with pytest.raises(anthropic.BadRequestError, match="requests"):
                    await batches.create(requests=anthropic_items(*wrong))
            with pytest.raises(anthropic.NotFoundError):
                await batches.retrieve("msgbatch_nowhere")

    with JudgeServer(batch_seconds=60) as server:
        run(story(server))


def openai_lines(*names: str, model: str = "m") -> bytes:
    endpoint = {"method": "POST", "url": "/v1/chat/completions"}
    bodies = {name: {"model": model, "messages": [{"role": "user", "content": name}]} for name in names}
    return b"".join(
        json.dumps({"custom_id": name, "body": body} | endpoint).encode() + b"\n" for name, body in bodies.items()
    )


async def openai_batch(client: openai.AsyncOpenAI, lines: bytes) -> openai.types.Batch:
    file = await client.files.create(file=("requests.jsonl", lines), purpose="batch")
    assert (await client.files.content(file.id)).content == lines
    endpoint: Any = "/v1/chat/completions"
    return await client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", metadata={"run": "7"}
    )


async def read_jsonl(client: openai.AsyncOpenAI, name: str | None) -> list[Any]:
    assert name is not None
    return [json.loads(line) for line in (await client.files.content(name)).text.splitlines()]


def test_an_openai_batch_from_file_to_files() -> None:
    names = [f"item-{i}" for i in range(40)]

    async def story(server: JudgeServer) -> None:
        async with openai_client(server) as client:
            batch = await openai_batch(client, openai_lines(*names))
            assert (batch.status, batch.metadata) == ("validating", {"run": "7"})
            await asyncio.sleep(0.25)
            assert (await client.batches.retrieve(batch.id)).status == "in_progress"
        await asyncio.sleep(0.5)
        async with openai_client(server) as client:
            done = await client.batches.retrieve(batch.id)
            assert done.status == "completed"
            output, errors = [await read_jsonl(client, name) for name in (done.output_file_id, done.error_file_id)]
            assert [each.id async for each in client.batches.list()] == [batch.id]
        assert sorted(line["custom_id"] for line in output + errors) == sorted(names)
        assert (done.request_counts.completed, done.request_counts.failed) == (len(output), len(errors))
        assert output[0]["response"]["body"]["choices"][0]["message"]["content"].startswith("echo ")
        assert {line["response"]["status_code"] for line in errors} == {400, 500}

    with JudgeServer(batch_seconds=0.7, batch_faults={"errored": 0.2, "invalid": 0.2}) as server:
        run(story(server))


def test_openai_batches_that_expire_fail_or_are_cancelled() -> None:
    async def story(server: JudgeServer) -> None:
        async with openai_client(server) as client:
            expired = await openai_batch(client, openai_lines("a", "b"))
            assert (expired.status, expired.output_file_id) == ("expired", None)
            errors = await read_jsonl(client, expired.error_file_id)
            assert {(line["error"]["code"], line["response"]) for line in errors} == {("batch_expired", None)}
            for lines, code in (
                (openai_lines("a") + openai_lines("a"), "duplicate_custom_id"),
                (openai_lines("a") + openai_lines("b", model="other"), "mismatched_model"),
                (b"{\n", "invalid_json_line"),
            ):
                failed = await openai_batch(client, lines)
                assert (failed.status, failed.errors.data[0].code) == ("failed", code)
            server.configure(batch_seconds=60)
            running = await openai_batch(client, openai_lines("a", "b"))
            assert (await client.batches.cancel(running.id)).status == "cancelling"
            assert (await client.batches.retrieve(running.id)).status == "cancelled"
            assert (await client.models.list()).data[0].object == "model"

    with JudgeServer(batch_faults={"expired": 1}) as server:
        run(story(server))


def test_a_batch_whose_creation_went_unanswered_exists() -> None:
    async def story(server: JudgeServer) -> None:
        async with anthropic_client(server) as client:
            with pytest.raises(anthropic.APIConnectionError):
                await client.messages.batches.create(requests=anthropic_items("a"))
            server.configure(faults={})
            assert len((await client.messages.batches.list()).data) == 1

    with JudgeServer(faults={"drop": 1}, faults_on="everything") as server:
        run(story(server))
