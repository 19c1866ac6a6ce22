"""Registers the provider `openai`: OpenAI's API. The SDK loads when a model is opened."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from autointerp.llm.providers import PROVIDERS, Capabilities, Provider, ProviderType, Support

if TYPE_CHECKING:
    from autointerp.llm.limits import Limits
    from autointerp.llm.specs import ModelSpec
    from autointerp.sections import Runtime


def open_model(spec: ModelSpec, runtime: Runtime, limits: Limits) -> Provider:
    """Open a model of OpenAI's. Raises UserError if there is no key."""
    from autointerp.llm.providers.openai.chat import OpenAIProvider

    return OpenAIProvider(spec, runtime.attempt_seconds, limits)


CAPABILITIES = Capabilities(logprobs="always", json_schema=True, batches=True)
"""What the models can do that the table of efforts does not list."""


def capabilities_of(model: str) -> Capabilities:
    """Return what a model can do: those that always think give no log-probabilities and take no temperature."""
    from autointerp.llm.efforts import family_named

    family = family_named("openai", model)
    if not family.is_known:
        return CAPABILITIES
    logprobs: Support = "never" if family.logprobs == "never" else "always"
    return replace(CAPABILITIES, logprobs=logprobs, temperature=family.temperature != "never")


PROVIDERS.register(
    "openai",
    ProviderType(
        name="openai",
        form="openai/MODEL",
        help="with OPENAI_API_KEY in the environment or in .env",
        open=open_model,
        capabilities=CAPABILITIES,
        capabilities_of=capabilities_of,
        key_variable="OPENAI_API_KEY",
        url="https://api.openai.com/v1",
        url_variable="OPENAI_BASE_URL",
    ),
)
