"""A stream of shuffled activation vectors, regenerated from text as they are needed. Knows nothing about dictionaries.

Shape suffixes: N blocks, C tokens of context, B activation vectors, D their width.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sae.corpus import Blocks
from sae.errors import UserError
from sae.subject import Subject, batches

CHUNK_BLOCKS = 256
"""Blocks, drawn from the whole text, whose activations are shuffled together: 32,768 vectors at context 128."""


@dataclass(frozen=True)
class ActivationStream:
    """Endless batches [size, D] at a hook point: every epoch the blocks, then the vectors of each chunk, are shuffled.

    The same seed gives the same batches, whatever the model's own batch size `forward_blocks`.
    """

    subject: Subject
    hook_point: str
    blocks: Blocks
    seed: int
    forward_blocks: int = 32

    def batches(self, size: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        ids_NC = self._ids_NC()
        rest_BD: Tensor | None = None
        while True:
            for rows in torch.randperm(len(ids_NC), generator=generator).split(CHUNK_BLOCKS):
                chunk_BD = self._shuffled(ids_NC[rows], generator)
                joined_BD = chunk_BD if rest_BD is None else torch.cat([rest_BD, chunk_BD])
                whole = len(joined_BD) // size * size
                yield from joined_BD[:whole].split(size) if whole else ()
                rest_BD = joined_BD[whole:].clone()

    def sample(self, size: int) -> Tensor:
        """The first `size` vectors of the stream, [size, D]; fewer if the text has fewer."""
        available = self._ids_NC().numel()
        return next(self.batches(min(size, available)))

    def _ids_NC(self) -> Tensor:
        full = self.blocks.full()
        if not len(full.ids_NC):
            raise UserError(
                f"the corpus has no document of {self.blocks.ids_NC.shape[1]} tokens to learn from; give longer "
                "documents or a smaller corpus.context"
            )
        return torch.from_numpy(full.ids_NC).long()

    def _shuffled(self, ids_NC: Tensor, generator: torch.Generator) -> Tensor:
        parts_NC = batches(ids_NC.to(self.subject.device), self.forward_blocks)
        parts = [self.subject.activations(part_NC, self.hook_point) for part_NC in parts_NC]
        acts_BD = torch.cat(parts).flatten(0, 1)
        return acts_BD[torch.randperm(len(acts_BD), generator=generator).to(acts_BD.device)]
