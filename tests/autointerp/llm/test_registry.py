"""The registered providers: what their model specs look like, what they can do, and one that a plugin adds."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autointerp.llm import keys, specs
from autointerp.llm.ask import ask_once
from autointerp.llm.limits import Limits
from autointerp.llm.pricing import load_prices
from autointerp.llm.providers import PROVIDERS, Capabilities, Provider, ProviderType
from autointerp.llm.resolver import LiveResolver, make_provider
from autointerp.llm.specs import ModelSpec
from autointerp.llm.types import Completion, EmbeddingRequest, Message, Request, Usage
from autointerp.sections import Runtime
from sae.common.errors import UserError

BUILT_IN = ("anthropic", "openai", "google", "compatible", "hf", "vllm", "embedding")
SPECS = {
    "anthropic": "anthropic/claude-x", "openai": "openai/ft:m/x", "google": "google/gemini-x",
    "compatible": "http://localhost:1/v1#m",
    "hf": "hf/org/name", "vllm": "vllm/org/name", "embedding": "embedding/org/name",
}  # fmt: skip


class EchoProvider(Provider):
    """Repeats the question and the key."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(f"echo {spec.model}")
        self._secret = keys.find(spec)

    async def complete(self, request: Request) -> Completion:
        return Completion(f"{request.messages[-1].content} {self._secret.get_secret_value()}", usage=Usage(1, 3, 3))


def open_echo(spec: ModelSpec, runtime: Runtime, limits: Limits) -> Provider:
    return EchoProvider(spec)


ECHO = ProviderType(
    "echo", "echo/MODEL", "repeats the question", open_echo, Capabilities(logprobs="depends"), key_variable="ECHO_KEY"
)


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A provider that a plugin has registered."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECHO_KEY", "key-of-echo")
    monkeypatch.setitem(PROVIDERS._parts, "echo", ECHO)
    specs.parse.cache_clear()
    yield
    specs.parse.cache_clear()


def test_the_built_in_providers_are_listed_in_their_order() -> None:
    assert PROVIDERS.names == BUILT_IN
    hosted = "anthropic/MODEL, openai/MODEL, google/MODEL, http://host:port/v1#MODEL"
    assert specs.forms() == f"{hosted}, hf/NAME|DIR, vllm/NAME|DIR"
    assert [line.split(" ")[0] for line in specs.help_lines()] == specs.forms().split(", ")
    for name, line in zip(BUILT_IN, specs.help_lines(), strict=False):
        assert (PROVIDERS.get(name).key_variable or "in this process") in line


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_spec_has_its_provider_and_what_that_can_do(name: str) -> None:
    spec = specs.parse(SPECS[name])
    assert (spec.provider, spec.capabilities) == (name, PROVIDERS.get(name).capabilities)
    assert specs.is_spec(SPECS[name]) == (name != "embedding")
    assert specs.is_free(SPECS[name]) == spec.is_free == (name in ("hf", "vllm", "embedding"))
    assert (SPECS[name] in load_prices()) == spec.is_free


def test_what_models_can_do() -> None:
    result = {name: specs.parse(text) for name, text in SPECS.items()}
    assert [name for name, spec in result.items() if spec.has_logprobs] == ["openai", "hf", "vllm"]
    assert [name for name, spec in result.items() if spec.may_have_logprobs] == ["openai", "compatible", "hf", "vllm"]
    assert [name for name, spec in result.items() if spec.has_prompt_logprobs] == ["hf", "vllm"]
    assert [name for name, spec in result.items() if spec.may_have_prompt_logprobs] == ["compatible", "hf", "vllm"]
    with_schema = ["anthropic", "openai", "google", "compatible", "vllm"]
    assert [name for name, spec in result.items() if spec.has_schema] == with_schema
    assert [name for name, spec in result.items() if spec.has_batches] == ["anthropic", "openai"]
    with pytest.raises(UserError, match=r"anthropic/claude-x takes no temperature; set judgement.temperature=null"):
        specs.refuse_temperature(result["anthropic"], 0.0, "judgement.temperature")
    specs.refuse_temperature(result["anthropic"], None, "judgement.temperature")
    specs.refuse_temperature(result["openai"], 0.0, "judgement.temperature")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules-5", "unknown model 'rules-5'; write anthropic/MODEL, openai/MODEL"),
        ("claude", "unknown model 'claude'; write"),
        ("compatible/m", "unknown model 'compatible/m'; write"),
        ("openai/", "model spec 'openai/' names no model; write openai/MODEL"),
        ("http://host:1/v1", "is not complete: write http://host:port/v1#MODEL"),
    ],
)
def test_what_is_no_spec_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        specs.parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_known_for_models_in_this_process_alone(tmp_path: Path) -> None:
    assert specs.parse(f"hf/{tmp_path}").folder == tmp_path
    assert specs.parse(f"embedding/{tmp_path}").folder == tmp_path
    assert specs.parse("hf/org/name").folder is None
    assert specs.parse(f"openai/{tmp_path}").folder is None


def test_a_provider_of_a_plugin_answers_from_spec_to_cache(echo: None, tmp_path: Path) -> None:
    """Parsed, listed, opened with its key, asked through the client, and its answer kept."""
    spec = specs.parse("echo/parrot")
    assert (spec.provider, spec.model, spec.may_have_logprobs, spec.has_schema) == ("echo", "parrot", True, False)
    assert specs.is_spec("echo/parrot")
    assert specs.forms().endswith(", echo/MODEL")
    assert specs.help_lines()[-1].split() == ["echo/MODEL", "repeats", "the", "question"]
    request = Request("echo/parrot", (Message("user", "hello"),), 10)
    for calls in (1, 0):
        answers: dict[int, Completion] = {}
        with LiveResolver(["echo/parrot"], Runtime(), tmp_path) as resolver:
            resolver.resolve([ask_once(request, lambda answer: answer)], answers.__setitem__, lambda: None)
            assert answers[0].text == "hello key-of-echo"
            assert (resolver.tally.calls, resolver.tally.cached) == (calls, 1 - calls)
    assert "echo/parrot" not in load_prices()


def test_a_plugins_key_is_required_and_named(echo: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECHO_KEY")
    with pytest.raises(UserError, match="echo/parrot needs a key: set ECHO_KEY"):
        make_provider("echo/parrot", Runtime(), Limits(1))


def test_a_provider_that_does_not_embed_says_so(echo: None) -> None:
    provider = make_provider("echo/parrot", Runtime(), Limits(1))
    with pytest.raises(UserError, match="echo/parrot embeds no texts"):
        asyncio.run(provider.embed(EmbeddingRequest("echo/parrot", ("a",))))
    with pytest.raises(UserError, match="embeds texts and writes none"):
        asyncio.run(Provider("any").complete(Request("embedding/m", (), 1)))


def test_specs_and_help_load_no_sdk_and_no_torch() -> None:
    heavy = "('anthropic', 'openai', 'httpx2', 'torch', 'transformers', 'pydantic', 'numpy')"
    code = (
        "import sys\nfrom autointerp.llm import specs\nspecs.help_lines()\n"
        f"[specs.parse(text) for text in {list(SPECS.values())}]\nprint([m for m in {heavy} if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
