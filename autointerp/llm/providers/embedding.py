"""Registers the provider `embedding`: sentence embeddings in this process, by sentence-transformers, an extra.

The package and torch load when a model is opened.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autointerp.llm.providers import PROVIDERS, Capabilities, Provider, ProviderType
from autointerp.llm.providers.hf.loading import device_for, weights_of
from autointerp.llm.types import EmbeddingRequest, Usage, Vectors
from sae.common.errors import UserError

if TYPE_CHECKING:
    from autointerp.llm.limits import Limits
    from autointerp.llm.specs import ModelSpec
    from autointerp.sections import Runtime


class Embedder(Provider):
    """Embeds texts as vectors of length 1. The part of a text beyond the model's context is not read."""

    def __init__(self, model: str, device: str = "auto") -> None:
        """Load a hub name or a directory. Raises UserError if it or the package cannot be loaded."""
        self._model = _load(model, device)
        config = getattr(self._model[0], "config", None)
        precision = str(next(self._model.parameters()).dtype).removeprefix("torch.")
        super().__init__(f"embedding/{model}", f"{weights_of(model, config)} {precision}", has_timeout=False)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedder")

    async def embed(self, request: EmbeddingRequest) -> Vectors:
        """Compute the embedding of each text."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._vectors, request)

    async def close(self) -> None:
        """Stop the worker thread."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _vectors(self, request: EmbeddingRequest) -> Vectors:
        texts = list(request.texts)
        rows = self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        vectors = tuple(tuple(map(float, row)) for row in rows)
        return Vectors(vectors, Usage(calls=1, tokens_in=self._tokens(texts)))

    def _tokens(self, texts: list[str]) -> int:
        """Count the tokens that the model saw, special ones included."""
        if not texts:
            return 0
        ids = self._model.tokenizer(texts, truncation=True, max_length=self._model.max_seq_length)["input_ids"]
        return sum(map(len, ids))


def _load(model: str, device: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        reason = "embeddings need the sentence-transformers package; run: pip install 'autointerp[embedding]'"
        raise UserError(reason) from error
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = Path(model).expanduser()
    try:
        return SentenceTransformer(str(folder) if folder.is_dir() else model, device=device_for(device))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"cannot load embedding model {model}: {reason} (a hub name or a saved directory)") from error


def open_model(spec: ModelSpec, runtime: Runtime, limits: Limits) -> Provider:
    """Load an embedding model. Raises UserError if it or the package cannot be loaded."""
    return Embedder(spec.model, runtime.device)


PROVIDERS.register(
    "embedding",
    ProviderType(
        name="embedding",
        form="embedding/NAME|DIR",
        help="a sentence-transformers model, run in this process",
        open=open_model,
        capabilities=Capabilities(temperature=False, embeddings=True, in_process=True),
    ),
)
