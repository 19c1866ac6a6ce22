"""Fragments: the pieces of held-out text that records are made of, numbered, hashed and dealt to two sides.

Documents are halved: explain records come from one half, score records from the other, so that they share no document.
Imports torch.

Shape suffixes: N blocks, M fragments, L tokens of a fragment, D documents.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autointerp.config import Config
from autointerp.sampling.prepare import Prepared
from autointerp.sampling.priorities import fragment_hash
from sae.data.blocks import Blocks, tokens_per_document
from sae.data.split import choose_documents
from sae.models.subject import undecodable

SIDES = ("explain", "score")
SIDE_STREAM = 102
"""Sets the halving of documents apart from other random choices of the same seed."""


@dataclass(frozen=True)
class Fragments:
    """All fragments of the held-out blocks: number m is fragment m % per_block of block m // per_block."""

    length: int
    per_block: int
    usable_M: Tensor
    side_M: Tensor
    document_M: Tensor
    hash_M: Tensor


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
    rng = np.random.default_rng([config.seed, SIDE_STREAM])
    explains_D = torch.from_numpy(choose_documents(tokens_per_document(blocks), 0.5, rng))
    return Fragments(
        length,
        per_block,
        usable_M=whole_M & ~spoiled[ids_ML].any(1),
        side_M=torch.where(explains_D[document_M.long()], 0, 1),
        document_M=document_M,
        hash_M=fragment_hash(config.seed, document_M, position_M),
    )


def _block_rank(blocks: Blocks) -> np.ndarray:
    """Each block's number within its document; blocks of a document are consecutive."""
    _, first, counts = np.unique(blocks.document_N, return_index=True, return_counts=True)
    return np.arange(len(blocks.document_N)) - np.repeat(first, counts)
