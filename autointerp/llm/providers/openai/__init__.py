"""Registers the provider `openai`: OpenAI's API. The SDK loads when a model is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autointerp.llm.providers import PROVIDERS, Capabilities, Provider, ProviderType

if TYPE_CHECKING:
    from autointerp.config import Runtime
    from autointerp.llm.limits import Limits
    from autointerp.llm.specs import ModelSpec


def open_model(spec: ModelSpec, runtime: Runtime, limits: Limits) -> Provider:
    """Open a model of OpenAI's. Raises UserError if there is no key."""
    from autointerp.llm.providers.openai.chat import OpenAIProvider

    return OpenAIProvider(spec, runtime.attempt_seconds, limits)


PROVIDERS.register(
    "openai",
    ProviderType(
        name="openai",
        form="openai/MODEL",
        help="with OPENAI_API_KEY in the environment or in .env",
        open=open_model,
        capabilities=Capabilities(logprobs="always", json_schema=True, batches=True),
        key_variable="OPENAI_API_KEY",
        url="https://api.openai.com/v1",
        url_variable="OPENAI_BASE_URL",
    ),
)
