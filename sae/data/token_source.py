"""Turns text into an endless flow of token blocks: from a corpus held in memory, or read as a stream.

A position says how far a flow was read; continuing from it gives the same blocks as not having stopped.

Shape suffixes: N blocks, C tokens of context.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sae.common.errors import UserError
from sae.common.seeds import torch_generator
from sae.data.blocks import Blocks, TokenIds, numbered_ids
from sae.data.deduplication import Known

log = logging.getLogger(__name__)
Position = dict[str, int]
"""How far a source was read, ready for JSON. Only its source knows the keys, but for `epoch`: times read through."""


class TextSource(Protocol):
    """Gives endless full blocks (no padding), epoch after epoch."""

    @property
    def context(self) -> int:
        """C, the tokens of a block."""

    def chunks(self, n_blocks: int, position: Position | None = None) -> Iterator[tuple[Tensor, Position]]:
        """Yield blocks [N, C] (int64, on the CPU) and the position after them, from a position on; None: the beginning.

        N is `n_blocks`, less at the end of an epoch: no chunk holds blocks of two. Raises UserError if an epoch has
        no full block.
        """


@dataclass(frozen=True)
class Shuffled:
    """Gives the blocks of a corpus in a new order every epoch, by the seed. Leaves padded blocks out.

    `share=(rank, world)` is for `world` processes with the same seed, which get disjoint blocks in every epoch. A
    position counts the epoch's blocks that were taken.
    """

    blocks: Blocks
    seed: int
    share: tuple[int, int] = (0, 1)
    rows_N: NDArray[np.int64] | None = None
    """The blocks to give, in ascending order; None: all. The others stay on the disk where they are memory-mapped."""

    @property
    def context(self) -> int:
        return int(self.blocks.ids_NC.shape[1])

    @property
    def n_tokens(self) -> int:
        """Of an epoch's blocks, all shares together."""
        return len(self._full_N) * self.context

    @cached_property
    def _full_N(self) -> NDArray[np.int64]:
        full_N = np.flatnonzero(self.blocks.length_N == self.context)
        return full_N if self.rows_N is None else np.intersect1d(full_N, self.rows_N, assume_unique=True)

    def chunks(self, n_blocks: int, position: Position | None = None) -> Iterator[tuple[Tensor, Position]]:
        at = position or {"epoch": 0, "block": 0}
        while True:
            rows_N = self._order(at["epoch"])
            for start in range(at["block"], len(rows_N), n_blocks):
                stop = min(start + n_blocks, len(rows_N))
                at = {"epoch": at["epoch"], "block": stop}
                if stop == len(rows_N):
                    at = {"epoch": at["epoch"] + 1, "block": 0}
                yield torch.from_numpy(self.blocks.ids_NC[rows_N[start:stop]]).long(), at

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return rows of this share's blocks in an epoch; the corpus is not copied for it."""
        rank, world = self.share
        full_N = self._full_N
        order_N = torch.randperm(len(full_N), generator=torch_generator(self.seed, "order of blocks", epoch)).numpy()
        rows_N: NDArray[np.int64] = full_N[order_N[rank::world]]
        if not len(rows_N):
            raise _nothing_to_learn_from("the corpus", self.context, self.share)
        return rows_N


@dataclass(frozen=True)
class Streamed:
    """Reads a corpus of any size in its own order, never all of it at once.

    A block holds tokens of one document; what a document has beyond its last full block is dropped, as are documents
    shorter than a block. Blocks come in the documents' order: only the reader's buffer shuffles, so a corpus
    sorted by topic wants a large one. With `share=(rank, world)` a process reads all documents but tokenises and gives
    only every `world`-th. A position is the document, counted from 0 over the whole corpus, at which to continue and
    the blocks of it already taken; to continue, documents before it are read past without being tokenised.

    Args:
        skip_documents: the first documents of the corpus, never given: see `sae.data.split.hold_out`.
        held_out: their text; near-duplicates of it are left out, and counted in the log at the end of an epoch.
    """

    spec: str
    token_ids: TokenIds
    context: int
    skip_documents: int = 0
    share: tuple[int, int] = (0, 1)
    held_out: Known | None = None

    def chunks(self, n_blocks: int, position: Position | None = None) -> Iterator[tuple[Tensor, Position]]:
        at = position or self._start(0)
        while True:
            blocks = self._rest_of_epoch(at)
            taken = list(islice(blocks, n_blocks + 1))
            if not taken and at == self._start(at["epoch"]):
                raise _nothing_to_learn_from(f"corpus {self.spec}", self.context, self.share)
            at = self._start(at["epoch"] + 1)
            while taken:
                given, ahead = taken[:n_blocks], taken[n_blocks:]  # ahead: one block, unless the epoch ends here
                ids_NC = torch.from_numpy(np.stack([ids_C for ids_C, _ in given]))
                yield ids_NC, given[-1][1] if ahead else at
                taken = ahead + list(islice(blocks, n_blocks))

    def _start(self, epoch: int) -> Position:
        return {"epoch": epoch, "document": self.skip_documents, "block": 0}

    def _rest_of_epoch(self, at: Position) -> Iterator[tuple[NDArray[np.int64], Position]]:
        """Yield blocks [C] from a position to the end of its epoch, each with the position after it."""
        for number, ids in self._given(at["document"]):
            n_full = len(ids) // self.context
            for block in range(at["block"] if number == at["document"] else 0, n_full):
                ends = block + 1 == n_full
                after = {"document": number + 1, "block": 0} if ends else {"document": number, "block": block + 1}
                start = block * self.context
                yield np.array(ids[start : start + self.context], np.int64), {"epoch": at["epoch"], **after}

    def _given(self, first: int) -> Iterator[tuple[int, Sequence[int]]]:
        """Yield number and token ids of this share's documents, without near-duplicates of what is held out."""
        rank, world = self.share
        n_left_out = 0
        for number, ids in numbered_ids(self.spec, self.token_ids, first, lambda n: n % world == rank):
            if self.held_out is not None and self.held_out.has_near_duplicate_of(ids):
                n_left_out += 1
            else:
                yield number, ids
        if n_left_out:
            log.warning("corpus %s: %d near-duplicates of held-out documents left out", self.spec, n_left_out)


def _nothing_to_learn_from(where: str, context: int, share: tuple[int, int]) -> UserError:
    for_whom = f" for process {share[0]} of {share[1]}" if share[1] > 1 else ""
    return UserError(
        f"{where} has no document of {context} tokens to learn from{for_whom}; give longer documents or a smaller "
        "corpus.context"
    )
