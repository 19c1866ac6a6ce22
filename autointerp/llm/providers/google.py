"""Registers the provider `google`: Gemini, through the address at which Google's API speaks OpenAI's protocol.

What that address takes was read on 2026-11-22 in ai.google.dev/gemini-api/docs/openai: chat completions, JSON schemas,
`reasoning_effort`. The models of today give no log-probabilities (GoogleCloudPlatform/generative-ai #2947). The SDK
loads when a model is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autointerp.llm.providers import PROVIDERS, Capabilities, Provider, ProviderType

if TYPE_CHECKING:
    from autointerp.config import Runtime
    from autointerp.llm.limits import Limits
    from autointerp.llm.specs import ModelSpec


def open_model(spec: ModelSpec, runtime: Runtime, limits: Limits) -> Provider:
    """Open a model of Google's. Raises UserError if there is no key."""
    from autointerp.llm.providers.openai.chat import CompatibleProvider

    return CompatibleProvider(spec, runtime.attempt_seconds, limits)


PROVIDERS.register(
    "google",
    ProviderType(
        name="google",
        form="google/MODEL",
        help="Gemini, with GEMINI_API_KEY in the environment or in .env",
        open=open_model,
        capabilities=Capabilities(json_schema=True),
        key_variable="GEMINI_API_KEY",
        url="https://generativelanguage.googleapis.com/v1beta/openai",
        url_variable="GEMINI_BASE_URL",
    ),
)
