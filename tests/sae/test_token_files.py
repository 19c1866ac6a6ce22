"""Token blocks on the disk: what is opened is what was written, memory-mapped; a training reads only its rows."""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sae.common.progress import Silent
from sae.data.blocks import document_blocks, to_blocks
from sae.data.corpus import Text
from sae.data.deduplication import group_near_duplicates
from sae.data.split import split_blocks
from sae.data.token_files import open_blocks, write_grouped
from sae.data.token_source import Shuffled
from sae.models.cache import ArtifactCache
from sae.models.subject import Subject
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


def test_what_is_damaged_in_a_hub_dataset_is_kept_with_its_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is read once: a later run learns from the cache what was skipped. Rows keep their numbers."""
    read: list[str] = []

    def load_dataset(path: str, **how: object) -> list[dict[str, Any]]:
        read.append(path)
        return [{"text": text} for text in ("one two", 3, None, ["four"], "five")]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    subject: Any = SimpleNamespace(
        tokenizer=SimpleNamespace(get_vocab=dict), token_ids=lambda texts: [list(map(len, t.split())) for t in texts]
    )
    artifacts, text = ArtifactCache(tmp_path, Silent, "cpu"), Text("hf:a/b", 4, 100)
    with caplog.at_level(logging.WARNING):
        assert artifacts.tokens(subject, text).ids_NC.tolist() == [[3, 3, 0, 0], [4, 0, 0, 0]]
    damage = artifacts.damage(subject, text)
    assert damage == ("corpus hf:a/b: 2 documents skipped, because they have no text in column 'text' (a/b:1, a/b:3)",)
    assert [record.getMessage() for record in caplog.records] == [*damage]
    assert read == ["a/b"]


def test_tokenizers_of_one_vocabulary_that_cut_differently_share_no_tokens(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    (tmp_path / "text.txt").write_text("One two one")

    def cut(lower: bool) -> list[list[int]]:
        tokenizer = Tokenizer(models.WordLevel({"?": 0, "one": 1, "two": 2}, unk_token="?"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        if lower:
            tokenizer.normalizer = normalizers.Lowercase()
        subject = Subject("m", None, PreTrainedTokenizerFast(tokenizer_object=tokenizer), False, "cpu")
        text = Text(str(tmp_path / "text.txt"), 3, 100)
        ids: list[list[int]] = ArtifactCache(tmp_path, Silent, "cpu").tokens(subject, text).ids_NC.tolist()
        return ids

    assert (cut(lower=False), cut(lower=True)) == ([[0, 2, 1]], [[1, 2, 1]])
    assert len([*(tmp_path / "tokens").glob("*.sha256")]) == 2
    assert cut(lower=False) == [[0, 2, 1]]
    assert len([*(tmp_path / "tokens").glob("*.sha256")]) == 2
