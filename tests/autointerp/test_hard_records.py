"""Hard records: drawn as a brute-force search draws them, silent in the text itself, scored apart from the others."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics

from autointerp import scorers
from autointerp.config import Config, build
from autointerp.evaluate import Method
from autointerp.llm.ask import answered_by
from autointerp.population import Population, PopulationText
from autointerp.records import FeatureId, FeatureRecord
from autointerp.runs.plan import make_plan
from autointerp.sampling import sample
from autointerp.sampling.hard import NEIGHBOURS, with_hard
from autointerp.sections import Records, Sampling, ScoreRecords
from sae.common.errors import UserError
from sae.common.progress import Silent
from tests.autointerp.test_judged_scorers import EXPLAINED, feature, judge, record
from tests.conftest import PLANTED_SETTINGS, WORDS

FEATURES, FRAGMENTS, LENGTH = 9, 60, 5
WIDTH = 12


def activations(seed: int) -> NDArray[np.float32]:
    """[features, fragments, length], sparse; one feature is dead."""
    rng = np.random.default_rng(seed)
    acts = rng.exponential(1.0, (FEATURES, FRAGMENTS, LENGTH)) * (rng.random((FEATURES, FRAGMENTS, LENGTH)) < 0.06)
    acts[3] = 0
    return acts.astype(np.float32)


def records_of(acts: NDArray[np.float32]) -> list[FeatureRecord]:
    """Features whose population these activations are; every fragment is another text, but two are alike."""
    ids = np.arange(FRAGMENTS * LENGTH, dtype=np.int32).reshape(FRAGMENTS, LENGTH)
    ids[7] = ids[6]
    text = PopulationText(tuple(f"t{n}" for n in range(ids.size)), ids, np.arange(FRAGMENTS, dtype=np.int32) * 3)
    made = []
    for index, own in enumerate(acts):
        position = np.flatnonzero(own.ravel()).astype(np.int32)
        population = Population(text, position, own.ravel()[position])
        made.append(replace(feature(2 * index), id=FeatureId("d", 2 * index), population=population))
    return made


def brute_force(acts: NDArray[np.float32], near: NDArray[np.float64], own: int, n: int) -> list[int]:
    """Straight from the definition: neighbours in turns, each by its own strength, no text twice."""
    others = sorted((o for o in range(FEATURES) if o != own and near[own, o] > 0), key=lambda o: -near[own, o])
    silent = [m for m in range(FRAGMENTS) if not acts[own, m].any()]
    queues = [
        sorted((m for m in silent if acts[o, m].any()), key=lambda m: -acts[o, m].max()) for o in others[:NEIGHBOURS]
    ]
    taken: list[int] = []
    for turn in range(FRAGMENTS):
        for queue in queues:
            if turn < len(queue) and queue[turn] not in taken and not {queue[turn], *taken} >= {6, 7}:
                taken.append(queue[turn])
    return taken[:n]


@pytest.mark.parametrize("by", ["decoder", "coactivation"])
@pytest.mark.parametrize("seed", range(4))
def test_hard_records_are_those_of_a_brute_force_search(by: str, seed: int) -> None:
    acts = activations(seed)
    decoder = np.random.default_rng(seed).normal(size=(2 * FEATURES, WIDTH))
    used = decoder[::2] if by == "decoder" else acts.any(2).astype(float)
    near = metrics.pairwise.cosine_similarity(used)
    before = records_of(acts)
    settings = ScoreRecords(top=1, hard=8, hard_by=by)
    after = with_hard(before, torch.from_numpy(decoder), settings)
    for own, (old, new) in enumerate(zip(before, after, strict=True)):
        added = new.score[len(old.score) :]
        assert new.score[: len(old.score)] == old.score
        expected = brute_force(acts, near, own, 8)
        assert [one.document // 3 for one in added] == expected
        assert {one.source for one in added} <= {"hard"}
        assert all(one.tokens == new.population.text.tokens(m) for one, m in zip(added, expected, strict=True))
        assert not any(any(one.activations) for one in added)


def test_a_text_that_is_a_record_already_is_not_drawn_again() -> None:
    acts = activations(0)
    before = records_of(acts)
    (first, *_) = with_hard(before, torch.eye(2 * FEATURES), ScoreRecords(top=1, hard=4, hard_by="coactivation"))
    drawn = first.score[-4:]
    known = [replace(before[0], score=(*before[0].score, replace(drawn[0], source="inactive"))), *before[1:]]
    (again, *_) = with_hard(known, torch.eye(2 * FEATURES), ScoreRecords(top=1, hard=3, hard_by="coactivation"))
    assert again.score[-3:] == drawn[1:]


def test_without_near_features_or_by_default_there_are_none() -> None:
    before = records_of(activations(0))
    assert with_hard(before, torch.eye(2 * FEATURES), ScoreRecords(top=1, hard=5)) == before
    assert with_hard(before, torch.ones(2 * FEATURES, 2), ScoreRecords(top=1)) == before


def test_a_run_draws_texts_with_another_features_word_and_without_its_own(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the planted model a feature is active exactly on its word, so the texts themselves are the truth."""
    monkeypatch.chdir(tmp_path)
    settings = dict(setting.split("=") for setting in PLANTED_SETTINGS)
    changes = {name: json.loads(value) for name, value in settings.items()}
    values = {
        "corpus": {"source": str(planted / "corpus.jsonl")},
        "dictionaries": {"load": [str(planted / "dictionary")], "baselines": []},
        "sampling": {"score": {"top": 2, "inactive": 2, "hard": 4, "hard_by": "coactivation"}},
    }
    drawn = sample(make_plan(build(values, changes, "test")), tmp_path / "cache", Silent)
    assert len(drawn.features) == len(WORDS)
    for one in drawn.features:
        hard = [record for record in one.score if record.source == "hard"]
        assert len(hard) == 4
        explained = {record.document for record in one.explain}
        for text in hard:
            words = {token.strip() for token in text.tokens}
            assert WORDS[one.id.index] not in words
            assert words & set(WORDS)
            assert text.document not in explained


def both(hard: int) -> Config:
    sampling = Sampling(explain=Records(top=1), score=ScoreRecords(top=10, inactive=10, hard=hard))
    return Config(judge="openai/m", sampling=sampling)


@pytest.mark.parametrize("seed", range(5))
def test_detection_reports_hard_texts_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = feature(seed)
    one = replace(one, score=(*one.score, *(record(f"h{n}", [0.0] * 6, "hard") for n in range(6))))
    sure = {r.tokens[0].split("_")[0].strip(): float(rng.choice([0.2, 0.8])) for r in one.score}
    result = answered_by(scorers.make("detection", both(6)).score(one, EXPLAINED), judge(sure.__getitem__))
    plain = answered_by(scorers.make("detection", both(0)).score(one, EXPLAINED), judge(sure.__getitem__))
    names = [f"a{n}" for n in range(10)] + [f"h{n}" for n in range(6)]
    expected = metrics.balanced_accuracy_score([n[0] == "a" for n in names], [sure[n] > 0.5 for n in names])
    assert result.scores == plain.scores | {"detection/hard": pytest.approx(expected)}
    assert len(result.judgements) == 26


def test_without_hard_texts_only_their_score_is_undefined() -> None:
    scorer = scorers.make("detection", both(6))
    scores = answered_by(scorer.score(feature(0), EXPLAINED), judge(lambda name: 0.9 if name[0] == "a" else 0.1)).scores
    assert scores["detection/hard"] is None
    assert scores["detection"] == 1.0
    assert scorer.chances["detection/hard"] == 0.5


def test_hard_records_need_the_population() -> None:
    with pytest.raises(UserError, match=r"sampling\.score\.hard=0"):
        Method.of(build({"sampling": {"population": 0, "score": {"weighted": 0, "top": 5, "hard": 2}}}, {}, "test"))
