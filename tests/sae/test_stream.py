"""Streams of activations: nothing is lost or given twice, and stopping anywhere changes no bit."""

import json
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sae.common.errors import UserError
from sae.data import corpus
from sae.data.activation_stream import ActivationStream, Position
from sae.data.blocks import to_blocks
from sae.data.token_source import Shuffled, Streamed, TextSource
from sae.models.subject import boot
from tests.sae.numbers import C, blocks_of, full_blocks, ids_of, ordered, streamed

D = 3


@dataclass
class FakeSubject:
    """Activations that tell the token, its position in the block, and the block's first token."""

    device: str = "cpu"
    blocks_seen: int = 0

    def activations(self, ids_NC: Tensor, hook_point: str) -> Tensor:
        self.blocks_seen += len(ids_NC)
        position_NC = torch.arange(ids_NC.shape[1]).expand_as(ids_NC)
        return torch.stack([ids_NC, position_NC, ids_NC[:, :1].expand_as(ids_NC)], -1).float()


@pytest.fixture(params=["shuffled", "streamed"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> TextSource:
    return Shuffled(blocks_of(40), 5) if request.param == "shuffled" else streamed(tmp_path)


def stream_of(source: TextSource, **settings: object) -> ActivationStream:
    arguments: dict[str, object] = {"forward_blocks": 3, "buffer_vectors": 9 * C} | settings
    return ActivationStream(FakeSubject(), "hook", source, 7, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 20, 3 * C, 10 * C, 200 * C])
def test_batches_go_on_from_every_position_bit_by_bit(source: TextSource, size: int) -> None:
    """Within a buffer, across fills and epochs; batches smaller, larger than a fill, and larger than an epoch."""
    count = {1: 400, 200 * C: 8}.get(size, 40)
    taken: list[tuple[Tensor, int, Position]] = []
    batches = stream_of(source).batches(size)
    for batch_BD in islice(batches, count):
        taken.append((batch_BD.clone(), batch_BD.storage_offset(), json.loads(json.dumps(batches.position))))
    assert taken[-1][2]["fill"] > 3
    for number, (_, _, position) in enumerate(taken[:-3]):
        resumed = stream_of(source).batches(size, position)
        assert resumed.position == position
        for batch_BD, offset, after in taken[number + 1 : number + 4]:
            again_BD = next(resumed)
            assert torch.equal(again_BD, batch_BD)
            assert again_BD.storage_offset() == offset  # some matrix products round by alignment
            assert resumed.position == after


@pytest.mark.parametrize("done", [3, 5])
def test_going_on_computes_no_more_than_the_buffer_in_use(done: int) -> None:
    """Three batches a fill: after three nothing is left of the first, the sixth is the last of the second."""
    stream = stream_of(Shuffled(blocks_of(40), 5))
    batches = stream.batches(3 * C)
    for _ in range(done):
        next(batches)
    fresh = replace(stream, subject=FakeSubject())
    next(fresh.batches(3 * C, batches.position))
    assert fresh.subject.blocks_seen == 9


def test_an_epoch_of_batches_is_a_permutation_of_all_activations(source: TextSource) -> None:
    stream = stream_of(source)
    ids_NC = torch.from_numpy(blocks_of(40).full().ids_NC).long()
    expected_BD = FakeSubject().activations(ids_NC, "hook").flatten(0, 1)
    n_batches = 3 * len(expected_BD) // C
    assert 3 * len(expected_BD) % C == 0
    result_BD = torch.cat([batch_BD.clone() for batch_BD in islice(stream.batches(C), n_batches)])
    for epoch_BD in result_BD.split(len(expected_BD)):
        assert ordered(epoch_BD) == ordered(expected_BD)
    position_B = result_BD[: 9 * C, 1]
    assert float((position_B[1:] == position_B[:-1] + 1).float().mean()) < 0.3, (
        "neighbours of the text are still together"
    )
    assert not torch.equal(result_BD[9 * C : 18 * C, 1], position_B), "every fill has the same order"


@pytest.mark.parametrize("forward_blocks", [1, 4, 1000])
def test_batches_do_not_depend_on_the_models_own_batch(source: TextSource, forward_blocks: int) -> None:
    one, other = stream_of(source).batches(20), stream_of(source, forward_blocks=forward_blocks).batches(20)
    for _ in range(30):
        assert torch.equal(next(one), next(other))


def test_the_buffer_is_allocated_once_and_batches_are_views_of_it() -> None:
    batches = stream_of(Shuffled(blocks_of(40), 5), dtype=torch.bfloat16).batches(20)
    storages = {next(batches).untyped_storage().data_ptr() for _ in range(40)}
    assert len(storages) == 1
    assert next(batches).untyped_storage().nbytes() == (9 * C + 20) * D * 2


def test_samples_are_the_streams_first_vectors_without_repeats(source: TextSource) -> None:
    stream = stream_of(source)
    n_vectors = len(full_blocks()) * C
    for size in (5, 9 * C, 100, n_vectors):
        sample_BD = stream.sample(size)
        assert torch.equal(sample_BD, next(stream.batches(size)))
        assert sample_BD.untyped_storage().nbytes() == size * D * 4
    assert len(stream.sample(10 * n_vectors)) == n_vectors


def test_samples_of_a_text_that_fills_the_buffer_exactly_have_no_repeats(tmp_path: Path) -> None:
    n_blocks = len(full_blocks())
    for source in (Shuffled(blocks_of(40), 5), streamed(tmp_path)):
        stream = stream_of(source, buffer_vectors=n_blocks * C)
        assert len(stream.sample(2 * n_blocks * C)) == n_blocks * C


def test_activations_are_the_subjects_also_where_heads_are_flattened(planted: Path) -> None:
    subject = boot(str(planted / "model"), prepend_bos=False)
    ids = subject.token_ids([document.text for document in corpus.read_documents(str(planted / "corpus.jsonl"))][:12])
    blocks = to_blocks(ids, 32)
    ids_NC = torch.from_numpy(blocks.full().ids_NC).long()
    for hook_point in ("blocks.0.mlp.hook_post", "blocks.0.attn.hook_z"):
        stream = ActivationStream(subject, hook_point, Shuffled(blocks, 0), 0, buffer_vectors=256)
        expected_BD = subject.activations(ids_NC, hook_point).flatten(0, 1)
        result_BD = torch.cat([batch.clone() for batch in islice(stream.batches(64), len(expected_BD) // 64)])
        torch.testing.assert_close(by_first(result_BD), by_first(expected_BD), atol=1e-5, rtol=1e-4)
        other = replace(stream, forward_blocks=5)
        torch.testing.assert_close(other.sample(100), stream.sample(100), atol=1e-5, rtol=1e-4)
        batches = stream.batches(100)
        next(batches), next(batches)
        assert torch.equal(next(stream.batches(100, batches.position)), next(batches))


def by_first(rows_BD: Tensor) -> Tensor:
    return rows_BD[rows_BD[:, 0].argsort()]


def test_text_without_a_full_block_is_told_in_one_line(tmp_path: Path) -> None:
    short = tmp_path / "short.jsonl"
    short.write_text('{"text": "1 2 3"}\n{"text": " "}\n')
    empty: list[TextSource] = [
        Shuffled(to_blocks([[1, 2, 3]], C), 0),
        Shuffled(to_blocks([[1] * C], C), 0, share=(1, 2)),
        Streamed(str(short), ids_of, C),
        streamed(tmp_path, 40, skip_documents=40),
    ]
    for source in empty:
        for use in (lambda stream: next(stream.batches(4)), lambda stream: stream.sample(4)):
            with pytest.raises(UserError, match=r"no document of 8 tokens to learn from.*corpus\.context") as caught:
                use(stream_of(source))
            assert "\n" not in str(caught.value)
