"""Cuts held-out text into fragments, of which records are made, and deals them to the explain and the score side.

Documents are halved, near-duplicates together: explain records come from one half, score records from the other, so
that they share no document and no copied text. Imports torch.

Shape suffixes: N blocks, M fragments, L tokens of a fragment, D documents.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from autointerp.config import Config
from autointerp.peer_faults import SPLIT_LEAK
from autointerp.sampling.prepare import Prepared
from autointerp.sampling.priorities import fragment_hash
from sae.common.seeds import numpy_generator
from sae.data.blocks import Blocks, tokens_per_group
from sae.data.corpus import Text
from sae.data.deduplication import shared_with
from sae.data.split import choose_groups
from sae.models.subject import undecodable

SIDES = ("explain", "score")
SCORE = SIDES.index("score")
BOTH = len(SIDES)
"""The side of every fragment under the fault delphi-split-leak: it is on each."""


@dataclass(frozen=True)
class Fragments:
    """Lists all fragments of the held-out blocks: number m is fragment m % per_block of block m // per_block."""

    length: int
    per_block: int
    usable_M: Tensor
    """Whether padding and undecodable tokens leave it alone, and `sampling.most_fragments` counts it in."""
    side_M: Tensor
    """Side of each fragment: 0 explain, 1 score, or BOTH."""
    document_M: Tensor
    hash_M: Tensor
    """Hash of seed, document and position: what random choices depend on."""
    rank_M: Tensor
    """The hash's rank among all: breaks ties between equal keys."""

    def of_blocks(self, start: int, stop: int) -> "Fragments":
        """Return the fragments of some consecutive blocks, numbered from 0; nothing is shared with the others."""
        rows = slice(start * self.per_block, stop * self.per_block)
        columns = (self.usable_M, self.side_M, self.document_M, self.hash_M, self.rank_M)
        return Fragments(self.length, self.per_block, *(values_M[rows].clone() for values_M in columns))

    def room(self, fragment_P: Tensor, side: Literal[-1, 1]) -> Tensor:
        """Return by how many tokens a record may move to a side, [P]: not out of its block, nor into an unusable
        fragment.
        """
        neighbour_P = fragment_P.cpu() + side
        usable_M = torch.cat([self.usable_M, torch.zeros(1, dtype=torch.bool)])  # -1 and one past the end are none
        is_same_block_P = neighbour_P // self.per_block == fragment_P.cpu() // self.per_block
        return torch.where(is_same_block_P & usable_M[neighbour_P], self.length, 0).to(fragment_P.device)


def is_on(side_M: Tensor, side: int) -> Tensor:
    """Tell which fragments are on a side, [M]."""
    return (side_M == side) | (side_M == BOTH)


def make_fragments(prepared: Prepared, config: Config) -> Fragments:
    """Number the fragments, halve the documents, and set aside those that padding or undecodable tokens spoil."""
    blocks, length = prepared.text, config.sampling.fragment
    per_block = blocks.ids_NC.shape[1] // length
    ids_ML = torch.from_numpy(blocks.ids_NC).long().reshape(-1, length)
    start_M = torch.arange(per_block).repeat(len(blocks.ids_NC)) * length
    whole_M = start_M + length <= torch.from_numpy(blocks.length_N).repeat_interleave(per_block)
    spoiled = undecodable(prepared.subject.token_strings())
    document_M = torch.from_numpy(blocks.document_N).repeat_interleave(per_block)
    position_M = torch.from_numpy(_block_rank(blocks)).repeat_interleave(per_block) * blocks.ids_NC.shape[1] + start_M
    rng = numpy_generator(config.seed, "explain and score halves")
    explains_G = torch.from_numpy(choose_groups(tokens_per_group(blocks), 0.5, rng))
    group_M = torch.from_numpy(blocks.group_N).repeat_interleave(per_block)
    hash_M, leaks = fragment_hash(config.seed, document_M, position_M), SPLIT_LEAK in config.peer_faults
    rank_M = hash_M.argsort(stable=True).argsort()
    usable_M = whole_M & ~spoiled[ids_ML].any(1)
    if config.sampling.most_fragments is not None:
        usable_M = _of_many_documents(usable_M, document_M, rank_M, config.sampling.most_fragments)
    return Fragments(
        length,
        per_block,
        usable_M=usable_M,
        side_M=torch.full_like(group_M.long(), BOTH) if leaks else torch.where(explains_G[group_M.long()], 0, 1),
        document_M=document_M,
        hash_M=hash_M,
        rank_M=rank_M,
    )


def _of_many_documents(usable_M: Tensor, document_M: Tensor, rank_M: Tensor, most: int) -> Tensor:
    """Return which usable fragments are used, [M]: a random one of each document, then a second of each, and so on.

    Args:
        usable_M: which fragments may be used.
        document_M: each fragment's document.
        rank_M: the random order of fragments.
        most: how many are used, if there are so many.
    """
    number_P = usable_M.nonzero().flatten()
    number_P = number_P[rank_M[number_P].argsort()]
    by_document_P = document_M[number_P].argsort(stable=True)
    _, counts_D = document_M[number_P].unique(return_counts=True)
    turn_P = torch.empty_like(number_P)
    turn_P[by_document_P] = torch.arange(len(number_P)) - (counts_D.cumsum(0) - counts_D).repeat_interleave(counts_D)
    used_M = torch.zeros_like(usable_M)
    used_M[number_P[turn_P.argsort(stable=True)[:most]]] = True
    return used_M


def describe_sides(text: Blocks, fragments: Fragments, corpus: Text) -> dict[str, Any]:
    """Return each side's documents, how many tokens records are drawn from, and how much text the sides share."""
    side_N = fragments.side_M[:: fragments.per_block]
    sides = [text.take(is_on(side_N, side).numpy()) for side in range(len(SIDES))]
    name_of = _names(text, corpus)
    explain, score = sides
    return {
        "usable_tokens": int(fragments.usable_M.sum()) * fragments.length,
        "documents": {
            name: [name_of[number] for number in np.unique(blocks.document_N).tolist()]
            for name, blocks in zip(SIDES, sides, strict=True)
        },
        "score_tokens_in_explain_16_grams": shared_with(score, explain),
    }


def _names(blocks: Blocks, corpus: Text) -> Mapping[int, str | int]:
    """Return the documents' names, or their numbers in a hub dataset, which is not read again for that."""
    numbers: list[int] = np.unique(blocks.document_N).tolist()
    return dict(zip(numbers, numbers if corpus.is_on_hub else corpus.names(numbers), strict=True))


def _block_rank(blocks: Blocks) -> np.ndarray:
    """Return each block's number within its document; blocks of a document are consecutive."""
    _, first, counts = np.unique(blocks.document_N, return_index=True, return_counts=True)
    return np.arange(len(blocks.document_N)) - np.repeat(first, counts)
