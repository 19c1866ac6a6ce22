"""The fake APIs' answers through the real SDKs: texts, schemas, prompt cache, log-probabilities, and the log."""

import json
import math
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.fakes import FakeApis
from tests.fakes.logprobs import tokens
from tests.fakes_tests.calls import HELLO, SCHEMA, ask_anthropic, ask_openai, openai_client, run


def test_both_apis_answer_and_the_log_tells(tmp_path: Path) -> None:
    with FakeApis(log=tmp_path / "log.jsonl") as server:
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


def test_structured_output_is_taken_and_its_schema_checked(server: FakeApis) -> None:
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

    def usage(server: FakeApis, **more: Any) -> tuple[int, int, int]:
        used = run(ask_anthropic(server, **more)).usage
        return used.input_tokens, used.cache_creation_input_tokens, used.cache_read_input_tokens

    with FakeApis() as server:
        assert usage(server, system="x" * 400) == (102, 0, 0)
        assert usage(server, system=marked) == (2, 0, 100)
        server.configure(prompt_cache="write")
        assert usage(server, system=marked) == (2, 100, 0)
        server.configure(prompt_cache="real")
        assert [usage(server, system=marked) for _ in range(2)] == [(2, 100, 0), (2, 0, 100)]
        long = [run(ask_openai(server, "x" * 6000)).usage.prompt_tokens_details.cached_tokens for _ in range(2)]
        assert long == [0, 1500 // 128 * 128]


def test_chat_logprobs_make_up_the_text(server: FakeApis) -> None:
    server.configure(faults={})
    chat = run(ask_openai(server, logprobs=True, top_logprobs=2))
    content = chat.choices[0].logprobs.content
    assert "".join(each.token for each in content) == HELLO
    assert b"".join(bytes(each.bytes) for each in content) == HELLO.encode()
    assert all(each.top_logprobs[0].token == each.token and len(each.top_logprobs) == 2 for each in content)
    with pytest.raises(openai.BadRequestError, match="top_logprobs"):
        run(ask_openai(server, logprobs=True, top_logprobs=21))


def test_a_completion_echoes_its_prompt_with_logprobs(server: FakeApis) -> None:
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
    first, second = (logprobs.top_logprobs[index] for index in (2, 6))
    assert first != second
    chances = {token: math.exp(logprob) for token, logprob in first.items()}
    assert {str(number) for number in range(11)} | {"unknown"} == set(chances)
    assert sum(chances.values()) == pytest.approx(1)
    longer = run(complete(echo=True, max_tokens=1))
    assert (longer.text, longer.finish_reason) == (prompt + "echo", "length")
    assert longer.logprobs.token_logprobs[-1] == pytest.approx(math.log(0.9))
    assert run(complete(max_tokens=1)).logprobs.tokens == ["echo"]
    assert run(complete(max_tokens=1, prompt="an", echo=True)).logprobs.tokens == ["an", "echo"]


def test_another_script_and_mistaken_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def answer(messages, body):\n    return body['model'] + ' '.join(each['role'] for each in messages)\n"
    (tmp_path / "own_script.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with FakeApis(script="own_script") as server:
        assert run(ask_anthropic(server, system="s")).content[0].text == "msystem user"
        for wrong in ({"latncy": 1}, {"faults": {"600": 1}}, {"script": "nowhere"}, {"prompt_cache": "maybe"}):
            with pytest.raises(ValueError, match=next(iter(wrong)) if "script" not in wrong else "nowhere"):
                server.configure(**wrong)
    with pytest.raises(RuntimeError, match="did not start"), FakeApis(latncy=1):
        pass
