"""Hard records by embedding: the silent texts nearest to active ones, by a real sentence embedding."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from autointerp.config import Config, build
from autointerp.llm.providers.embedding import Embedder
from autointerp.llm.types import EmbeddingRequest
from autointerp.population import Population, PopulationText
from autointerp.records import FeatureRecord
from autointerp.runs import records
from autointerp.runs.plan import make_plan
from autointerp.sampling.hard import EXAMPLES, EmbeddedText, with_hard
from autointerp.scorers.embedding import unit
from autointerp.sections import ScoreRecords
from autointerp.store import RunFolder
from sae.common.errors import UserError
from sae.common.progress import Silent
from tests.autointerp.llm.test_embedding import tiny_bert
from tests.autointerp.test_judged_scorers import feature
from tests.conftest import FILLER, PLANTED_SETTINGS, WORDS

pytestmark = pytest.mark.slow  # importing sentence-transformers takes as long as a hundred tests
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


@pytest.fixture(scope="session")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence embedding model of the planted words, with random weights."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    root = tmp_path_factory.mktemp("sentences")
    tiny_bert(root / "bert", (*SPECIAL, *WORDS, *FILLER))
    sentence_transformers.SentenceTransformer(str(root / "bert"), device="cpu").save(str(root / "saved"))
    return root / "saved"


def config_of(planted: Path, model: object, **score: Any) -> Config:
    settings = dict(setting.split("=") for setting in PLANTED_SETTINGS)
    changes = {name: json.loads(value) for name, value in settings.items()}
    values = {
        "corpus": {"source": str(planted / "corpus.jsonl")},
        "dictionaries": {"load": [str(planted / "dictionary")], "baselines": []},
        "sampling": {"score": {"top": 2, "inactive": 2, "hard": 6, "hard_by": "embedding"} | score},
        "embedding": {"model": str(model)},
        "runtime": {"device": "cpu"},
    }
    return build(values, changes, "test")


def draw(config: Config, folder: Path) -> Sequence[FeatureRecord]:
    return records.records_of(RunFolder(folder), make_plan(config), Silent)


def test_a_run_draws_the_silent_texts_nearest_to_its_strongest(
    planted: Path, sentences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against cosines of vectors that sentence-transformers computes of each text alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOINTERP_CACHE", str(tmp_path / "cache"))
    features = draw(config_of(planted, sentences), tmp_path / "one")
    assert len(features) == len(WORDS)
    population = features[0].population
    assert population is not None
    tokens = [population.text.tokens(fragment) for fragment in range(len(population.text.ids_ML))]
    model = pytest.importorskip("sentence_transformers").SentenceTransformer(str(sentences), device="cpu")
    rows = [model.encode(["".join(one).strip()], normalize_embeddings=True)[0] for one in tokens]
    cosines_MM = np.stack(rows) @ np.stack(rows).T
    for one in features:
        assert one.population is not None
        strength_M = one.population.acts_ML.max(1)
        active = [m for m, text in enumerate(tokens) if WORDS[one.id.index] in map(str.strip, text)]
        strongest = sorted(active, key=lambda m: -strength_M[m])[:EXAMPLES]
        silent = [m for m in range(len(tokens)) if m not in active]
        queues = [sorted(silent, key=lambda m, row=row: -cosines_MM[row, m]) for row in strongest]
        known = {record.tokens for record in one.score if record.source != "hard"}
        in_turns = dict.fromkeys(tokens[m] for turn in zip(*queues, strict=True) for m in turn)
        drawn = [record.tokens for record in one.score if record.source == "hard"]
        assert drawn == [text for text in in_turns if text not in known][:6]
        assert not any(WORDS[one.id.index] in map(str.strip, text) for text in drawn)
    # Once more with the vectors from the disk, and without the note of what was sampled.
    shutil.rmtree(tmp_path / "cache" / "records")
    monkeypatch.setattr(Embedder, "_vectors", lambda *_: pytest.fail("embedded again"))
    assert [one.score for one in draw(config_of(planted, sentences), tmp_path / "two")] == [f.score for f in features]


def planted_feature(texts: Sequence[str], values: Sequence[float]) -> FeatureRecord:
    """A feature that is active on the first token of texts; every text is another document."""
    words = sorted({word for text in texts for word in text.split()})
    ids = np.array([[words.index(word) for word in text.split()] for text in texts], np.int32)
    text = PopulationText(tuple(f" {word}" for word in words), ids, np.arange(len(texts), dtype=np.int32))
    active = np.flatnonzero(values).astype(np.int32)
    population = Population(text, active * ids.shape[1], np.array(values, np.float32)[active])
    return replace(feature(0), population=population)


def test_the_nearest_silent_text_comes_first_and_no_twin_of_an_active_one(sentences: Path) -> None:
    texts = [
        "red stone river stone", "the a of and", "stone red river stone", "nine nine seven nine", "it was that some",
        "red stone river stone", "nine seven nine nine",
    ]  # fmt: skip
    one = planted_feature(texts, [2.0, 0, 0, 1.0, 0, 0, 0])  # the sixth reads like the first, and is silent

    def embed(asked: Sequence[str]) -> NDArray[np.float64]:
        assert len(set(asked)) == len(asked) == 6, "a text is embedded once"
        return unit(asyncio.run(Embedder(str(sentences), "cpu").embed(EmbeddingRequest("m", tuple(asked)))).vectors)

    assert one.population is not None
    embedded = EmbeddedText.of(one.population.text, embed)
    settings = ScoreRecords(top=1, hard=9, hard_by="embedding")
    (after,) = with_hard([one], torch.eye(2), settings, embedded)
    drawn = after.score[len(one.score) :]
    assert [record.document for record in drawn[:2]] == [2, 6], "one near to the strongest, one to the next"
    assert {record.document for record in drawn[2:]} == {1, 4}
    assert not any(any(record.activations) for record in drawn)


def test_the_model_is_part_of_the_records_identity_where_it_is_used(
    planted: Path, sentences: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(sentences, tmp_path / "other")
    (other / "more.txt").write_text("x")
    by_embedding = [make_plan(config_of(planted, model)).records_identity for model in (sentences, other, "hub/name")]
    assert len(set(by_embedding)) == 3
    for unused in ({"hard": 0}, {"hard_by": "decoder"}):
        plans = [make_plan(config_of(planted, model, **unused)) for model in (sentences, other)]
        assert plans[0].records_identity == plans[1].records_identity


def test_a_model_that_cannot_be_loaded_is_refused_before_sampling(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "sample", lambda *_: pytest.fail("sampled first"))
    monkeypatch.setenv("AUTOINTERP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="cannot load embedding model no/such-model"):
        draw(config_of(planted, "no/such-model"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
