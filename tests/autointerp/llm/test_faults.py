"""What goes wrong with a call, told apart by status and body as the APIs word them, in one line without the key."""

import asyncio
import email.utils
import json
import random
import time

import pytest
from pydantic import SecretStr

from autointerp.llm import faults, specs
from autointerp.llm.faults import CallError
from autointerp.llm.limits import Limits
from autointerp.llm.providers import PROVIDERS
from autointerp.llm.resolver import make_provider
from autointerp.llm.types import Message, Request
from autointerp.sections import Runtime
from tests.fakes import FakeApis

KEY = "sk-0123456789abcdefghijklmnop"
LONGEST = 450


def anthropic_body(kind: str, message: str) -> str:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})


def openai_body(kind: str, message: str, code: str | None = None) -> str:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}, indent=2)


NO_CREDIT = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade."
OWN_LIMIT = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
MODERATED = 'openai/gpt-4o requires moderation. Your input was flagged for "violence". No credits were charged.'
QUOTA = "You exceeded your current quota, please check your plan and billing details."
SLOWLY = "Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Used 29999."
CASES = [
    ("anthropic", 400, anthropic_body("invalid_request_error", "max_tokens: Field required"), "rejected"),
    ("anthropic", 400, anthropic_body("invalid_request_error", NO_CREDIT), "fatal"),
    ("anthropic", 400, anthropic_body("invalid_request_error", OWN_LIMIT), "fatal"),
    ("anthropic", 401, anthropic_body("authentication_error", "invalid x-api-key"), "fatal"),
    ("anthropic", 402, anthropic_body("billing_error", "There is a problem with your billing"), "fatal"),
    ("anthropic", 403, anthropic_body("permission_error", "Your API key may not use this resource"), "fatal"),
    ("anthropic", 404, anthropic_body("not_found_error", "model: claude-7"), "fatal"),
    ("anthropic", 413, anthropic_body("request_too_large", "Request exceeds the maximum size"), "rejected"),
    ("anthropic", 429, anthropic_body("rate_limit_error", "would exceed your organization's rate limit"), "rate_limit"),
    ("anthropic", 500, anthropic_body("api_error", "Internal server error"), "transient"),
    ("anthropic", 504, anthropic_body("timeout_error", "Request timed out"), "transient"),
    ("anthropic", 529, anthropic_body("overloaded_error", "Overloaded"), "rate_limit"),
    ("openai", 400, openai_body("invalid_request_error", "Invalid schema", "invalid_value"), "rejected"),
    ("openai", 400, openai_body("invalid_request_error", "Too long", "context_length_exceeded"), "rejected"),
    ("openai", 401, openai_body("invalid_request_error", "Incorrect API key provided", "invalid_api_key"), "fatal"),
    ("openai", 403, openai_body("invalid_request_error", "Country, region, or territory not supported"), "fatal"),
    ("openai", 403, json.dumps({"error": {"code": 403, "message": MODERATED}}), "rejected"),
    ("openai", 404, openai_body("invalid_request_error", "The model `x` does not exist", "model_not_found"), "fatal"),
    ("openai", 409, openai_body("conflict", "Resource was updated by another request"), "transient"),
    ("openai", 422, openai_body("invalid_request_error", "Unprocessable"), "rejected"),
    ("openai", 429, openai_body("tokens", SLOWLY, "rate_limit_exceeded"), "rate_limit"),
    ("openai", 429, openai_body("insufficient_quota", QUOTA, "insufficient_quota"), "fatal"),
    ("openai", 429, openai_body("billing", "No credit", "credit_balance_exhausted"), "fatal"),
    ("openai", 429, openai_body("billing", "Reached", "billing_hard_limit_reached"), "fatal"),
    ("openai", 500, openai_body("server_error", "The server had an error"), "transient"),
    ("openai", 502, "<html>\n<h1>502 Bad Gateway</h1>\n</html>", "transient"),
    ("openai", 503, openai_body("server_error", "overloaded; your credit balance is fine"), "transient"),
    ("openai", 418, "", "rejected"),
]


@pytest.mark.parametrize(("provider", "status", "body", "kind"), CASES)
def test_kinds_by_status_and_body(provider: str, status: int, body: str, kind: str) -> None:
    spec = specs.parse(f"{provider}/some-model")
    variable = PROVIDERS.get(provider).key_variable or ""
    error = faults.status_error(spec, SecretStr(KEY), variable, status, body, {"retry-after": "7"})
    assert (error.kind, error.retry_after) == (kind, 7)
    stated = str(error)
    assert stated.startswith(f"{provider}/some-model: HTTP {status}")
    assert "\n" not in stated
    assert (variable in stated) == (status == 401)
    assert ("credit is left" in stated) == (kind == "fatal" and status in (400, 402, 429))
    assert ("run the same command" in stated) == (kind == "fatal")


def test_googles_400_for_a_wrong_key_is_fatal_and_names_the_variable() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    fault = {"code": 400, "message": "API key not valid. Please pass a valid API key.", "details": details}
    other = {"code": 400, "message": "Invalid reasoning_effort: minimal", "status": "INVALID_ARGUMENT"}
    for error, kind in ((fault, "fatal"), (other, "rejected")):
        body = json.dumps([{"error": error}])
        raised = faults.status_error(specs.parse("google/m"), SecretStr(KEY), "GEMINI_API_KEY", 400, body, {})
        assert raised.kind == kind
        assert ("check GEMINI_API_KEY" in str(raised)) == (kind == "fatal")
        assert "HTTP 400" in str(raised)


def test_a_flood_of_words_is_cut_and_the_key_taken_out() -> None:
    spec = specs.parse("http://localhost:1/v1#m")
    for status in (400, 401, 500):
        body = f"{KEY}\n\tand {KEY} " + f"bad {KEY} {{0}} %s\n" * 1000
        stated = str(faults.status_error(spec, SecretStr(KEY), "AUTOINTERP_API_KEY", status, body, {}))
        assert len(stated) < LONGEST
        assert "\n" not in stated
        assert KEY[:8] not in stated
        broken = faults.broken(spec, SecretStr(KEY), body)
        assert (broken.kind, KEY[:8] in str(broken), len(str(broken)) < LONGEST) == ("transient", False, True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12),
        ({"retry-after": " 0.25 "}, 0.25),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after-ms": "-20"}, 0),
        ({"retry-after": email.utils.formatdate(0, usegmt=True)}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "nan", "retry-after": "1e999"}, None),
        ({"retry-after": "Wed, 99 Nov 2026 99:99:99 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 +99999999999999999999"}, None),
    ],
)
def test_how_long_a_response_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert faults.retry_after(headers) == seconds


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_dates_to_wait_for(zone: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        results = [
            (ahead, faults.retry_after({"retry-after": email.utils.formatdate(time.time() + ahead, usegmt=usegmt)}))
            for ahead in (30, 3600)
            for usegmt in (True, False)
        ]
    time.tzset()
    for ahead, result in results:
        assert result is not None
        assert ahead - 20 < result <= ahead


def test_no_rubbish_breaks_the_reading_of_headers() -> None:
    rng = random.Random(0)
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    for _ in range(5000):
        letters = list(date)
        for _ in range(rng.randint(1, 8)):
            letters[rng.randrange(len(letters))] = rng.choice("0123456789 ,:+-JanOctZ\x00é")
        result = faults.retry_after({"retry-after": "".join(letters)})
        assert result is None or 0 <= result < 1e12


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_a_key_that_the_server_repeats_is_not_shown(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(model: str) -> None:
        judge = make_provider(model, Runtime(), Limits(100))
        try:
            await judge.complete(Request(model, (Message("user", "hello"),), 10))
        finally:
            await judge.close()

    variable = PROVIDERS.get(provider).key_variable or ""
    with FakeApis(echo_key=True) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.setenv(variable, KEY)
        with pytest.raises(CallError) as caught:
            asyncio.run(ask(f"{provider}/m"))
    stated = str(caught.value)
    assert (caught.value.kind, KEY in stated, "[key]" in stated) == ("fatal", False, True)
    assert variable in stated
    assert "\n" not in stated
    assert len(stated) < LONGEST
