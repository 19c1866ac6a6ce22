"""What training and sampling begin with, made once and kept: the corpus in a subject's tokens, a toy subject.

Everything lies in a cache folder under the hash of all it depends on. Knows nothing about dictionaries.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from sae import corpus, toy
from sae.corpus import Blocks, Document, Split
from sae.files import sha256_of, write_atomic_with
from sae.progress import Report
from sae.subject import Subject, batches
from sae.training.recipes import Toy

VERSION = 2
"""Changes whenever something here makes other things of the same input, so that the cache does not serve the old."""


@dataclass(frozen=True)
class Text:
    """A corpus as far as it is used, cut into blocks of `context` tokens."""

    source: str
    context: int
    max_tokens: int
    hash: str
    """`corpus.content_hash` of it."""

    @cached_property
    def documents(self) -> list[Document]:
        """Read once, when they are first wanted."""
        return corpus.usable_documents(self.source, self.max_tokens)

    @property
    def content(self) -> list[Any]:
        """What it depends on: not where it lies."""
        return [self.hash, self.context, self.max_tokens]


@dataclass(frozen=True)
class Cellar:
    """The cache folder of subjects and tokens."""

    folder: Path
    report: Report
    device: str

    def tokens(self, subject: Subject, text: Text) -> Blocks:
        """The corpus as blocks, tokenised once per corpus and tokenizer."""
        vocabulary = json.dumps(subject.tokenizer.get_vocab(), sort_keys=True)
        path = self.folder / "tokens" / f"{digest([VERSION, vocabulary, *text.content])}.safetensors"
        if not path.is_file():
            ids = corpus.token_ids((document.text for document in text.documents), subject.token_ids)
            blocks = corpus.to_blocks(ids, text.context, text.max_tokens)
            arrays = {"ids": blocks.ids_NC, "length": blocks.length_N, "document": blocks.document_N}
            write_atomic_with(path, lambda temporary: save_file(arrays, temporary))
        arrays = load_file(path)
        return Blocks(arrays["ids"], arrays["length"], arrays["document"])

    def toy(self, recipe: Toy, text: Text, split: Callable[[Blocks], Split], split_by: Any) -> Path:
        """A toy subject's Hugging Face directory, trained if it is not there yet.

        Args:
            split: what is learnt from, and what its losses (in `toy.json`) are measured on.
            split_by: what the split depends on, ready for JSON.
        """
        folder = self.folder / "subjects" / digest([VERSION, recipe.model_dump(), text.content, split_by])
        if not (folder / "toy.json").is_file():
            texts = [document.text for document in text.documents]
            tokenizer = toy.train_tokenizer(texts, recipe.vocabulary)
            ids = corpus.token_ids(texts, lambda batch: [encoding.ids for encoding in tokenizer.encode_batch(batch)])
            parts = split(corpus.to_blocks(ids, text.context, text.max_tokens))
            model = toy.train_toy(parts.train, recipe, self.report, self.device)
            toy.save_toy(folder, model, tokenizer, recipe, {"losses": losses(model, parts, self.device)})
        return folder


def losses(model: Any, split: Split, device: str) -> dict[str, float]:
    """Cross-entropy in nats a token on all full held-out blocks: the model's, and that of token frequencies."""
    ids_NC = torch.from_numpy(split.held_out.full().ids_NC).long().to(device)
    with torch.no_grad():
        parts = [toy.loss(model, part).item() * len(part) for part in batches(ids_NC, 32)]
    counts = np.bincount(split.train.full().ids_NC.ravel(), minlength=model.config.vocab_size) + 1
    unigram = -np.log(counts / counts.sum())[ids_NC.cpu().numpy()].mean()
    return {"cross_entropy": sum(parts) / len(ids_NC), "unigram_cross_entropy": float(unigram)}


def digest(content: list[Any]) -> str:
    """A short name for what can be written as JSON."""
    return sha256_of([json.dumps(content, sort_keys=True).encode()])[:16]
