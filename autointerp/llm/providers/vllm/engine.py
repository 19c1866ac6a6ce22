"""Starts vLLM's asynchronous engine. Written against the classes of vLLM 0.33.0, which load inside the function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autointerp.llm import faults
from autointerp.llm.providers.hf.loading import location_of
from sae.common.errors import UserError

if TYPE_CHECKING:
    from autointerp.sections import Runtime

MISSING = "vllm/... needs the vllm package, 0.33 or newer; run: pip install 'autointerp[vllm]'"


@dataclass(frozen=True)
class Engine:
    """Holds a running engine and what goes with it."""

    vllm: Any
    """A `vllm.v1.engine.async_llm.AsyncLLM`."""
    tokenizer: Any
    """The model's own, by transformers, as for hf/...: so both make the same tokens of a text."""


def start(model: str, runtime: Runtime) -> Engine:
    """Start an engine for a hub name or a directory, on the GPUs that vLLM sees (CUDA_VISIBLE_DEVICES).

    Raises UserError if the package is missing or too old, or the engine does not start.
    """
    try:
        from vllm import AsyncEngineArgs, SamplingParams
        from vllm.v1.engine.async_llm import AsyncLLM
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "vllm":
            raise
        raise UserError(MISSING) from error
    if not hasattr(SamplingParams, "prompt_logprob_token_ids"):
        raise UserError(MISSING)
    from transformers import AutoTokenizer

    location = location_of(model)
    settings = AsyncEngineArgs(
        model=location,
        tensor_parallel_size=runtime.gpus,
        gpu_memory_utilization=runtime.gpu_share,
        max_model_len=-1,  # the model's context, or as much of it as the memory holds
        max_logprobs=-1,  # as many as a request asks for
        disable_log_stats=True,
    )
    try:
        return Engine(AsyncLLM.from_engine_args(settings), AutoTokenizer.from_pretrained(location))
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        reason = faults.one_line(str(error))
        raise UserError(f"cannot load vllm/{model}: {reason} (a hub name or a saved directory, and a GPU)") from error
