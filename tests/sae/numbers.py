"""Numbered text for the tests of sources and streams: no token occurs twice, so that every block can be recognised."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sae.data.blocks import Blocks, to_blocks
from sae.data.token_source import Streamed, TextSource

C = 8


def numbers(count: int) -> list[list[int]]:
    """Ids of documents of 0 to 4 blocks and a tail; no token occurs twice."""
    lengths = np.random.default_rng(0).integers(0, 4 * C, count)
    ends = 1 + np.cumsum(lengths)
    return [list(range(end - length, end)) for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]


def blocks_of(count: int) -> Blocks:
    return to_blocks(numbers(count), C)


def ids_of(texts: list[str]) -> list[list[int]]:
    return [[int(word) for word in one.split()] for one in texts]


def streamed(folder: Path, count: int = 40, **settings: object) -> Streamed:
    path = folder / "numbers.jsonl"
    path.write_text("\n".join(json.dumps({"text": " ".join(map(str, ids))}) for ids in numbers(count)))
    return Streamed(str(path), ids_of, C, **settings)  # type: ignore[arg-type]


def epochs(source: TextSource, count: int, n_blocks: int = 9) -> list[Tensor]:
    """The blocks of each of the first epochs, [N, C], as the source gives them."""
    result: list[list[Tensor]] = [[] for _ in range(count)]
    epoch = 0
    for ids_NC, after in source.chunks(n_blocks):
        result[epoch].append(ids_NC)
        epoch = after["epoch"]
        if epoch == count:
            break
    return [torch.cat(parts) for parts in result]


def ordered(rows_NC: Tensor) -> list[list[float]]:
    return sorted(rows_NC.tolist())


def full_blocks(count: int = 40) -> list[list[int]]:
    return sorted(blocks_of(count).full().ids_NC.tolist())
