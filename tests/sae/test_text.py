"""Text sources: no block lost or given twice, positions to continue from, a corpus never read ahead of need."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sae.common.errors import UserError
from sae.data import corpus
from sae.data.blocks import ENCODED_AT_ONCE, to_blocks
from sae.data.corpus import Document
from sae.data.deduplication import Known
from sae.data.split import hold_out
from sae.data.token_source import Shuffled, Streamed, TextSource
from tests.sae.numbers import C, blocks_of, epochs, full_blocks, ids_of, numbers, ordered, streamed

Counted = dict[str, int]


@pytest.fixture(params=["shuffled", "streamed"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> TextSource:
    return Shuffled(blocks_of(40), 5) if request.param == "shuffled" else streamed(tmp_path)


@pytest.mark.parametrize("n_blocks", [1, 9, 1000])
def test_every_epoch_has_every_full_block_once(source: TextSource, n_blocks: int) -> None:
    for ids_NC in epochs(source, 3, n_blocks):
        assert ids_NC.dtype == torch.int64
        assert ordered(ids_NC) == full_blocks()


def test_shuffled_epochs_differ_in_order_and_streamed_ones_do_not(tmp_path: Path) -> None:
    first_NC, second_NC = epochs(Shuffled(blocks_of(40), 5), 2)
    assert not torch.equal(first_NC, second_NC)
    assert torch.equal(first_NC, epochs(Shuffled(blocks_of(40), 5), 1)[0])
    assert not torch.equal(first_NC, epochs(Shuffled(blocks_of(40), 6), 1)[0])
    first_NC, second_NC = epochs(streamed(tmp_path), 2)
    assert torch.equal(first_NC, second_NC)
    assert first_NC.tolist() == full_blocks()


def test_chunks_go_on_from_every_position(source: TextSource) -> None:
    undisturbed = list(islice(source.chunks(7), 40))
    assert undisturbed[-1][1]["epoch"] >= 3
    for number, (_, position) in enumerate(undisturbed[:-3]):
        resumed = source.chunks(7, json.loads(json.dumps(position)))
        for (ids_NC, after), (same_NC, same_after) in zip(undisturbed[number + 1 :][:3], resumed, strict=False):
            assert torch.equal(ids_NC, same_NC)
            assert after == same_after


def test_shares_are_disjoint_and_cover(source: TextSource) -> None:
    shares = [epochs(replace(source, share=(rank, 3)), 2) for rank in range(3)]  # type: ignore[type-var]
    for epoch in range(2):
        assert ordered(torch.cat([share[epoch] for share in shares])) == full_blocks()
    undisturbed = list(islice(replace(source, share=(1, 3)).chunks(2), 12))  # type: ignore[type-var]
    for number, (_, position) in enumerate(undisturbed[:-1]):
        resumed = replace(source, share=(1, 3)).chunks(2, position)  # type: ignore[type-var]
        assert torch.equal(next(resumed)[0], undisturbed[number + 1][0])


def test_a_streamed_corpus_is_read_only_as_far_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counted = {"documents": 0}

    def endless(spec: str, start: int = 0) -> Iterator[Document]:
        assert spec == "endless"
        number = start
        while True:
            read["documents"] += 1
            yield Document(str(number), f"{number} " * C)
            number += 1

    monkeypatch.setattr(corpus, "documents", endless)
    source = Streamed("endless", ids_of, C)
    for number, (ids_NC, _) in enumerate(islice(source.chunks(100), 20), start=1):
        assert ids_NC[:, 0].tolist() == list(range(100 * (number - 1), 100 * number))
        assert read["documents"] <= 100 * number + 1 + ENCODED_AT_ONCE
    read["documents"] = 0
    next(source.chunks(10, {"epoch": 0, "document": 10**9, "block": 0}))
    assert read["documents"] <= 2 * ENCODED_AT_ONCE


def test_going_on_tokenises_no_document_again(tmp_path: Path) -> None:
    seen: list[str] = []

    def counting(texts: list[str]) -> list[list[int]]:
        seen.extend(texts)
        return ids_of(texts)

    source = replace(streamed(tmp_path, 40), token_ids=counting)
    _, position = next(source.chunks(20))
    seen.clear()
    next(source.chunks(20, position))
    words = [" ".join(map(str, ids)) for ids in numbers(40)]
    assert seen == [one for one in words[position["document"] :] if one]


class Rows:
    """Stands for a streaming dataset; rows that are skipped are not made."""

    def __init__(self, made: Counted, start: int) -> None:
        self.made, self.start = made, start

    def skip(self, count: int) -> "Rows":
        return Rows(self.made, self.start + count)

    def __iter__(self) -> Iterator[dict[str, str]]:
        for number in range(self.start, 1000):
            self.made["rows"] += 1
            yield {"body": f"{number} " * 2 * C}


def test_datasets_are_streamed_and_skipped_by_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Counted = {"rows": 0}

    def load_dataset(path: str, name: str | None, split: str, streaming: bool) -> Rows:
        assert (path, name, split, streaming) == ("owner/name", "small", "train", True)
        return Rows(made, 0)

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    source = Streamed("hf:owner/name@small#body", ids_of, C)
    chunks = source.chunks(501)
    next(chunks)
    _, position = next(chunks)
    expected_NC, _ = next(chunks)
    made["rows"] = 0
    again_NC, _ = next(source.chunks(501, position))
    assert position == {"epoch": 0, "document": 501, "block": 0}
    assert torch.equal(again_NC, expected_NC)
    assert made["rows"] < 251 + 2 * ENCODED_AT_ONCE


def test_the_real_datasets_library_goes_on_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    import pandas

    pandas.DataFrame({"text": [f"{i} " * 2 * C for i in range(200)]}).to_parquet(tmp_path / "data.parquet")
    source = Streamed(f"hf:{tmp_path}", ids_of, C)
    local = Streamed(str(tmp_path / "data.parquet"), ids_of, C)
    chunks = list(islice(source.chunks(150), 4))
    for (ids_NC, position), (local_NC, local_position) in zip(chunks, local.chunks(150), strict=False):
        assert torch.equal(ids_NC, local_NC)
        assert position == local_position
    assert torch.equal(next(source.chunks(150, chunks[0][1]))[0], chunks[1][0])
    assert chunks[2][1] == {"epoch": 1, "document": 0, "block": 0}


def test_held_out_documents_are_whole_and_never_streamed(tmp_path: Path) -> None:
    source = streamed(tmp_path)
    held_out = hold_out(source.spec, ids_of, C, 10)
    first = to_blocks(numbers(40)[: held_out.n_documents], C)
    assert len(first.full().ids_NC) >= 10
    assert len(to_blocks(numbers(40)[: held_out.n_documents - 1], C).full().ids_NC) < 10
    for field in ("ids_NC", "length_N", "document_N"):
        assert np.array_equal(getattr(held_out.blocks, field), getattr(first, field))
    trained = replace(source, skip_documents=held_out.n_documents)
    for ids_NC in epochs(trained, 2):
        assert ordered(torch.cat([ids_NC, torch.from_numpy(first.full().ids_NC).long()])) == full_blocks()
    with pytest.raises(UserError, match="too few to hold out 999") as caught:
        hold_out(source.spec, ids_of, C, 999)
    assert "\n" not in str(caught.value)


def test_a_stream_leaves_out_near_duplicates_of_what_is_held_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Copies of a held-out document, in both epochs, and of which shares of the text; others keep their blocks."""
    texts = [list(range(100 * i, 100 * i + 40)) for i in range(1, 9)]
    texts[4] = [7, *texts[0]]
    texts[6] = texts[0][:30]
    path = tmp_path / "copies.jsonl"
    path.write_text("\n".join(json.dumps({"text": " ".join(map(str, ids))}) for ids in texts))
    held = hold_out(str(path), ids_of, C, 1)
    source = Streamed(str(path), ids_of, C, held.n_documents, held_out=Known.of(held.blocks))
    expected = [ids[start : start + C] for ids in (texts[i] for i in (1, 2, 3, 5, 7)) for start in range(0, 40, C)]
    assert [ids_NC.tolist() for ids_NC in epochs(source, 2)] == [expected, expected]
    assert caplog.text.count("copies.jsonl: 2 near-duplicates of held-out documents left out") == 2
    shares = [epochs(replace(source, share=(rank, 2)), 1)[0].tolist() for rank in range(2)]
    assert sorted([*shares[0], *shares[1]]) == expected
