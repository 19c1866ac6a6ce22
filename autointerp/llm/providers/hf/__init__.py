"""Registers the provider `hf`: a causal language model in this process, by transformers. torch loads on opening."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autointerp.llm.providers import PROVIDERS, Capabilities, Provider, ProviderType

if TYPE_CHECKING:
    from autointerp.llm.limits import Limits
    from autointerp.llm.specs import ModelSpec
    from autointerp.sections import Runtime


def open_model(spec: ModelSpec, runtime: Runtime, limits: Limits) -> Provider:
    """Load a model. Raises UserError if it cannot be loaded."""
    from autointerp.llm.providers.hf.provider import LocalProvider

    return LocalProvider(spec.model, runtime.device)


PROVIDERS.register(
    "hf",
    ProviderType(
        name="hf",
        form="hf/NAME|DIR",
        help="a Hugging Face model or directory, run in this process",
        open=open_model,
        capabilities=Capabilities(logprobs="always", prompt_logprobs="always", in_process=True),
    ),
)
