"""Registers the provider `compatible`: your own server that speaks OpenAI's protocol. The SDK loads on opening."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from autointerp.llm.providers import PROVIDERS, Capabilities, Provider, ProviderType, Target
from sae.common.errors import UserError

if TYPE_CHECKING:
    from autointerp.llm.limits import Limits
    from autointerp.llm.specs import ModelSpec
    from autointerp.sections import Runtime

FORM = "http://host:port/v1#MODEL"


def parse(text: str) -> Target:
    """Split a URL at its # into base URL and model. Raises UserError if one is missing, or for a password or query."""
    try:
        url = urlsplit(text)
        _ = url.port  # raises for one that is no port
    except ValueError as error:  # without its own text, which may hold a password
        raise UserError(f"the URL of a model spec cannot be read; write {FORM}") from error
    if url.username or url.password or url.query:
        reason = "it is written into results; set AUTOINTERP_API_KEY"
        raise UserError(f"a model spec must not hold a password or a ?query: {reason}")
    if not url.hostname or not url.fragment:
        raise UserError(f"model spec {text!r} is not complete: write {FORM}")
    return Target(url.fragment, url._replace(fragment="").geturl().rstrip("/"))


def open_model(spec: ModelSpec, runtime: Runtime, limits: Limits) -> Provider:
    """Open a model on a server, with the key of its provider. Raises UserError if that is required and not set."""
    from autointerp.llm.providers.openai.chat import CompatibleProvider

    return CompatibleProvider(spec, runtime.attempt_seconds, limits)


PROVIDERS.register(
    "compatible",
    ProviderType(
        name="compatible",
        form=FORM,
        help="any OpenAI-compatible server, with AUTOINTERP_API_KEY if it needs a key",
        open=open_model,
        capabilities=Capabilities(logprobs="depends", prompt_logprobs="depends", json_schema=True),
        prefixes=("http://", "https://"),
        parse=parse,
        # A variable of its own: a key for one company is never sent to another's address.
        key_variable="AUTOINTERP_API_KEY",
        is_key_required=False,
    ),
)
