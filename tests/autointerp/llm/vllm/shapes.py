"""The shapes of vLLM 0.33's values that the provider uses: its own classes, or stand-ins with the same fields."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class RequestOutputKind(Enum):
    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass
class StructuredOutputsParams:
    json: str | Mapping[str, Any] | None = None


@dataclass
class SamplingParams:
    """Refuses unknown fields, as the true one does."""

    temperature: float = 1.0
    seed: int | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None
    prompt_logprob_token_ids: list[list[int]] | None = None
    prompt_logprob_start: int | None = None
    detokenize: bool = True
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE
    structured_outputs: StructuredOutputsParams | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 2.0:
            raise VLLMValidationError(f"temperature must be in [0, 2], got {self.temperature}.")


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    prompt_logprobs: Any
    outputs: list[CompletionOutput]
    finished: bool
    prompt_token_id_logprobs: Any = field(default=None, kw_only=True)


class VLLMError(Exception): ...


class VLLMClientError(VLLMError): ...


class VLLMServerError(VLLMError): ...


class VLLMValidationError(VLLMClientError): ...


class EngineDeadError(VLLMServerError): ...


def append_logprobs(held: list[Any], tokens: list[int], values: list[float], count: int) -> None:
    """The sampled token first, then the likeliest."""
    ranks = chain((1,), range(1, count + 1))
    held.append({t: Logprob(value, rank) for t, value, rank in zip(tokens, values, ranks, strict=False)})


STAND_INS = SimpleNamespace(
    SamplingParams=SamplingParams, StructuredOutputsParams=StructuredOutputsParams, RequestOutput=RequestOutput,
    RequestOutputKind=RequestOutputKind, CompletionOutput=CompletionOutput, EngineDeadError=EngineDeadError,
    VLLMServerError=VLLMServerError, VLLMValidationError=VLLMValidationError, append_logprobs=append_logprobs,
    verify=lambda params, config: None,
)  # fmt: skip


def install(monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """Let `import vllm` give the stand-ins.

    Args:
        more: what the package and its modules have besides.
    """
    names = {
        "vllm": ("SamplingParams", "AsyncEngineArgs"),
        "vllm.exceptions": ("VLLMClientError", "VLLMServerError"),
        "vllm.sampling_params": ("RequestOutputKind", "StructuredOutputsParams"),
        "vllm.v1": (),
        "vllm.v1.engine": (),
        "vllm.v1.engine.async_llm": ("AsyncLLM",),
        "vllm.v1.engine.exceptions": ("EngineDeadError",),
    }
    known = globals() | more
    for name, parts in names.items():
        module = ModuleType(name)
        vars(module).update({part: known[part] for part in parts if part in known})
        monkeypatch.setitem(sys.modules, name, module)


def own() -> SimpleNamespace:
    """vLLM's own classes. Skips the test where they cannot be imported."""
    reason = "vLLM or a package that it needs is not installed (pip install 'autointerp[vllm]')"
    params = pytest.importorskip("vllm.sampling_params", reason=reason, exc_type=ImportError)
    outputs = pytest.importorskip("vllm.outputs", reason=reason, exc_type=ImportError)
    exceptions, engine = pytest.importorskip("vllm.exceptions"), pytest.importorskip("vllm.v1.engine.exceptions")
    logprobs = pytest.importorskip("vllm.logprobs")

    def append(held: list[Any], tokens: list[int], values: list[float], count: int) -> None:
        logprobs.append_logprobs_for_next_position(held, tokens, values, chain([None] * len(tokens)), 1, count)

    return SimpleNamespace(
        SamplingParams=params.SamplingParams, StructuredOutputsParams=params.StructuredOutputsParams,
        RequestOutput=outputs.RequestOutput, RequestOutputKind=params.RequestOutputKind,
        CompletionOutput=outputs.CompletionOutput, EngineDeadError=engine.EngineDeadError,
        VLLMServerError=exceptions.VLLMServerError, VLLMValidationError=exceptions.VLLMValidationError,
        append_logprobs=append, verify=lambda given, config: given._validate_logprobs(config),
    )  # fmt: skip
