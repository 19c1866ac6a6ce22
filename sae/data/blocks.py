"""Cuts tokenised documents into blocks that a model reads at once. Needs no torch.

Shape suffixes: N blocks, C tokens of context, D documents.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from sae.data import corpus

TokenIds = Callable[[list[str]], Iterable[Sequence[int]]]
"""Token ids of each of some texts."""
ENCODED_AT_ONCE = 64
"""Documents given to the tokenizer together; so many are read ahead."""


@dataclass(frozen=True)
class Blocks:
    """Holds token blocks; a block has tokens of one document only.

    A document's last block is padded on the right (with token 0). A causal model's activations at real tokens do not
    depend on the padding.
    """

    ids_NC: NDArray[np.int32]
    """Token ids."""
    length_N: NDArray[np.int32]
    """How many of a block's tokens are real."""
    document_N: NDArray[np.int32]
    """The number of the block's document in the corpus."""
    group_N: NDArray[np.int32]
    """The number of its document's group: near-duplicates share one (`sae.data.deduplication`), and are never on two
    sides of a split."""

    def take(self, rows_N: NDArray[np.bool_] | NDArray[np.int64] | slice) -> "Blocks":
        """Return some of the blocks, by index or by mask; of a slice, views."""
        return Blocks(*(values_N[rows_N] for values_N in (self.ids_NC, self.length_N, self.document_N, self.group_N)))

    def full(self) -> "Blocks":
        """Return only the blocks without padding."""
        return self.take(self.length_N == self.ids_NC.shape[1])

    @property
    def n_tokens(self) -> int:
        return int(self.length_N.sum())


def document_blocks(
    ids_of_document: Iterable[Sequence[int]], context: int, max_tokens: int | None = None
) -> Iterator[Blocks]:
    """Cut each document's tokens into blocks of `context`; stop after the document that reaches `max_tokens`.

    Every document is a group by itself.
    """
    total = 0
    for document, ids in enumerate(ids_of_document):
        n_blocks = -(-len(ids) // context)
        ids_NC = np.zeros((n_blocks, context), np.int32)
        ids_NC.reshape(-1)[: len(ids)] = ids
        length_N = np.minimum(context, len(ids) - np.arange(n_blocks, dtype=np.int32) * context, dtype=np.int32)
        document_N = np.full(n_blocks, document, np.int32)
        yield Blocks(ids_NC, length_N, document_N, document_N)
        total += len(ids)
        if max_tokens is not None and total >= max_tokens:
            break


def to_blocks(ids_of_document: Iterable[Sequence[int]], context: int, max_tokens: int | None = None) -> Blocks:
    """Return all of `document_blocks` together."""
    parts = list(document_blocks(ids_of_document, context, max_tokens))
    empty_N = np.zeros(0, np.int32)
    ids_NC = np.concatenate([np.zeros((0, context), np.int32), *(part.ids_NC for part in parts)])
    length_N = np.concatenate([empty_N, *(part.length_N for part in parts)])
    document_N = np.concatenate([empty_N, *(part.document_N for part in parts)])
    return Blocks(ids_NC, length_N, document_N, document_N)


def token_ids(
    documents: Iterable[str], encode_batch: Callable[[list[str]], Iterable[Sequence[int]]]
) -> Iterator[Sequence[int]]:
    """Yield the token ids of each document, a batch of documents at a time, so that reading can stop early."""
    stream = iter(documents)
    while batch := list(islice(stream, 64)):
        yield from encode_batch(batch)


def tokens_per_group(blocks: Blocks) -> NDArray[np.int64]:
    """Return how many tokens each group of documents has, [groups]; numbers that no block has count zero."""
    return np.bincount(blocks.group_N, weights=blocks.length_N).astype(np.int64)


def numbered_ids(
    spec: str, token_ids: TokenIds, start: int = 0, is_used: Callable[[int], bool] = lambda number: True
) -> Iterator[tuple[int, Sequence[int]]]:
    """Yield number and token ids of the documents to use that are not blank, a batch of documents at a time."""
    numbered = enumerate(corpus.documents(spec, start), start)
    texts = ((number, document.text) for number, document in numbered if is_used(number) and document.text.strip())
    while batch := list(islice(texts, ENCODED_AT_ONCE)):
        yield from zip((number for number, _ in batch), token_ids([text for _, text in batch]), strict=True)
