"""What is trained on and what is held out: never the same document, in memory or streamed, stopped or not."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sae import formats
from sae.common.errors import UserError
from sae.training.config import TrainConfig
from sae.training.inputs import Inputs, Reader, prepare
from sae.training.ranks import Ranks
from sae.training.session import run
from tests.sae.training.small import KilledError, Silent, assert_same, cut_short, finish, of_planted, toy

STREAMED = {"corpus__streamed": True, "buffer": 1024}
BLOCKS = 240 * 3
"""Full blocks of 32 tokens in the planted corpus."""


def prepared(settings: TrainConfig, folder: Path) -> Inputs:
    return prepare(settings, folder, "cpu", torch.float32, Ranks(), Silent)


def epoch(inputs: Inputs) -> list[tuple[int, ...]]:
    """The blocks that are trained on once through the text."""
    result: list[tuple[int, ...]] = []
    for ids_NC, after in inputs.stream.source.chunks(7):
        result += [tuple(ids_C) for ids_C in ids_NC.tolist()]
        if after["epoch"]:
            break
    return result


@pytest.fixture
def hub(planted: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A `datasets` module that has the planted corpus; how many rows each reading skipped."""
    texts = [json.loads(line) for line in (planted / "corpus.jsonl").read_text().splitlines()]
    skipped: list[int] = []

    class Rows:
        def __iter__(self) -> Iterator[dict[str, Any]]:
            return iter(texts)

        def skip(self, n: int) -> Iterator[dict[str, Any]]:
            skipped.append(n)
            return iter(texts[n:])

    module = SimpleNamespace(load_dataset=lambda path, name, split, streaming: Rows())
    monkeypatch.setitem(sys.modules, "datasets", module)
    return skipped


@pytest.mark.parametrize("streamed", [False, True])
def test_held_out_documents_are_never_trained_on(planted: Path, tmp_path: Path, streamed: bool) -> None:
    """Blocks of 32 random words are all different, so that they tell the documents apart."""
    inputs = prepared(of_planted(planted, tmp_path, corpus__streamed=streamed), tmp_path)
    learnt = epoch(inputs)
    held_out = [tuple(ids_C) for ids_C in inputs.held_out.ids_NC.tolist()]
    assert len(set(learnt)) == len(learnt)
    assert not set(learnt) & set(held_out)
    assert len(learnt) + len(held_out) == BLOCKS
    assert len(held_out) in (60, 63)


@pytest.mark.slow
def test_a_stream_is_gone_on_with_where_it_was_left(planted: Path, tmp_path: Path) -> None:
    """Also in its second epoch: 240 batches of 128 are more than there is."""
    changes = STREAMED | {"steps": 240}
    whole = finish(of_planted(planted, tmp_path / "whole", **changes)).folder
    for steps_of_this_start in (75, 156):
        with pytest.raises(KilledError):
            run(of_planted(planted, tmp_path / "out", **changes), cut_short(steps_of_this_start))
    finish(of_planted(planted, tmp_path / "out", **changes))
    assert_same(tmp_path / "out", whole)


def test_a_hub_dataset_is_streamed(planted: Path, tmp_path: Path, hub: list[int]) -> None:
    """The same text gives the same dictionaries as a file, and a later start skips what was read."""
    settings = of_planted(planted, tmp_path / "hub", **STREAMED | {"corpus__source": "hf:someone/words"})
    assert settings.corpus.is_streamed
    with pytest.raises(KilledError):
        run(settings, cut_short(90))
    n_held_out = max(hub)
    done = finish(settings)
    assert max(hub) > n_held_out > 0
    as_file = finish(of_planted(planted, tmp_path / "file", **STREAMED)).folder
    for row in done.about["dictionaries"]:
        made = formats.load(done.folder / row["name"])
        assert made.W_enc_DF.equal(formats.load(as_file / row["name"]).W_enc_DF)
        assert made.metadata["corpus"]["source"] == "hf:someone/words"


@pytest.mark.slow
def test_two_seeds_give_two_subjects_and_the_same_seed_one(tmp_path: Path) -> None:
    weights = []
    for number, seed in enumerate((0, 1, 0)):
        inputs = prepared(toy(tmp_path / f"{number}", subject__toy__seed=seed), tmp_path / f"{number}")
        weights.append(inputs.subject.bridge.W_in[0])
    assert weights[0].equal(weights[2])
    assert not weights[0].allclose(weights[1], atol=1e-2)


def test_too_little_text_is_one_line(planted: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too few to hold out"):
        finish(of_planted(planted, tmp_path / "a", corpus__streamed=True, corpus__held_out_tokens=10**6))
    (tmp_path / "short.txt").write_text("red blue")
    for streamed in (True, False):
        short = {"corpus__streamed": streamed, "corpus__source": str(tmp_path / "short.txt")}
        with pytest.raises(UserError, match="too few"):
            finish(of_planted(planted, tmp_path / f"{streamed}", **short))


def test_only_the_language_models_products_are_fast() -> None:
    """Those of dictionaries in float32, and of measures, are what they are called."""
    seen: list[str] = []

    def side_by_side(ids_NC: torch.Tensor, hook_points: tuple[str, ...]) -> torch.Tensor:
        seen.append(f"{torch.get_float32_matmul_precision()} {' '.join(hook_points)}")
        return torch.zeros(1)

    subject: Any = SimpleNamespace(device="cuda", side_by_side=side_by_side)
    Reader(subject, None).activations(torch.zeros(1), "a")
    Reader(subject, "b").activations(torch.zeros(1), "a")
    assert (seen, torch.get_float32_matmul_precision()) == (["high a", "high a b"], "highest")
