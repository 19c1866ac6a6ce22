"""Registers the provider `anthropic`: Anthropic's API. The SDK loads when a model is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autointerp.llm.providers import PROVIDERS, Capabilities, Provider, ProviderType

if TYPE_CHECKING:
    from autointerp.llm.limits import Limits
    from autointerp.llm.specs import ModelSpec
    from autointerp.sections import Runtime

NEWER_TOKENIZER = 1.3
"""Claude's tokenizer from Opus 4.7 on makes about 30% more tokens (Anthropic's migration guides)."""
OLDER_TOKENIZER = ("-4-5", "-4-6")
"""Parts of the names of models before it."""


def open_model(spec: ModelSpec, runtime: Runtime, limits: Limits) -> Provider:
    """Open a Claude model. Raises UserError if there is no key."""
    from autointerp.llm.providers.anthropic.messages import AnthropicProvider

    return AnthropicProvider(spec, runtime.attempt_seconds, limits)


def token_factor(model: str) -> float:
    """Return how many more tokens a Claude model makes of a text than GPT-4 does."""
    return 1.0 if any(mark in model for mark in OLDER_TOKENIZER) else NEWER_TOKENIZER


PROVIDERS.register(
    "anthropic",
    ProviderType(
        name="anthropic",
        form="anthropic/MODEL",
        help="with ANTHROPIC_API_KEY in the environment or in .env",
        open=open_model,
        capabilities=Capabilities(json_schema=True, batches=True, temperature=False),
        key_variable="ANTHROPIC_API_KEY",
        url="https://api.anthropic.com",
        url_variable="ANTHROPIC_BASE_URL",
        token_factor=token_factor,
    ),
)
