"""Splits text into what is trained on and what is held out, for training, measuring and sampling alike.

The split is by document, and near-duplicate documents stay on one side. A dictionary of `sae train` records what its
split depends on, so that a later measurement or run finds the text that it has not seen.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sae.common.errors import UserError
from sae.common.seeds import numpy_generator
from sae.data.blocks import Blocks, TokenIds, numbered_ids, to_blocks, tokens_per_group
from sae.data.corpus import Text, specs_of

VERSION = 2
"""Changes whenever the same record would give another split; a dictionary records it."""
RECORDED = {"source": str, "context": int, "max_tokens": int, "held_out_tokens": int}
"""What a dictionary's metadata must say of the corpus for its split to be made again."""
ReadBlocks = Callable[[Text], Blocks]
"""Tokenises a corpus in memory, its near-duplicate documents grouped."""


@dataclass(frozen=True)
class Split:
    """Divides blocks into those to learn from and those held out; they share no document and no near-duplicates."""

    blocks: Blocks
    is_held_out_N: NDArray[np.bool_]

    @cached_property
    def train(self) -> Blocks:
        """The blocks to learn from, in memory."""
        return self.blocks.take(~self.is_held_out_N)

    @cached_property
    def held_out(self) -> Blocks:
        """The blocks held out, in memory."""
        return self.blocks.take(self.is_held_out_N)

    @property
    def train_rows_N(self) -> NDArray[np.int64]:
        """Which of all blocks are to learn from, for a reader that leaves them on the disk."""
        return np.flatnonzero(~self.is_held_out_N)


def choose_groups(tokens_G: NDArray[np.int64], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark groups, in random order, until `share` of all tokens is marked; a group that would overfill is not.

    Returns a boolean per group.
    """
    tokens_left = share * float(tokens_G.sum())
    marked_G = np.zeros(len(tokens_G), np.bool_)
    for group in rng.permutation(len(tokens_G)):
        if 0 < tokens_G[group] <= tokens_left:
            marked_G[group] = True
            tokens_left -= float(tokens_G[group])
    return marked_G


def split_blocks(blocks: Blocks, held_out_share: float, seed: int) -> Split:
    """Hold out a share of the text. Raises UserError if either side would be empty."""
    tokens_G = tokens_per_group(blocks)
    held_out_G = choose_groups(tokens_G, held_out_share, numpy_generator(seed, "held-out documents"))
    split = _split(blocks, held_out_G[blocks.group_N])
    if split is None:
        raise UserError(
            f"the corpus has {int((tokens_G > 0).sum())} document(s) (near-duplicates counted once), too few to hold "
            f"out {held_out_share:.0%} of its text by document; give more text"
        )
    return split


def _split(blocks: Blocks, is_held_out_N: NDArray[np.bool_]) -> Split | None:
    """Divide the blocks by the mask; None if either side would be empty."""
    if is_held_out_N.all() or not is_held_out_N.any():
        return None
    return Split(blocks, is_held_out_N)


@dataclass(frozen=True)
class HeldOut:
    """Holds text that is not trained on: whole documents as blocks, and their number, blank ones included."""

    blocks: Blocks
    n_documents: int


def hold_out(spec: str, token_ids: TokenIds, context: int, n_blocks: int) -> HeldOut:
    """Return the first documents of a corpus, until they have `n_blocks` full blocks: for Streamed to skip.

    Raises UserError if the whole corpus has fewer.
    """
    ids_of: dict[int, Sequence[int]] = {}
    n_full = 0
    for number, ids in numbered_ids(spec, token_ids):
        ids_of[number] = ids
        n_full += len(ids) // context
        if n_full >= n_blocks:
            of_document = (ids_of.get(document, ()) for document in range(number + 1))
            return HeldOut(to_blocks(of_document, context), number + 1)
    raise UserError(
        f"corpus {spec} has {n_full} blocks of {context} tokens, too few to hold out {n_blocks}; give more text or "
        "hold out less"
    )


@dataclass(frozen=True)
class TrainingText:
    """Holds everything that the split of a training's corpus depends on, except the tokenizer."""

    source: str
    context: int
    max_tokens: int
    held_out_tokens: int
    streamed: bool
    """Whether it was read as a stream, whose first documents are held out."""
    seed: int
    content: str | None = None
    """The text's hash and cut, as JSON; None where that was not recorded."""

    def text(self) -> Text:
        """Return the corpus, for one that is held in memory."""
        return Text(self.source, self.context, self.max_tokens)

    def split(self, blocks: Blocks) -> Split:
        """Split a corpus in memory. Raises UserError if it has too few documents."""
        return split_blocks(blocks, min(0.5, self.held_out_tokens / blocks.n_tokens), self.seed)

    def first_documents(self, token_ids: TokenIds) -> HeldOut:
        """Read what is held out of a streamed corpus."""
        n_blocks = -(-self.held_out_tokens // self.context)
        return hold_out(self.source, token_ids, self.context, n_blocks)

    def held_out(self, token_ids: TokenIds, read: ReadBlocks) -> Blocks:
        """Read the held-out side.

        Raises UserError if the corpus is not the one that was trained on: then what was held out is not known.
        """
        if self.streamed:
            return self.first_documents(token_ids).blocks
        text = self.text()
        if self.content is not None and self.content != json.dumps(text.content):
            raise UserError(
                f"the text of corpus {self.source} has changed since the training, so what was held out of it is not "
                "known; give another --corpus"
            )
        return self.split(read(text)).held_out


def held_out_of_trainings(
    trainings: Sequence[TrainingText], blocks: Blocks, token_ids: TokenIds, read: ReadBlocks
) -> Split:
    """Split a corpus in memory so that no training has seen the held-out side, nor a near-duplicate of it.

    Args:
        trainings: at least one, all of them on this corpus.
        blocks: the corpus from its first document on, near-duplicates grouped.

    Raises:
        UserError: the trainings hold out no document in common, or the corpus has changed since one of them.
    """
    unseen_N = np.ones(len(blocks.document_N), np.bool_)
    for training in trainings:
        documents: NDArray[Any] = np.unique(training.held_out(token_ids, read).document_N)
        if training.streamed:  # a stream counts blank documents, a corpus in memory has none: these are its first ones
            documents = np.arange(len(documents))
        unseen_N &= np.isin(blocks.document_N, documents)
    seen_groups = np.unique(blocks.group_N[~unseen_N])
    split = _split(blocks, unseen_N & ~np.isin(blocks.group_N, seen_groups))
    if split is None:
        raise UserError(
            f"no document of corpus {trainings[0].source} was held out by the training of every dictionary; give "
            "another --corpus, or run the dictionaries apart"
        )
    return split


def recorded(metadata: Mapping[str, Any]) -> TrainingText | None:
    """Return the text that a dictionary of `sae train` was trained on, from its metadata.

    Returns None if the metadata does not say, or if the split was made by another version of this file.
    """
    corpus, seed = metadata.get("corpus"), metadata.get("seed")
    if not isinstance(corpus, Mapping) or not isinstance(seed, int) or metadata.get("split_version") != VERSION:
        return None
    if not all(isinstance(corpus.get(name), kind) for name, kind in RECORDED.items()):
        return None
    streamed = corpus.get("streamed")
    of_hub = corpus["source"].startswith("hf:")
    content = json.dumps(metadata["text"]) if metadata.get("text") else None
    plain = {name: corpus[name] for name in RECORDED}
    return TrainingText(**plain, streamed=of_hub if streamed is None else bool(streamed), seed=seed, content=content)


def same_corpus(one: str, other: str) -> bool:
    """Tell whether two specs name one corpus, as a relative and an absolute path do."""
    return one == other or _absolute(one) == _absolute(other)


def _absolute(spec: str) -> list[str]:
    """Return the specs of a corpus, with absolute paths."""
    return [_absolute_one(*one.partition("#")) for one in specs_of(spec)]


def _absolute_one(name: str, mark: str, column: str) -> str:
    path = Path(name).expanduser()
    return f"{path.resolve()}{mark}{column}" if path.exists() else f"{name}{mark}{column}"


def recut(blocks: Blocks, context: int) -> Blocks:
    """Cut the same documents into blocks of another length; documents are numbered again, each a group by itself."""
    if context == blocks.ids_NC.shape[1]:
        return blocks
    rows = [ids_C[:length] for ids_C, length in zip(blocks.ids_NC, blocks.length_N, strict=True)]
    borders = np.flatnonzero(np.diff(blocks.document_N)) + 1
    documents = [np.concatenate(part) for part in _parts(rows, borders.tolist())]
    return to_blocks(documents, context)  # type: ignore[arg-type]  # an array of ids is a sequence of them


def _parts(rows: list[Any], borders: list[int]) -> list[list[Any]]:
    """Cut a list at the borders."""
    return [rows[start:stop] for start, stop in zip([0, *borders], [*borders, len(rows)], strict=True)]
