"""Registers the provider `google`: Gemini, through the address at which Google's API speaks OpenAI's protocol.

What that address takes was read on 2026-11-22 in ai.google.dev/gemini-api/docs/openai: chat completions, JSON schemas,
`reasoning_effort`. The models of today give no log-probabilities (GoogleCloudPlatform/generative-ai #2947). The SDK
loads when a model is opened.
"""

from __future__ import annotations

from autointerp.llm.providers import PROVIDERS, Capabilities, ProviderType
from autointerp.llm.providers.compatible import open_model

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
