"""Registers the provider `vllm`: a causal language model in this process, by vLLM, an extra. It loads on opening."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autointerp.llm.providers import PROVIDERS, Capabilities, Provider, ProviderType

if TYPE_CHECKING:
    from autointerp.llm.limits import Limits
    from autointerp.llm.specs import ModelSpec
    from autointerp.sections import Runtime


def open_model(spec: ModelSpec, runtime: Runtime, limits: Limits) -> Provider:
    """Start an engine. Raises UserError if the package is missing or the model cannot be loaded."""
    from autointerp.llm.providers.vllm.engine import start
    from autointerp.llm.providers.vllm.provider import EngineProvider

    return EngineProvider(spec.model, start(spec.model, runtime))


PROVIDERS.register(
    "vllm",
    ProviderType(
        name="vllm",
        form="vllm/NAME|DIR",
        help="a Hugging Face model or directory, run in this process by vLLM, on a GPU",
        open=open_model,
        capabilities=Capabilities(logprobs="always", prompt_logprobs="always", json_schema=True, in_process=True),
    ),
)
