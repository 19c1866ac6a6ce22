"""What the fake APIs refuse: wrong keys and requests, calls without credit, and too many calls at once."""

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from tests.fakes import FakeApis
from tests.fakes_tests.calls import ASK, anthropic_client, ask_anthropic, ask_openai, openai_client, run


def test_a_wrong_key_is_refused_and_never_logged(tmp_path: Path) -> None:
    with FakeApis(log=tmp_path / "log.jsonl") as server:
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
    async def without_max_tokens(server: FakeApis) -> None:
        async with anthropic_client(server) as client:
            await client.post("/v1/messages", body={"model": "m", "messages": []}, cast_to=object)

    with FakeApis(models=["m"]) as server:
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
    async def many(server: FakeApis) -> list[Any]:
        return await asyncio.gather(*(ASK[api](server, str(i)) for i in range(10)), return_exceptions=True)

    with FakeApis(credit=4, latency=0.05) as server:
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


async def ask_at_once(server: FakeApis, count: int) -> list[Any]:
    """Answers and exceptions of so many different questions over as many connections."""
    http_client = httpx2.AsyncClient(limits=httpx2.Limits(max_connections=None))
    async with openai_client(server).copy(http_client=http_client) as client:
        create, asked = client.chat.completions.create, [[{"role": "user", "content": str(i)}] for i in range(count)]
        calls: list[Any] = [create(model="m", messages=messages) for messages in asked]
        return await asyncio.gather(*calls, return_exceptions=True)


def test_too_many_at_once_are_turned_away_at_once() -> None:
    with FakeApis(max_in_flight=5, latency=0.5) as server:
        outcomes = run(ask_at_once(server, 12))
        assert sum(isinstance(each, openai.RateLimitError) for each in outcomes) == 7
        assert max(call["in_flight"] for call in server.calls() if call["status"] == 200) == 5


def test_a_burst_is_served_at_once() -> None:
    with FakeApis(latency=0.5) as server:
        answers = run(ask_at_once(server, 200))
        assert len({answer.choices[0].message.content for answer in answers}) == 200
        calls = server.calls()
        assert sum(call["completed"] for call in calls) == 200
        # One after the other they would take 100 seconds.
        assert max(call["answered"] for call in calls) - min(call["received"] for call in calls) < 60


def test_who_hangs_up_is_logged_and_forgotten() -> None:
    with FakeApis(latency=300) as server:
        with pytest.raises(anthropic.APITimeoutError):
            run(ask_anthropic(server, timeout=1))
        (call,) = server.calls()
        assert (call["status"], call["completed"]) == (None, False)
        assert call["answered"] - call["received"] < 250
