"""Keys: where they are looked for, to whom they are sent, and that they do not show themselves."""

import asyncio
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from autointerp.llm import keys, specs
from autointerp.llm.faults import CallError
from autointerp.llm.limits import Limits
from autointerp.llm.providers import PROVIDERS
from autointerp.llm.resolver import make_provider
from autointerp.llm.types import Completion, Message, Request
from autointerp.sections import Runtime
from sae.common.errors import UserError
from tests.fakes import FakeApis

VARIABLES = {name: known.key_variable for name, known in PROVIDERS.all().items() if known.key_variable}
KEY = "sk-company-0123456789"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No keys but the test's own, and a working directory without .env."""
    for variable in (*VARIABLES.values(), "ANTHROPIC_BASE_URL", "OPENAI_BASE_URL", "GEMINI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeApis]:
    with FakeApis() as server:
        yield server


def ask(model: str) -> Completion:
    async def once() -> Completion:
        judge = make_provider(model, Runtime(), Limits(100))
        try:
            completion: Completion = await judge.complete(Request(model, (Message("user", "hello"),), 10))
            return completion
        finally:
            await judge.close()

    return asyncio.run(once())


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_the_environment_comes_before_the_dotenv_file(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, variable = specs.parse(f"{provider}/m"), VARIABLES[provider]
    with pytest.raises(UserError) as caught:
        keys.find(spec)
    assert variable in str(caught.value)
    assert ".env" in str(caught.value)
    assert "\n" not in str(caught.value)
    others = "".join(f"{other}=other\n" for other in VARIABLES.values() if other != variable)
    Path(".env").write_text(others)
    with pytest.raises(UserError, match=variable):
        keys.find(spec)
    Path(".env").write_text(f"{others}# a comment\nexport {variable}='from file'\n")
    assert keys.find(spec).get_secret_value() == "from file"
    monkeypatch.setenv(variable, "")
    assert keys.find(spec).get_secret_value() == "from file"
    monkeypatch.setenv(variable, " from environment\n")
    assert keys.find(spec).get_secret_value() == "from environment"


def test_a_server_of_ones_own_gets_no_companys_key(fake: FakeApis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake lets in exactly one key, so an answer tells which one arrived."""
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/elsewhere")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: Bearer {KEY}\nX-Account: {KEY}")
    model = f"{fake.openai_url}#m"
    fake.configure(key=keys.NO_KEY)
    assert ask(model).text == "echo 2cf24dba"
    assert not [name for name in fake.calls()[-1]["headers"] if "openai" in name or "account" in name]
    fake.configure(key="my-own")
    with pytest.raises(CallError, match="AUTOINTERP_API_KEY"):
        ask(model)
    monkeypatch.setenv("AUTOINTERP_API_KEY", "my-own")
    assert ask(model).text == "echo 2cf24dba"


@pytest.mark.parametrize("provider", ["anthropic", "openai", "google"])
def test_a_company_gets_its_own_key(provider: str, fake: FakeApis, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, variable in VARIABLES.items():
        monkeypatch.setenv(variable, f"key-of-{name}")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.url + "/")
    monkeypatch.setenv("OPENAI_BASE_URL", fake.openai_url)
    monkeypatch.setenv("GEMINI_BASE_URL", fake.openai_url)
    fake.configure(key=f"key-of-{provider}")
    assert ask(f"{provider}/m").text == "echo 2cf24dba"


def test_another_address_is_in_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("anthropic", "openai", "google"):
        known, spec = PROVIDERS.get(provider), specs.parse(f"{provider}/m")
        variable, usual = known.url_variable, known.url
        assert (keys.address(spec), keys.fingerprint(spec)) == (usual, "")
        monkeypatch.setenv(variable, usual + "/")
        assert keys.fingerprint(spec) == ""
        monkeypatch.setenv(variable, "http://localhost:1/v1")
        assert keys.fingerprint(spec) == "http://localhost:1/v1"
    assert keys.address(specs.parse("http://localhost:2/v1/#m")) == "http://localhost:2/v1"


def test_an_address_in_the_dotenv_file_goes_with_the_key_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway's key is not sent to the company, nor the company's key where a file in some folder says."""
    spec, gateway = specs.parse("openai/m"), "https://gateway.example/v1"
    Path(".env").write_text(f"OPENAI_BASE_URL={gateway}/\n")
    assert keys.address(spec) == PROVIDERS.get("openai").url
    Path(".env").write_text(f"OPENAI_BASE_URL={gateway}/\nOPENAI_API_KEY={KEY}\n")
    assert (keys.address(spec), keys.fingerprint(spec)) == (gateway, gateway)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://other.example/v1")
    assert keys.address(spec) == "https://other.example/v1"
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    assert keys.address(spec) == PROVIDERS.get("openai").url


@pytest.mark.parametrize("user", ["user:pw@", "user@", ":pw@"])
def test_an_address_with_a_password_is_refused(user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("anthropic", "openai", "google"):
        variable = PROVIDERS.get(provider).url_variable
        monkeypatch.setenv(variable, f"http://{user}localhost:1/v1")
        with pytest.raises(UserError, match=f"{variable}.*password") as caught:
            keys.address(specs.parse(f"{provider}/m"))
        assert "pw" not in str(caught.value)
    with pytest.raises(UserError, match="password") as caught:
        specs.parse(f"http://{user}localhost:1/v1#m")
    assert "pw" not in str(caught.value)


def test_an_address_with_a_query_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK would append the path to it, and a key in it would be written into results and the cache."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://localhost:1/v1?key={KEY}")
    for ask_for in (lambda: keys.address(specs.parse("openai/m")), lambda: specs.parse(f"http://h/v1?key={KEY}#m")):
        with pytest.raises(UserError, match="query") as caught:
            ask_for()
        assert KEY not in str(caught.value)


@pytest.mark.parametrize("host", ["[::1", "[zz]", "h:99999", "h:port", "user:pw@[::1"])
def test_an_address_that_is_no_url_is_one_line(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{host}/v1")
    for ask_for in (lambda: keys.address(specs.parse("openai/m")), lambda: specs.parse(f"http://{host}/v1#m")):
        with pytest.raises(UserError, match="cannot be read") as caught:
            ask_for()
        assert "pw" not in str(caught.value)


def test_a_secret_does_not_show_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = SecretStr(KEY)
    for shown in (f"{secret}", repr(secret), str([secret]), "%s %r" % (secret, {"key": secret})):  # noqa: UP031
        assert KEY not in shown
    assert keys.redact(f"bad key {KEY}!", secret) == "bad key [key]!"
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for model in ("anthropic/m", "openai/m"):
        judge: Any = make_provider(model, Runtime(), Limits(100))
        assert KEY not in f"{judge} {vars(judge)}"
        with pytest.raises(CallError) as caught:
            judge.read({}, Request(model, (), 1))
        lines = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
        assert KEY not in "".join(lines)
        asyncio.run(judge.close())
