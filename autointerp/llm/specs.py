"""Reads model specs, such as `anthropic/MODEL`, by the registered providers. Loads no SDK and no pydantic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from autointerp.llm.providers import PROVIDERS, Capabilities, ProviderType
from sae.common.errors import UserError


@dataclass(frozen=True)
class ModelSpec:
    """Names a model of a provider."""

    text: str
    """The whole spec, as it is written in configs and results."""
    provider: str
    """The provider's name."""
    model: str
    """The model's name at its provider, or a directory."""
    capabilities: Capabilities
    base_url: str | None = None
    """The server's address, where the spec holds it."""

    @property
    def has_logprobs(self) -> bool:
        """Whether generated tokens are sure to come with log-probabilities."""
        return self.capabilities.logprobs == "always"

    @property
    def may_have_logprobs(self) -> bool:
        """Whether generated tokens can come with log-probabilities."""
        return self.capabilities.logprobs != "never"

    @property
    def has_prompt_logprobs(self) -> bool:
        """Whether the log-probabilities of the prompt's tokens are sure to be there."""
        return self.capabilities.prompt_logprobs == "always"

    @property
    def may_have_prompt_logprobs(self) -> bool:
        """Whether the log-probabilities of the prompt's tokens can be there."""
        return self.capabilities.prompt_logprobs != "never"

    @property
    def has_schema(self) -> bool:
        """Whether the provider can hold an answer to a JSON schema."""
        return self.capabilities.json_schema

    @property
    def has_batches(self) -> bool:
        """Whether the provider has a batch API."""
        return self.capabilities.batches

    @property
    def is_free(self) -> bool:
        """Whether calls cost nothing, because the model runs in this process."""
        return self.capabilities.in_process

    @property
    def folder(self) -> Path | None:
        """The directory with the model's files, if it runs in this process and comes from one."""
        folder = Path(self.model).expanduser()
        return folder if self.is_free and folder.is_dir() else None


@lru_cache(maxsize=256)
def parse(text: str) -> ModelSpec:
    """Read a model spec. Raises UserError if it has none of the known forms, or holds a password."""
    provider = _provider_of(text)
    if provider is None:
        raise UserError(f"unknown model {text!r}; write {forms()}")
    target = provider.parse(text)
    if not target.model:
        raise UserError(f"model spec {text!r} names no model; write {provider.form}")
    can_do = provider.capabilities_of(target.model) if provider.capabilities_of else provider.capabilities
    return ModelSpec(text, provider.name, target.model, can_do, target.base_url)


def is_spec(text: str) -> bool:
    """Return whether a name is meant as the spec of a language model."""
    provider = _provider_of(text)
    return provider is not None and not provider.capabilities.embeddings


def is_free(text: str) -> bool:
    """Return whether a name is the spec of a model in this process, whose calls cost nothing."""
    provider = _provider_of(text)
    return provider is not None and provider.capabilities.in_process


def forms() -> str:
    """List the forms of the specs of language models, for errors: `anthropic/MODEL, openai/MODEL, ...`."""
    return ", ".join(provider.form for provider in _language_models())


def help_lines() -> list[str]:
    """Return a line for each form of a language model's spec, with what a user must know about it, for `--help`."""
    providers = _language_models()
    width = max(len(provider.form) for provider in providers)
    return [f"{provider.form:<{width}} {provider.help}" for provider in providers]


def refuse_temperature(spec: ModelSpec, temperature: float | None, field: str) -> None:
    """Raise UserError if a temperature is set for a model whose API takes none.

    Args:
        field: the config field with the temperature, for the message.
    """
    if temperature is not None and not spec.capabilities.temperature:
        raise UserError(f"{spec.text} takes no temperature; set {field}=null")


def _provider_of(text: str) -> ProviderType | None:
    return next((provider for provider in PROVIDERS.all().values() if provider.matches(text)), None)


def _language_models() -> list[ProviderType]:
    return [provider for provider in PROVIDERS.all().values() if not provider.capabilities.embeddings]
