"""What of a corpus a training holds out, found again from what its dictionaries record of it.

A training uses this to split its text; whoever measures its dictionaries later, to read the side they have not seen.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sae.common.errors import UserError
from sae.data import corpus
from sae.data.blocks import Blocks, to_blocks, tokens_per_document
from sae.data.corpus import Text
from sae.data.token_source import HeldOut, TokenIds, hold_out

SPLIT_STREAM = 301
"""Sets this random choice apart from others of the same seed."""
RECORDED = {"source": str, "context": int, "max_tokens": int, "held_out_tokens": int}
"""What a dictionary's metadata must say of the corpus for its split to be made again."""


@dataclass(frozen=True)
class Split:
    """Blocks to learn from and blocks held out; they share no document."""

    train: Blocks
    held_out: Blocks


def choose_documents(tokens_D: NDArray[np.int64], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark documents, in random order, until `share` of all tokens is marked; a document that would overfill is not.

    Returns a boolean per document.
    """
    room = share * float(tokens_D.sum())
    chosen = np.zeros(len(tokens_D), np.bool_)
    for document in rng.permutation(len(tokens_D)):
        if 0 < tokens_D[document] <= room:
            chosen[document] = True
            room -= float(tokens_D[document])
    return chosen


def split_blocks(blocks: Blocks, held_out_share: float, rng: np.random.Generator) -> Split:
    """Split by document. Raises UserError if either side would be empty."""
    held_out_D = choose_documents(tokens_per_document(blocks), held_out_share, rng)
    is_held_out_N = held_out_D[blocks.document_N]
    if is_held_out_N.all() or not is_held_out_N.any():
        raise UserError(
            f"the corpus has {len(held_out_D)} document(s), too few to hold out {held_out_share:.0%} of its text by "
            "document; give more text"
        )
    return Split(blocks.take(~is_held_out_N), blocks.take(is_held_out_N))


@dataclass(frozen=True)
class TrainingText:
    """All that the split of a training's corpus depends on, but for the tokenizer.

    content: tells the text from any other, as JSON; None where that was not recorded.
    """

    source: str
    context: int
    max_tokens: int
    held_out_tokens: int
    streamed: bool
    seed: int
    content: str | None = None

    def kept(self) -> Text:
        """The corpus, where it is held in memory."""
        return Text(self.source, self.context, self.max_tokens, corpus.content_hash(self.source, self.max_tokens))

    def split(self, blocks: Blocks) -> Split:
        """Of a corpus in memory, by document. Raises UserError if it has too few."""
        share = min(0.5, self.held_out_tokens / blocks.n_tokens)
        return split_blocks(blocks, share, np.random.default_rng([self.seed, SPLIT_STREAM]))

    def first_documents(self, token_ids: TokenIds) -> HeldOut:
        """What is held out of a streamed corpus."""
        n_blocks = -(-self.held_out_tokens // self.context)
        return hold_out(self.source, token_ids, self.context, n_blocks)

    def held_out(self, token_ids: TokenIds, read: Callable[[Text], Blocks]) -> Blocks:
        """Raises UserError if the corpus is not the one that was trained on: then nobody knows what was held out."""
        if self.streamed:
            return self.first_documents(token_ids).blocks
        text = self.kept()
        if self.content is not None and self.content != json.dumps(text.content):
            raise UserError(
                f"the text of corpus {self.source} has changed since the training, so what was held out of it is not "
                "known; give another --corpus"
            )
        return self.split(read(text)).held_out


def recorded(metadata: Mapping[str, Any]) -> TrainingText | None:
    """The text that a dictionary of `sae train` says it was trained on; None if it does not say."""
    said, seed = metadata.get("corpus"), metadata.get("seed")
    if not isinstance(said, Mapping) or not isinstance(seed, int):
        return None
    if not all(isinstance(said.get(name), kind) for name, kind in RECORDED.items()):
        return None
    streamed = said.get("streamed")
    of_hub = said["source"].startswith("hf:")
    content = json.dumps(metadata["text"]) if metadata.get("text") else None
    plain = {name: said[name] for name in RECORDED}
    return TrainingText(**plain, streamed=of_hub if streamed is None else bool(streamed), seed=seed, content=content)


def same_corpus(one: str, other: str) -> bool:
    """Whether two specs name one corpus, as a relative and an absolute path do."""
    return one == other or _absolute(one) == _absolute(other)


def _absolute(spec: str) -> str:
    name, mark, column = spec.partition("#")
    path = Path(name).expanduser()
    return f"{path.resolve()}{mark}{column}" if path.exists() else spec


def recut(blocks: Blocks, context: int) -> Blocks:
    """The same documents in blocks of another length."""
    if context == blocks.ids_NC.shape[1]:
        return blocks
    rows = [ids_C[:length] for ids_C, length in zip(blocks.ids_NC, blocks.length_N, strict=True)]
    borders = np.flatnonzero(np.diff(blocks.document_N)) + 1
    documents = [np.concatenate(part) for part in _parts(rows, borders.tolist())]
    return to_blocks(documents, context)  # type: ignore[arg-type]  # an array of ids is a sequence of them


def _parts(rows: list[Any], borders: list[int]) -> list[list[Any]]:
    """Cut at the borders."""
    return [rows[start:stop] for start, stop in zip([0, *borders], [*borders, len(rows)], strict=True)]
