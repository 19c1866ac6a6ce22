"""An engine that answers as vLLM's does, from a tiny transformers model: one plain forward pass per question.

It takes `SamplingParams` and gives `RequestOutput`s of the shapes that it is handed: vLLM's own classes where they can
be imported, else those of `tests.autointerp.llm.vllm.shapes`.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from autointerp.llm.providers.vllm.engine import Engine


class TinyEngine:
    """Stands in for AsyncLLM."""

    def __init__(self, folder: Path, shapes: Any, context: int) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self._eos = AutoTokenizer.from_pretrained(folder).eos_token_id
        self._shapes = shapes
        self.model_config = SimpleNamespace(
            max_model_len=context, dtype=torch.float32, hf_config=self._model.config, max_logprobs=-1,
            get_vocab_size=lambda: self._model.config.vocab_size,
        )  # fmt: skip
        self.seen: list[tuple[dict[str, Any], Any]] = []
        self.raises: Exception | None = None
        self.is_running = True

    async def generate(self, prompt: dict[str, Any], sampling_params: Any, request_id: str) -> AsyncIterator[Any]:
        """Yield the only, final output, as with RequestOutputKind.FINAL_ONLY."""
        assert prompt["type"] == "token"
        assert sampling_params.output_kind == self._shapes.RequestOutputKind.FINAL_ONLY
        if self.raises:
            raise self.raises
        self.seen.append((prompt, sampling_params))
        self._shapes.verify(sampling_params, self.model_config)
        ids = list(prompt["prompt_token_ids"])
        if len(ids) >= self.model_config.max_model_len:
            raise self._shapes.VLLMValidationError("The decoder prompt is longer than the maximum model length")
        choice = self._generated(ids, sampling_params)
        scores = self._prompt_scores(ids, sampling_params)
        yield self._shapes.RequestOutput(request_id, None, ids, None, [choice], True, prompt_token_id_logprobs=scores)

    def shutdown(self) -> None:
        self.is_running = False

    def _logprobs(self, ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return self._model(torch.tensor([ids])).logits[0].log_softmax(-1)

    def _prompt_scores(self, ids: list[int], params: Any) -> np.ndarray | None:
        """Row i is what `start + i + 1` is predicted to be."""
        if params.prompt_logprob_token_ids is None:
            return None
        rows, start = np.asarray(params.prompt_logprob_token_ids), params.prompt_logprob_start or 0
        if len(rows) != len(ids) - 1 - start:
            raise self._shapes.VLLMValidationError("prompt_logprob_token_ids has another number of rows")
        return np.stack([self._logprobs(ids)[start + i, row].numpy() for i, row in enumerate(rows)])

    def _generated(self, ids: list[int], params: Any) -> Any:
        """The likeliest token each time; the token that ends the answer is among the ids, as in vLLM."""
        written: list[int] = []
        logprobs: list[dict[int, Any]] = []
        reason = "length"
        while len(written) < params.max_tokens and len(ids) + len(written) < self.model_config.max_model_len:
            logprobs_V = self._logprobs(ids + written)[-1]
            token = int(logprobs_V.argmax())
            if params.logprobs is not None:
                top = logprobs_V.topk(params.logprobs)
                tokens, values = [token, *top.indices.tolist()], [float(logprobs_V[token]), *top.values.tolist()]
                self._shapes.append_logprobs(logprobs, tokens, values, params.logprobs)
            written.append(token)
            if token == self._eos:
                reason = "stop"
                break
        shown = logprobs if params.logprobs is not None else None
        return self._shapes.CompletionOutput(0, "", written, None, shown, finish_reason=reason)


def tiny(folder: Path, shapes: Any, context: int = 400) -> Engine:
    """An engine and its tokenizer."""
    return Engine(TinyEngine(folder, shapes, context), AutoTokenizer.from_pretrained(folder))
