"""Keeps what training and sampling begin with, made once: the corpus in a subject's tokens, a toy, a reset subject.

Everything lies in a cache folder under the hash of all it depends on. What was damaged there is made again.
"""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sae.common.files import make_folder_atomic, sha256_of, sha256_of_path
from sae.common.progress import Report
from sae.common.resources import path_of
from sae.data.blocks import Blocks, document_blocks, to_blocks, token_ids
from sae.data.corpus import Text, warn
from sae.data.damage import Damage
from sae.data.deduplication import group_near_duplicates
from sae.data.split import Split
from sae.data.token_files import open_blocks, write_grouped
from sae.models import toy
from sae.models.entries import make_one
from sae.models.reset import write_reset
from sae.models.subject import Subject, batches, hub_name
from sae.models.toy_recipe import Toy

VERSION = 4
"""Changes whenever something here makes other things of the same input, so that the cache does not serve the old."""
LOSS_BLOCKS = 1024
"""Most held-out blocks on which a toy's losses are measured; they say how well it learnt, and decide nothing."""
DAMAGE = "damage.json"
"""Lists what was damaged in a hub dataset as far as it was read, in the folder of its tokens."""


@dataclass(frozen=True)
class ArtifactCache:
    """Keeps toy subjects, reset subjects and tokens in a cache folder."""

    folder: Path
    report: Report
    device: str

    def tokens(self, subject: Subject, text: Text) -> Blocks:
        """Return the corpus as memory-mapped blocks, tokenised once per corpus and tokenizer."""
        return open_blocks(self._tokens(subject, text))

    def damage(self, subject: Subject, text: Text) -> tuple[str, ...]:
        """Return what was damaged in the corpus when it was tokenised, a line for each kind of damage."""
        if not text.is_on_hub:
            return text.damage
        return tuple(json.loads((self._tokens(subject, text) / DAMAGE).read_text("utf-8")))

    def _tokens(self, subject: Subject, text: Text) -> Path:
        folder = self.folder / "tokens" / digest([VERSION, _how_it_cuts(subject.tokenizer), *text.content])
        return make_one(folder, lambda: make_folder_atomic(folder, lambda new: _write_tokens(new, subject, text)))

    def toy(self, recipe: Toy, text: Text, split: Callable[[Blocks], Split], split_by: Any) -> Path:
        """Return a toy subject's Hugging Face directory, trained if it is not there yet.

        Args:
            split: what is learnt from, and what its losses (in `toy.json`) are measured on.
            split_by: what the split depends on, ready for JSON.
        """
        folder = self.toy_folder(recipe, text, split_by)

        def make() -> None:
            tokenizer = toy.train_tokenizer((document.text for document in text.documents()), recipe.vocabulary)
            texts = (document.text for document in text.documents())
            ids = token_ids(texts, lambda batch: [encoding.ids for encoding in tokenizer.encode_batch(batch)])
            parts = split(group_near_duplicates(to_blocks(ids, text.context, text.max_tokens)))
            model = toy.train_toy(parts.train, recipe, self.report, self.device)
            toy.save_toy(folder, model, tokenizer, recipe, {"losses": losses(model, parts, self.device)})

        return make_one(folder, make)

    def toy_folder(self, recipe: Toy, text: Text, split_by: Any) -> Path:
        """Return where a toy subject lies, or would lie."""
        return self.folder / "subjects" / digest([VERSION, recipe.model_dump(), text.content, split_by])

    def reset(self, model: str, seed: int) -> Path:
        """Return a Hugging Face directory of a model with newly drawn weights, made if it is not there yet.

        Raises UserError if nothing loadable has that name.
        """
        given = path_of(model)
        content = sha256_of_path(given) if given.is_dir() else hub_name(model)
        folder = self.folder / "subjects" / digest([VERSION, "reset", content, seed])
        return make_one(folder, lambda: write_reset(model, seed, folder))


def _how_it_cuts(tokenizer: Any) -> Any:
    """Return what the token ids of a text depend on, ready for JSON: two tokenizers of one vocabulary may differ in
    merges, in normalisation, or in how they divide a text before. Where that cannot be read, only the vocabulary.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return tokenizer.get_vocab()
    parts: dict[str, Any] = json.loads(backend.to_str())
    return {name: parts.get(name) for name in ("added_tokens", "normalizer", "pre_tokenizer", "model")}


def _write_tokens(folder: Path, subject: Subject, text: Text) -> None:
    damage = Damage()
    documents = text.documents(damage)
    ids = token_ids((document.text for document in documents), subject.token_ids)
    write_grouped(document_blocks(ids, text.context, text.max_tokens), text.context, folder)
    deque(documents, maxlen=0)  # read to its end, the text is known to be that of the hash
    if text.is_on_hub:
        warn(damage, text.source)
        (folder / DAMAGE).write_text(json.dumps(damage.lines(text.source)), "utf-8")


def losses(model: Any, split: Split, device: str) -> dict[str, float]:
    """Measure cross-entropy in nats a token on full held-out blocks: the model's, and that of token frequencies.

    At most LOSS_BLOCKS are read, spread evenly: all of the demo's would take a quarter as long as the training.
    """
    full = split.held_out.full()
    full = full.take(slice(None, None, -(-max(1, len(full.ids_NC)) // LOSS_BLOCKS)))
    ids_NC = torch.from_numpy(full.ids_NC).long().to(device)
    with torch.no_grad():
        parts = [toy.loss(model, part).item() * len(part) for part in batches(ids_NC, 32)]
    counts = np.bincount(split.train.full().ids_NC.ravel(), minlength=model.config.vocab_size) + 1
    unigram = -np.log(counts / counts.sum())[ids_NC.cpu().numpy()].mean()
    return {"cross_entropy": sum(parts) / len(ids_NC), "unigram_cross_entropy": float(unigram)}


def digest(content: list[Any]) -> str:
    """Return a short name for what can be written as JSON."""
    return sha256_of([json.dumps(content, sort_keys=True).encode()])[:16]
