"""Token blocks on the disk: what is opened is what was written, memory-mapped; a training reads only its rows."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sae.data.blocks import document_blocks, to_blocks
from sae.data.deduplication import group_near_duplicates
from sae.data.split import split_blocks
from sae.data.token_files import open_blocks, write_grouped
from sae.data.token_source import Shuffled
from tests.sae.test_deduplication import random_texts

FIELDS = ("ids_NC", "length_N", "document_N", "group_N")


@pytest.mark.parametrize("n_documents", [0, 1, 60])
def test_what_was_written_is_opened(n_documents: int, tmp_path: Path) -> None:
    texts = random_texts(0, n_documents)
    expected = group_near_duplicates(to_blocks(texts, 8, 2000))
    write_grouped(document_blocks(texts, 8, 2000), 8, tmp_path)
    opened = open_blocks(tmp_path)
    for name in FIELDS:
        values = getattr(opened, name)
        assert isinstance(values, np.memmap)
        assert values.dtype == np.int32
        assert np.array_equal(values, getattr(expected, name))
        assert np.array_equal(np.load(tmp_path / f"{name}.npy"), getattr(expected, name))


def test_a_training_from_the_disk_reads_what_one_from_memory_does(tmp_path: Path) -> None:
    texts = random_texts(3, 60)
    write_grouped(document_blocks(texts, 8), 8, tmp_path)
    split = split_blocks(open_blocks(tmp_path), 0.3, 0)
    held = Shuffled(split.train, 5, (1, 2))
    mapped = Shuffled(split.blocks, 5, (1, 2), split.train_rows_N)
    assert held.n_tokens == mapped.n_tokens
    for (ids_NC, at), (same_NC, same_at), _ in zip(held.chunks(3), mapped.chunks(3), range(60), strict=False):
        assert torch.equal(ids_NC, same_NC)
        assert at == same_at
