"""Groups near-duplicate documents, so that no split of the text separates them. Needs no torch.

Two documents are near-duplicates if they share more than a quarter of either one's 16-grams of tokens: copied files,
licence headers with little below them, generated tables. Near-duplicates of near-duplicates are in one group. A stream
of documents, which is never held, is compared with a text that is (`Known`).

Shape suffixes: T token positions of all documents, D documents, P occurrences (a 16-gram in a document), Q pairs.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sae.data.blocks import Blocks

GRAM = 16
"""Tokens that two texts must share in a row to be counted as sharing anything."""
SHARED = 0.25
"""Share of a document's distinct 16-grams above which another one that has them too is its near-duplicate."""
MOST_PAIRED = 64
"""A 16-gram that more documents have than this is counted between neighbours only (in the documents' order), which
still joins a family of copies, so that the time does not grow with the square of the family's size."""
GRAMS_AT_ONCE = 2**23
"""16-grams that are compared together, about half a gigabyte: more are divided by their hashes into several parts."""
TOKENS_AT_ONCE = 2**20
"""Tokens, in whole documents, whose 16-grams are hashed together."""
_BASE = 0x9E3779B97F4A7C15
Hashes = NDArray[np.uint64]
Integers = NDArray[np.int64]
Counted = tuple[Integers, Integers]
"""Pairs of documents, each as one number, and how many distinct 16-grams they share."""


def group_near_duplicates(blocks: Blocks) -> Blocks:
    """Return the same blocks with `group_N` set: one number for all documents that are near-duplicates of each other.

    A group is called by the smallest number of its documents.
    """
    if not len(blocks.document_N):
        return blocks
    n_documents = int(blocks.document_N.max()) + 1
    n_grams_D = np.zeros(n_documents, np.int64)
    counted: Counted = (np.zeros(0, np.int64), np.zeros(0, np.int64))
    n_parts = max(1, -(-blocks.n_tokens // GRAMS_AT_ONCE))
    for part in range(n_parts):
        hash_P, document_P = _occurrences(blocks, part, n_parts)
        n_grams_D += np.bincount(document_P, minlength=n_documents)
        counted = _shared_grams(hash_P, document_P, n_documents, counted)
    first_Q, second_Q = np.divmod(counted[0], n_documents)
    linked_Q = counted[1] > SHARED * np.minimum(n_grams_D[first_Q], n_grams_D[second_Q])
    group_D = _components(first_Q[linked_Q], second_Q[linked_Q], n_documents)
    return replace(blocks, group_N=group_D[blocks.document_N].astype(np.int32))


def shared_with(text: Blocks, other: Blocks) -> float:
    """Return the share of the tokens of `text` that lie in a 16-gram which also stands in `other`."""
    known = np.unique(_grams(other)[0])
    hash_T, start_T = _grams(text)
    copied_T = np.zeros(text.n_tokens, np.bool_)
    starts = start_T[np.isin(hash_T, known)]
    for offset in range(GRAM):
        copied_T[starts + offset] = True
    return float(copied_T.mean()) if len(copied_T) else 0.0


@dataclass(frozen=True)
class Known:
    """Recognises near-duplicates of a text that is held, document by document: 16 bytes for each token of that text."""

    hash_P: Hashes
    """Each document's distinct 16-grams, ascending."""
    document_P: Integers
    n_grams_D: Integers
    """How many each document has."""

    @classmethod
    def of(cls, blocks: Blocks) -> "Known":
        """Hash a text."""
        hash_P, document_P = _occurrences(blocks, 0, 1) if len(blocks.document_N) else _nothing()
        return cls(hash_P, document_P, np.bincount(document_P))

    def has_near_duplicate_of(self, ids: Sequence[int]) -> bool:
        """Tell whether a document, by its tokens, is a near-duplicate of one of the text's."""
        hash_G = _distinct_grams(np.array(ids, np.int32))
        first_G, end_G = (np.searchsorted(self.hash_P, hash_G, side) for side in ("left", "right"))
        ranges = np.stack([first_G, end_G], 1)[first_G < end_G].tolist()
        if not ranges:
            return False
        documents = np.concatenate([self.document_P[first:end] for first, end in ranges])
        shared_D = np.bincount(documents, minlength=len(self.n_grams_D))
        return bool((shared_D > SHARED * np.minimum(self.n_grams_D, len(hash_G))).any())


def _distinct_grams(token_T: NDArray[np.int32]) -> Hashes:
    """Return a document's distinct 16-grams; a shorter document is one gram by itself."""
    return np.unique(_hashed(token_T)) if len(token_T) >= GRAM else np.array([_hash_of_all(token_T)], np.uint64)


def _nothing() -> tuple[Hashes, Integers]:
    return np.zeros(0, np.uint64), np.zeros(0, np.int64)


def _grams(blocks: Blocks) -> tuple[Hashes, Integers]:
    """Hash all 16-grams that lie in one document; return also where they start in the documents' joined tokens."""
    real_NC = np.arange(blocks.ids_NC.shape[1]) < blocks.length_N[:, None]
    token_T = blocks.ids_NC[real_NC]
    document_T = np.repeat(blocks.document_N, blocks.length_N)
    if len(token_T) < GRAM:
        return _nothing()
    hash_T = _hashed(token_T)
    inside_T = document_T[: len(hash_T)] == document_T[GRAM - 1 :]
    return hash_T[inside_T], np.flatnonzero(inside_T)


def _hashed(token_T: NDArray[np.int32]) -> Hashes:
    """Hash the 16-grams that begin at each of some tokens, of which there are 16 or more."""
    hash_T, width = token_T.astype(np.uint64) + np.uint64(1), 1
    while width < GRAM:  # a polynomial modulo 2^64, of twice as many tokens each time
        hash_T = hash_T[:-width] * np.uint64(pow(_BASE, width, 2**64)) + hash_T[width:]
        width *= 2
    hash_T ^= hash_T >> np.uint64(29)
    return hash_T


def _hash_of_all(token_T: NDArray[np.int32]) -> int:
    return int.from_bytes(hashlib.blake2b(token_T.tobytes(), digest_size=8).digest(), "little")


def _occurrences(blocks: Blocks, part: int, n_parts: int) -> tuple[Hashes, Integers]:
    """Return each document's distinct 16-grams, sorted by hash, then document. A shorter document is one gram by
    itself. Of several parts, one has all occurrences of a gram.
    """
    hashes, documents = list[Hashes](), list[Integers]()
    for some in _whole_documents(blocks):
        hash_T, start_T = _grams(some)
        document_T = np.repeat(some.document_N, some.length_N).astype(np.int64)
        for hash_P, document_P in ((hash_T, document_T[start_T]), _short_documents(some)):
            here_P = (hash_P >> np.uint64(32)) % np.uint64(n_parts) == part
            hashes.append(hash_P[here_P])
            documents.append(document_P[here_P])
    hash_P, document_P = np.concatenate(hashes), np.concatenate(documents)
    order_P = np.lexsort((document_P, hash_P))
    hash_P, document_P = hash_P[order_P], document_P[order_P]
    is_new_P = np.ones(len(hash_P), np.bool_)
    is_new_P[1:] = (hash_P[1:] != hash_P[:-1]) | (document_P[1:] != document_P[:-1])
    return hash_P[is_new_P], document_P[is_new_P]


def _whole_documents(blocks: Blocks) -> Iterator[Blocks]:
    """Yield the blocks of some documents at a time; a document's blocks are consecutive."""
    first_D = np.flatnonzero(np.diff(blocks.document_N, prepend=-1))
    bounds = np.arange(0, len(blocks.document_N), max(1, TOKENS_AT_ONCE // blocks.ids_NC.shape[1]))
    starts = np.unique(first_D[np.searchsorted(first_D, bounds, "right") - 1]).tolist()
    for start, stop in pairwise([*starts, len(blocks.document_N)]):
        yield blocks.take(slice(start, stop))


def _short_documents(blocks: Blocks) -> tuple[Hashes, Integers]:
    """Return a hash of the whole text of every document of fewer than 16 tokens."""
    first_D = np.flatnonzero(np.diff(blocks.document_N, prepend=-1))
    tokens_D = np.add.reduceat(blocks.length_N, first_D)
    token_T = blocks.ids_NC[np.arange(blocks.ids_NC.shape[1]) < blocks.length_N[:, None]]
    end_D = np.cumsum(tokens_D)  # a document's blocks are consecutive and in order
    short = np.flatnonzero(tokens_D < GRAM)
    hashes = [_hash_of_all(token_T[end_D[d] - int(tokens_D[d]) : end_D[d]]) for d in short]
    return np.array(hashes, np.uint64), blocks.document_N[first_D[short]].astype(np.int64)


def _shared_grams(hash_P: Hashes, document_P: Integers, n_documents: int, counted: Counted) -> Counted:
    """Count how many distinct 16-grams pairs of documents share, and add it to what was counted before."""
    starts = np.flatnonzero(np.r_[True, hash_P[1:] != hash_P[:-1]]) if len(hash_P) else np.zeros(0, np.int64)
    length_P = np.repeat(np.diff(np.r_[starts, len(hash_P)]), np.diff(np.r_[starts, len(hash_P)]))
    several_P = length_P > 1
    hash_P, document_P, length_P = hash_P[several_P], document_P[several_P], length_P[several_P]
    codes, counts = counted
    for step in range(1, MOST_PAIRED):
        same = (hash_P[step:] == hash_P[:-step]) & ((step == 1) | (length_P[step:] <= MOST_PAIRED))
        if not same.any():
            break
        pairs = document_P[:-step][same] * n_documents + document_P[step:][same]
        pair_codes, number = np.unique(pairs, return_counts=True)
        codes, index = np.unique(np.concatenate([codes, pair_codes]), return_inverse=True)
        counts = np.bincount(index, np.concatenate([counts, number])).astype(np.int64)
    return codes, counts


def _components(first_Q: Integers, second_Q: Integers, n_documents: int) -> Integers:
    """Return the smallest document number of each document's connected component, [D]."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(first_Q), np.int8), (first_Q, second_Q)), shape=(n_documents, n_documents))
    _, component_D = connected_components(graph, directed=False)
    _, first_D, index_D = np.unique(component_D, return_index=True, return_inverse=True)
    smallest_D: Integers = first_D[index_D].astype(np.int64)
    return smallest_D
