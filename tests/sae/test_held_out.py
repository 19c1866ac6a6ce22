"""A trained dictionary is measured on text that its training never saw, found again from its metadata alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae import formats
from sae.common.errors import UserError
from sae.common.progress import Silent
from sae.data.blocks import Blocks, to_blocks
from sae.data.split import VERSION, TrainingText, held_out_of_trainings, recorded, recut, same_corpus
from sae.measuring.eval_paths import eval_paths
from sae.measuring.eval_request import Request
from sae.measuring.eval_text import Source, source_of
from sae.models.cache import ArtifactCache
from sae.models.subject import Subject, boot
from sae.training import session
from sae.training.config import TrainConfig
from sae.training.inputs import prepare
from sae.training.ranks import Ranks
from tests.sae.numbers import ids_of
from tests.sae.training.small import finish, of_planted

OF_NOW = {"split_version": VERSION}
SAID: dict[str, Any] = {"source": "x.jsonl", "context": 32, "max_tokens": 1000, "held_out_tokens": 100}


@pytest.fixture(scope="module")
def subject(planted: Path) -> Subject:
    return boot(str(planted / "model"))


def training(planted: Path, folder: Path, **changes: Any) -> TrainConfig:
    return of_planted(planted, folder, subject__hook_point="blocks.0.mlp.hook_post", **changes)


def metadata_of(settings: TrainConfig) -> dict[str, Any]:
    """As it comes back from a file."""
    message: dict[str, Any] = json.loads(
        json.dumps({"corpus": settings.corpus.model_dump(mode="json"), "seed": settings.seed, "split_version": VERSION})
    )
    return message


def learnt(settings: TrainConfig, folder: Path) -> set[tuple[int, ...]]:
    """The blocks that the training reads in an epoch."""
    stream, result = prepare(settings, folder, "cpu", torch.float32, Ranks(), Silent).stream, set()
    for ids_NC, after in stream.source.chunks(7):
        result |= {tuple(ids_C) for ids_C in ids_NC.tolist()}
        if after["epoch"]:
            break
    return result


def read(source: Source, subject: Subject, cache: Path, tokens: int = 10**6, context: int = 32) -> Blocks:
    return source.read(subject, ArtifactCache(cache, Silent, "cpu"), tokens, context)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("seed", [0, 5])
def test_nothing_is_measured_on_that_was_trained_on(
    planted: Path, tmp_path: Path, cache: Path, subject: Subject, streamed: bool, seed: int
) -> None:
    """Blocks of 32 random words are all different: 720 in all, of which 2000 tokens are held out, by document."""
    settings = training(planted, tmp_path, corpus__streamed=streamed, seed=seed)
    source = source_of(metadata_of(settings), None)
    assert (source.corpus, source.part) == (str(planted / "corpus.jsonl"), "held out of its training")
    held_out = {tuple(ids_C) for ids_C in read(source, subject, cache).ids_NC.tolist()}
    seen = learnt(settings, tmp_path)
    assert 60 <= len(held_out) <= 63
    assert not held_out & seen
    assert len(held_out | seen) == 720


def test_the_whole_corpus_where_it_is_another_or_none_is_named(planted: Path, tmp_path: Path) -> None:
    message = metadata_of(training(planted, tmp_path))
    assert source_of(message, "stdlib") == source_of({}, None) == Source("stdlib", None)
    assert source_of({}, "stdlib").part == "whole corpus"
    assert source_of({}, str(planted / "corpus.jsonl")).training is None
    assert source_of(message, str(planted / "model" / ".." / "corpus.jsonl")).training is not None


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"corpus": "x.jsonl", "seed": 0},
        {"corpus": SAID},
        {"corpus": SAID | {"context": None}, "seed": 0, "split_version": VERSION},
        {"corpus": SAID, "seed": 0},
    ],
)
def test_an_account_that_does_not_suffice_is_none(message: dict[str, Any]) -> None:
    """Other programs write what they like under these names."""
    assert recorded(message) is None


def test_a_dictionary_of_another_version_needs_a_corpus() -> None:
    """What its training held out is not known: a silent whole corpus would be measured on training text."""
    metadata = {"corpus": SAID, "text": ["hash", 32, 1000], "seed": 0}
    with pytest.raises(UserError, match=r"another version of sae trained this dictionary.*give --corpus SPEC"):
        source_of(metadata, None)
    assert source_of(metadata, "x.jsonl") == Source("x.jsonl", None)


def test_hub_datasets_were_streamed_unless_they_say_otherwise() -> None:
    for source, streamed, expected in [("hf:a/b", None, True), ("hf:a/b", False, False), ("x.jsonl", None, False)]:
        corpus = SAID | {"source": source, "streamed": streamed}
        result = recorded({"corpus": corpus, "seed": 0} | OF_NOW)
        assert result is not None
        assert result.streamed == expected


def test_specs_of_one_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.jsonl").write_text("")
    monkeypatch.chdir(tmp_path)
    assert same_corpus("x.jsonl", str(tmp_path / "x.jsonl"))
    assert same_corpus("x.jsonl#a", f"{tmp_path}/x.jsonl#a")
    assert not same_corpus("x.jsonl#a", "x.jsonl#b")
    assert not same_corpus("x.jsonl", "stdlib")
    assert same_corpus("hf:a/b", "hf:a/b")


def test_blocks_of_another_length_are_the_same_documents() -> None:
    """Two documents of 5 and 3 tokens, number 4 and 9 of their corpus."""
    ids_NC = np.array([[1, 2, 3, 4], [5, 0, 0, 0], [6, 7, 8, 0]], np.int32)
    blocks = Blocks(ids_NC, np.array([4, 1, 3], np.int32), np.array([4, 4, 9], np.int32), np.array([4, 4, 9], np.int32))
    result = recut(blocks, 3)
    assert result.ids_NC.tolist() == [[1, 2, 3], [4, 5, 0], [6, 7, 8]]
    assert result.length_N.tolist() == [3, 2, 3]
    assert recut(result, 8).ids_NC.tolist() == [[1, 2, 3, 4, 5, 0, 0, 0], [6, 7, 8, 0, 0, 0, 0, 0]]


def test_a_text_that_has_changed_is_refused(planted: Path, tmp_path: Path, cache: Path, subject: Subject) -> None:
    """Its split would be another: what was trained on would be among what is measured on."""
    corpus = tmp_path / "mine.jsonl"
    corpus.write_text((planted / "corpus.jsonl").read_text())
    settings = training(planted, tmp_path / "out", corpus__source=str(corpus), steps=20)
    trained = finish(settings).folder
    source = source_of(formats.load(trained / "topk_4x_k4").metadata, None)
    assert read(source, subject, cache).n_tokens == 1920  # 20 documents of 96 words; one more would be too many
    corpus.write_text("".join(corpus.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(UserError, match="has changed since the training"):
        read(source, subject, cache)


@pytest.mark.parametrize(("up_to", "compared"), [(10, False), (256, True)])
def test_a_training_compares_directions_only_of_dictionaries_that_are_not_huge(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, up_to: int, compared: bool
) -> None:
    monkeypatch.setattr(session, "COSINES_UP_TO", up_to)
    trained = finish(training(planted, tmp_path / "out", steps=20)).folder
    measured = formats.load(trained / "topk_4x_k4").metadata["metrics"]
    assert (measured["decoder_max_cosine"] is not None) == compared


def test_dictionaries_of_different_splits_are_each_measured_on_their_own(planted: Path, tmp_path: Path) -> None:
    """As their trainings measured them, to the last digit that a batch leaves."""
    paths = [
        str(finish(training(planted, tmp_path / str(seed), seed=seed, steps=20)).folder / "relu_4x_l1=0.5")
        for seed in (0, 1)
    ]
    outcomes = eval_paths(Request(paths=(*paths, str(planted / "dictionary")), tokens=2000), Silent)
    parts = [outcome.to_json()["corpus_part"] for outcome in outcomes]
    assert parts == ["held out of its training"] * 2 + ["whole corpus"]
    assert outcomes[2].text.corpus == "stdlib"
    for path, outcome in zip(paths, outcomes, strict=False):
        before, after = formats.load(path).metadata["metrics"], outcome.to_json()
        assert before["tokens"] == after["tokens"]
        assert after["context"] == 32
        for name in ("l0", "fvu", "density_median"):
            assert after[name] == pytest.approx(before[name], rel=1e-5)


def test_what_streams_hold_out_is_found_in_a_corpus_in_memory(tmp_path: Path) -> None:
    """A stream counts blank documents, a corpus in memory has none; what is like a text that was seen is left out."""
    texts = ["1 2 3 4", " ", "5 6 7 8", "9 10 11 12", "13 14 15 16"]
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    ids = ids_of([text for text in texts if text.strip()])
    blocks, text = to_blocks(ids, 4), TrainingText(str(path), 4, 100, held_out_tokens=12, streamed=True, seed=0)
    alike, less = replace(blocks, group_N=np.array([0, 1, 2, 1], np.int32)), replace(text, held_out_tokens=4)

    def held_out(trainings: list[TrainingText], of: Blocks) -> list[int]:
        split = held_out_of_trainings(trainings, of, ids_of, lambda _: of)
        return [int(document) for document in split.held_out.document_N]

    assert held_out([text], blocks) == [0, 1, 2]
    assert held_out([text], alike) == [0, 2]
    assert held_out([text, less], blocks) == [0]
