"""Makes a stream of shuffled activation vectors, computed from text again whenever they are needed.

The vectors stay on the subject's device, in one buffer that is filled again and again; a stream can be left at any
batch and taken up there later.

Shape suffixes: N blocks, C tokens of context, B activation vectors, R rows of the buffer, D the vectors' width.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypedDict

import torch
from torch import Tensor

from sae.common.seeds import torch_generator
from sae.data import token_source
from sae.data.token_source import TextSource

BUFFER_VECTORS = 32_768
"""Default size of the buffer: 256 blocks of 128 tokens."""


class ReadsActivations(Protocol):
    """Names what a stream needs of a model; `sae.models.subject.Subject` has it."""

    @property
    def device(self) -> str: ...

    def activations(self, ids_NC: Tensor, hook_point: str) -> Tensor:
        """Return the activations [N, C, D] at a hook point."""
        ...


class Position(TypedDict):
    """Says where a batch starts in the sequence of all vectors; ready for JSON."""

    fill: int
    """How many times the buffer was filled before."""
    row: int
    """The vector, in this fill's shuffled order."""
    source: token_source.Position | None
    """Where this fill's text starts; None is the beginning."""


@dataclass(frozen=True)
class ActivationStream:
    """Yields endless batches [size, D] at a hook point; the vectors of `buffer_vectors` tokens are shuffled together.

    The same seed gives the same batches, but for rounding also whatever the model's own batch size `forward_blocks`.
    """

    subject: ReadsActivations
    hook_point: str
    source: TextSource
    seed: int
    forward_blocks: int = 32
    buffer_vectors: int = BUFFER_VECTORS
    """Rounded down to whole blocks, at least one."""
    dtype: torch.dtype = torch.float32

    def batches(self, size: int, position: Position | None = None) -> "Batches":
        """Iterate over batches from the beginning, or from a position that this stream's batches gave.

        On the CPU they are then bitwise those of an iteration that never stopped, of which no more is computed again
        than the buffer with the batch's first vector. Everything else about the stream has to be as it was.
        """
        return Batches(self, size, position)

    def sample(self, size: int) -> Tensor:
        """Return the first `size` vectors of the stream, [size, D], the caller's own; fewer if an epoch has fewer."""
        parts: list[Tensor] = []
        missing = size
        for fill, (ids_NC, after) in enumerate(self.source.chunks(self.fill_blocks)):
            parts.append(self._shuffled(ids_NC, fill)[:missing])
            missing -= len(parts[-1])
            if not missing or after["epoch"]:
                break
        return torch.cat(parts)

    @property
    def fill_blocks(self) -> int:
        """N, the blocks that fill the buffer."""
        return max(1, self.buffer_vectors // self.source.context)

    def scattered(self, ids_NC: Tensor, fill: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, per forward pass, its vectors [B, D] and the rows [B] at which they stand after shuffling."""
        order = torch_generator(self.seed, "order of activations", fill)
        rows_B = self._moved(torch.randperm(ids_NC.numel(), generator=order))
        parts_NC = self._moved(ids_NC).split(self.forward_blocks)
        parts_B = rows_B.split(self.forward_blocks * ids_NC.shape[1])
        for part_NC, part_B in zip(parts_NC, parts_B, strict=True):
            yield self.subject.activations(part_NC, self.hook_point).flatten(0, 1).to(self.dtype), part_B

    def _shuffled(self, ids_NC: Tensor, fill: int) -> Tensor:
        parts = list(self.scattered(ids_NC, fill))
        acts_BD = torch.cat([part_BD for part_BD, _ in parts])
        return torch.empty_like(acts_BD).index_copy_(0, torch.cat([rows_B for _, rows_B in parts]), acts_BD)

    def _moved(self, tensor: Tensor) -> Tensor:
        """Move ids to the subject's device; the CPU does not wait for a GPU's copy."""
        device = torch.device(self.subject.device)
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Batches(Iterator[Tensor]):
    """Iterates over a stream's batches; `position` is the next batch's.

    A batch [size, D] is a view of the buffer, overwritten when the buffer is filled again: use it before taking
    the next, or clone it; change nothing in it.
    """

    def __init__(self, stream: ActivationStream, size: int, position: Position | None) -> None:
        self.position: Position = position or {"fill": 0, "row": 0, "source": None}
        self._stream, self._size = stream, size
        self._buffer_RD = torch.empty(0)
        self._batches = self._run()

    def __next__(self) -> Tensor:
        return next(self._batches)

    def _run(self) -> Iterator[Tensor]:
        """Yield consecutive rows of all fills, each fill shuffled by itself; a rest goes before the next fill."""
        size, fill, row, before = self._size, self.position["fill"], self.position["row"], self.position["source"]
        offset = -row % size  # the rest that once stood before this fill: batches lie where they lay in memory
        start = offset + row
        for ids_NC, after in self._stream.source.chunks(self._stream.fill_blocks, before):
            self._write(ids_NC, fill, offset)
            end = offset + ids_NC.numel()
            while start + size <= end:
                start += size
                self.position = {"fill": fill, "row": start - offset, "source": before}
                if start == end:
                    self.position = {"fill": fill + 1, "row": 0, "source": after}
                yield self._buffer_RD[start - size : start]
            offset = end - start
            self._buffer_RD[:offset] = self._buffer_RD[start:end].clone()  # a copy, as the two may overlap
            start, fill, before = 0, fill + 1, after

    def _write(self, ids_NC: Tensor, fill: int, offset: int) -> None:
        """Write each forward pass' vectors straight to their shuffled rows, counted from `offset`."""
        for acts_BD, rows_B in self._stream.scattered(ids_NC, fill):
            if not len(self._buffer_RD):  # the width is known from here on
                n_rows = self._stream.fill_blocks * ids_NC.shape[1] + self._size
                self._buffer_RD = acts_BD.new_empty((n_rows, acts_BD.shape[1]))
            self._buffer_RD.index_copy_(0, rows_B + offset, acts_BD)
