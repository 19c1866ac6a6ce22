"""Faults of the originals: each changes what it says and nothing without its name, and a run with one says so."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

import autointerp
from autointerp import config, peer_faults, presets, scorers
from autointerp.config import Config
from autointerp.evaluate import Method, explain
from autointerp.explainers import Explainer
from autointerp.llm.ask import answered_by
from autointerp.llm.types import LLMTask
from autointerp.peer_faults import FAULTS
from autointerp.prompting.render import strongly_active
from autointerp.records import (
    ActivationRecord,
    AnswerError,
    Control,
    Explanation,
    FeatureId,
    FeatureRecord,
    FeatureResult,
    Source,
    Status,
)
from autointerp.reporting import leaderboard
from autointerp.runs import identity, verify
from autointerp.sampling.given import GivenText, sample_given
from autointerp.scorers.fragments import labelled
from autointerp.store import RunFolder
from sae.baselines.pca import pca
from sae.common.errors import UserError
from sae.common.progress import Silent
from sae.common.resources import shipped_folder
from tests.conftest import PLANTED_SETTINGS
from tests.conftest import autointerp as command

LENGTH = 8


def faulty(*names: str, **values: Any) -> Config:
    return config.build({"peer_faults": list(names)} | values, {}, "test")


def sampled(made: Config, density: float) -> FeatureRecord:
    """A feature that is active on this share of 400 fragments, of 40 documents."""
    rng = np.random.default_rng(0)
    acts_NCF = (rng.random((400, LENGTH, 1)) * (rng.random((400, 1, 1)) < density)).astype(np.float32)
    text = GivenText([f"t{number}" for number in range(400 * LENGTH)], np.arange(400) // 10)
    (feature,) = sample_given(text, acts_NCF, made, Silent)
    assert feature is not None
    return feature


def test_every_fault_belongs_to_a_preset_and_is_named_where_settings_are_explained() -> None:
    named = [name for path in shipped_folder("eval_configs").glob("presets/*.yaml") for name in faults_of(path.stem)]
    assert set(named) == set(FAULTS)
    documented = Config.model_fields["peer_faults"].description or ""
    assert all(name in documented for name in FAULTS)
    assert {fault.source.count("/") > 2 for fault in FAULTS.values()} == {True}


def faults_of(preset: str) -> list[str]:
    loaded = presets.load(preset)
    table = str(presets.table(loaded))
    names = [name for aspect in loaded.aspects for name in aspect.faults]
    assert all(f"without its fault {name}: {FAULTS[name].does}" in table for name in names)
    return names


def test_an_unknown_fault_is_one_line_with_those_that_exist(tmp_path: Path) -> None:
    done = command("run", "smoke", "--set", "peer_faults=[delphi-leak]", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "unknown fault 'delphi-leak'; there are " + ", ".join(FAULTS) in done.stderr
    with pytest.raises(UserError, match="undefined-as-zero"):
        Method.of(faulty("undefined-as-zero", stopping={"until_resolved": True}))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_in_the_identity_and_in_that_of_records_where_it_changes_them(name: str) -> None:
    right, wrong = config.load("smoke"), config.load("smoke", {"peer_faults": [name]})
    method = Method.of(right)
    assert identity.identify(right, method, {}) != identity.identify(wrong, method, {})
    differ = identity.identify_records(right, {}) != identity.identify_records(wrong, {})
    assert differ == (name in ("delphi-split-leak", "saebench-unchecked-negatives", "saebench-pca-transposed"))


@pytest.mark.parametrize("leaks", [False, True])
def test_the_split_leak_shares_documents_and_windows(leaks: bool) -> None:
    sampling = {"fragment": LENGTH, "explain": {"quantile": 40}, "score": {"quantile": 50, "inactive": 50}}
    made = faulty(*(["delphi-split-leak"] * leaks), sampling=sampling | {"min_active": 200, "population": 0})
    feature = sampled(made, 0.6)
    sides = [{record.tokens for record in side if max(record.activations)} for side in (feature.explain, feature.score)]
    assert [len(side) for side in sides] == [40, 50]
    assert (len(sides[0] & sides[1]) >= 5) == leaks
    documents = [{record.document for record in side} for side in (feature.explain, feature.score)]
    assert bool(documents[0] & documents[1]) == leaks


def test_a_leaked_window_is_counted_once() -> None:
    """About 180 windows are too few where 200 are asked for, though both sides hold them."""
    sampling = {"fragment": LENGTH, "explain": {"top": 5}, "score": {"top": 5}, "population": 0}
    with pytest.raises(UserError, match="activates no feature often enough"):
        sampled(faulty("delphi-split-leak", sampling=sampling | {"min_active": 200}), 0.45)
    assert sampled(faulty("delphi-split-leak", sampling=sampling | {"min_active": 150}), 0.45)


@pytest.mark.parametrize("unchecked", [False, True])
def test_unchecked_negatives_are_random_windows_with_what_the_feature_does_there(unchecked: bool) -> None:
    sampling = {"fragment": LENGTH, "explain": {"top": 5}, "score": {"top": 4, "inactive": 60}, "population": 0}
    made = faulty(*(["saebench-unchecked-negatives"] * unchecked), sampling=sampling, scorers=["detection"])
    feature = sampled(made, 0.5)
    active = sum(max(record.activations) > 0 for record in feature.score if record.source == "inactive")
    assert 15 < active < 45 if unchecked else active == 0
    shown = scorers.make("detection", made).samples(feature)[0]  # type: ignore[attr-defined]
    assert len(shown.no) == 60
    assert len(labelled(feature.score).silent) == 60 - active


def test_transposed_components_reconstruct_and_are_no_principal_components() -> None:
    rng = np.random.default_rng(0)
    x_BD = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) + 3
    made, x = pca(torch.from_numpy(x_BD).float(), transposed=True), torch.from_numpy(x_BD).float()
    codes_BF = made.encode(x)
    signed_BK = (codes_BF[:, :6] - codes_BF[:, 6:]).numpy()
    fitted = PCA().fit(x_BD)
    np.testing.assert_allclose(signed_BK, (x_BD - fitted.mean_) @ fitted.components_, atol=1e-4)
    np.testing.assert_allclose(made.decode(codes_BF).numpy(), x_BD, atol=1e-4)
    assert not np.allclose(np.abs(signed_BK), np.abs(fitted.transform(x_BD)), atol=0.1)


def record(values: list[float], source: Source, name: str) -> ActivationRecord:
    return ActivationRecord(tuple(f"{name}{i}" for i in range(len(values))), tuple(values), 0, source)


def feature_of(score: list[ActivationRecord]) -> FeatureRecord:
    return FeatureRecord(FeatureId("d", 0), score, score, 0.1, 1.0, (0,) * 64, 1.0, 0.1)


def test_the_cue_of_fuzzing_marks_all_silent_texts_alike() -> None:
    """Four of sixteen tokens are active, one of them strongly; delphi marks token 12 and three others."""
    values = [1.0, 0.1, 0.1, 0.1] + [0.0] * 12
    score = [record(values, "top", f"a{n}") for n in range(3)]
    score += [record([0.0] * 16, "inactive", f"s{n}") for n in range(3)]
    sampling = {"score": {"top": 3, "inactive": 3}, "population": 0}
    shown = [
        scorers.make("fuzzing", faulty(*names, scorers=["fuzzing"], sampling=sampling)).samples(feature_of(score))[0]  # type: ignore[attr-defined]
        for names in ((), ("delphi-fuzz-cue",))
    ]
    assert {text.marked for text in shown[0].no.values()} == {(0,)}
    (marks,) = {text.marked for text in shown[1].no.values()}
    assert (len(marks), 12 in marks) == (4, True)
    assert [text.marked for text in shown[1].yes.values()] == [tuple(strongly_active(one)) for one in score[:3]]


def test_plain_accuracy_has_no_chance_level_beside_it() -> None:
    chances = [
        scorers.make("detection", config.load("demo", presets.under("saebench", {"peer_faults": names}))).chances
        for names in ([], ["saebench-plain-accuracy"])
    ]
    assert [next(iter(one.items())) for one in chances] == [
        ("detection/accuracy", pytest.approx(10 / 14)),
        ("detection/accuracy", None),
    ]


class Fails(Explainer):
    """Has no answer that can be read."""

    name = "fails"

    def explain(self, feature: FeatureRecord) -> LLMTask[Explanation]:
        yield from ()
        raise AnswerError("no sentence")


def refuse(request: object) -> Any:
    raise AssertionError(request)


def test_a_literal_failure_is_an_explanation() -> None:
    feature = feature_of([record([1.0, 0.0], "top", "a")])
    right, wrong = (
        answered_by(explain(feature, Fails(), names), refuse) for names in ((), ("delphi-literal-failure",))
    )
    assert isinstance(right.outcome, AnswerError)
    assert isinstance(wrong.outcome, Explanation)
    assert wrong.outcome.text == "Explanation could not be parsed."


@pytest.mark.parametrize("population", [0, 1000])
def test_a_failed_simulation_is_an_error_or_zeros(population: int) -> None:
    """Rules cannot read prose; predicted as zeros, the explanation is one that predicts nothing."""
    feature = feature_of([record([1.0, 0.0], "top", "a"), record([0.0, 0.0], "random", "b")])
    values = {"sampling": {"score": {"top": 1, "random": 1}, "population": population}}
    prose = Explanation("names of rivers", "p", "m")
    right, wrong = (scorers.make("simulation", faulty(*names, **values)) for names in ((), ("failures-as-zeros",)))
    with pytest.raises(AnswerError):
        answered_by(right.score(feature, prose), refuse)
    scored = answered_by(wrong.score(feature, prose), refuse)
    assert scored.scores["simulation/top_and_random"] == 0.0
    assert "simulation/top_and_random" in scored.failed
    assert {one.predicted for one in scored.simulations} == {(0.0, 0.0)}


def test_a_missing_number_is_undefined_or_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    feature = feature_of([record([1.0, 0.0, 0.5], "top", "a")])
    values = {"sampling": {"score": {"top": 1}, "population": 0}}
    numbers = Explanation("rules", "p", "m")
    scored = []
    for names in ((), ("missing-numbers-as-zeros",)):
        scorer = scorers.make("simulation", faulty(*names, **values))

        def simulate(explanation: Explanation, fragments: Any) -> LLMTask[Any]:
            yield from ()
            return [(8.0, None, 3.0)]

        monkeypatch.setattr(scorer._simulator, "simulate", simulate)  # type: ignore[attr-defined]
        scored.append(answered_by(scorer.score(feature, numbers), refuse).scores["simulation/top"])
    assert scored == [None, pytest.approx(np.corrcoef([1, 0, 0.5], [8, 0, 3])[0, 1])]


def result(index: int, value: float | None, status: Status) -> FeatureResult:
    failed = ("simulation/top",) if status == "failed" else ()
    controls = {"mismatched": Control({"simulation/top": value}, failed=failed)}
    scores = {"simulation/top": value}
    return FeatureResult(FeatureId("d", index), "rules-5", status, None, (), scores, controls, failed=failed)


MEANS: dict[tuple[str, ...], tuple[float, int, int, int]] = {
    (): (0.4, 2, 1, 1),
    ("drop-failures",): (0.6, 2, 1, 1),
    ("undefined-as-zero",): (0.3, 2, 2, 0),
    ("drop-failures", "undefined-as-zero"): (0.4, 2, 2, 0),
}
"""The mean of two good features (0.4, 0.8), one that failed and one that is undefined, and the three counts."""


@pytest.mark.parametrize("names", MEANS)
def test_means_drop_failures_or_count_the_undefined_as_zero(names: tuple[str, ...]) -> None:
    results = [result(0, 0.4, "ok"), result(1, 0.8, "ok"), result(2, 0.0, "failed"), result(3, None, "undefined")]
    seen = peer_faults.for_means(results, names)
    about = {"dictionaries": [{"name": "d", "kind": "sae", "hook_point": "h", "l0": 1.0, "fvu": 0.1}]}
    about |= {"config": {"simulator": "rules"}}  # type: ignore[dict-item]
    (row,) = leaderboard.make_rows(about, {"d": [0.1]}, seen, {"simulation/top": 0.0})
    mean, *counts = MEANS[names]
    assert (row["mean"], row["control_mean"]) == (pytest.approx(mean), pytest.approx(mean))
    assert [row["n_ok"], row["n_failed"], row["n_undefined"]] == counts
    failed, undefined = row["n_control_failed"], row["n_control_undefined"]
    assert [row["n_control"] - failed, failed, undefined] == counts
    if not names:
        assert seen is results


@pytest.fixture(scope="module")
def loud(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with two faults, with its pages."""
    folder = tmp_path_factory.mktemp("loud") / "run"
    changes = dict(setting.split("=") for setting in PLANTED_SETTINGS)
    autointerp.run(
        "dictionary",
        {name: json.loads(value) for name, value in changes.items()}
        | {
            "dictionaries.load": [str(planted / "dictionary")],
            "dictionaries.baselines": [],
            "corpus.source": str(planted / "corpus.jsonl"),
            "explainers": ["rules-1"],
            "sampling.features": 3,
            "sampling.population": 0,
            "control_kinds": ["mismatched"],
            "sampling.score": {"top": 3, "random": 3},
            "peer_faults": ["drop-failures", "delphi-split-leak"],
            "runtime.site": True,
        },
        out=folder,
        report=Silent,
    )
    return folder


def test_a_run_says_loudly_which_faults_are_on(loud: Path) -> None:
    said = "WITH THE PEERS' FAULTS drop-failures, delphi-split-leak"
    assert (loud / "leaderboard.md").read_text().count(said) >= 2
    assert {row["peer_faults"] for row in json.loads((loud / "leaderboard.json").read_text())} == {
        "drop-failures, delphi-split-leak"
    }
    assert json.loads((loud / "run.json").read_text())["config"]["peer_faults"] == [
        "drop-failures",
        "delphi-split-leak",
    ]
    for page in ("index.html", "features.html", "run.html"):
        text = (loud / "site" / page).read_text("utf-8")
        assert re.search(r'role="alert".*drop-failures.*delphi-split-leak', text), page
    listed = command("list", loud.parent, cwd=loud.parent).stdout
    assert said in " ".join(listed.split())
    assert said in command("leaderboard", loud, cwd=loud.parent).stdout.replace("\n", " ")


@pytest.mark.slow
def test_a_run_with_faults_can_be_verified_and_one_without_has_no_such_column(loud: Path, planted_run: Any) -> None:
    assert not [check for check in verify.verify(RunFolder(loud), Silent) if check.differences]
    assert all("peer_faults" not in row for row in RunFolder(planted_run.path).read_leaderboard())
