"""A study of a planted model: its figures against what is known or measured otherwise, resuming, and refusals."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import autointerp as package
from autointerp import api
from autointerp.sampling import circuits
from autointerp.sampling import studies as measuring
from autointerp.studies import NEURONS, STUDIES, Figure, Session
from autointerp.studies.medians import median_interval
from sae.common.progress import Silent
from sae.dictionary import Dictionary
from sae.measuring import metrics
from tests.conftest import PLANTED_SETTINGS, WORDS, autointerp, make_once

PLAIN = [word for setting in PLANTED_SETTINGS for word in ("--set", setting)]


def study(planted: Path, folder: Path, *names: str) -> Any:
    return autointerp(
        "study", *names, "--dictionary", planted / "dictionary", "--model", planted / "model", "--corpus",
        planted / "corpus.jsonl", *PLAIN, "--explainer", "rules-1", "--features", 8, "--out", "study", cwd=folder,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of all parts."""

    def make(folder: Path) -> None:
        done = study(planted, folder)
        assert done.returncode == 0, done.stderr

    return make_once(tmp_path_factory, "studied", make) / "study"


@pytest.fixture
def report(folder: Path) -> Any:
    return json.loads((folder / "study.json").read_text())


def figures(report: Any, part: str) -> dict[str, Mapping[str, Any]]:
    return {one["what"]: one for one in report["parts"][part]["figures"]}


def test_every_part_is_in_the_report_or_has_a_reason(planted: Path, folder: Path, report: Any) -> None:
    assert tuple(report["parts"]) == STUDIES.names
    few = f"{planted / 'model'} takes 0 of {{}} prompts: too few names are one token there"
    missing = {name: part["not_done"] for name, part in report["parts"].items() if "not_done" in part}
    assert missing == {
        "explained": "setting hook_embed to zero adds no loss, of which a share could be recovered",
        "universality": "needs a second model: only a toy subject with dictionaries of its own has one",
        "tasks": few.format(300),
        "patching": few.format(28),
        "erasure": few.format(200),
        "splitting": "needs three sizes of one dictionary: only a toy has them trained here",
        "absorption": "needs words whose properties are known: only the grammar's are",
        "circuits": "needs dictionaries at two hook points: give --dictionary twice",
        "automata": "needs sequences that are known to be in the text: only the grammar's are",
        "specificity": "no concept with a rule has 50 tokens in each half of the text that was sampled",
    }
    text = (folder / "study.md").read_text()
    assert "Not measured: needs a second model: only a toy subject" in text
    assert all(f"## {name}\n" in text for name in STUDIES.names)
    assert "Published: Bricken et al. 2023 (Towards Monosemanticity); the published judge is" in text


def test_figures_of_ablation_are_means_over_the_records(folder: Path, report: Any) -> None:
    features = [one for one in package.open_run(folder / "run").features if one.id.dictionary == "words"]
    losses = [one.effect.loss for one in features if one.effect and one.effect.loss is not None]
    assert len(losses) == len(WORDS)
    mean = figures(report, "ablation")["loss where the feature is active, nats"]
    assert (mean["value"], mean["n"]) == (pytest.approx(np.mean(losses)), 8)
    agreement = figures(report, "logits")["features: median agreement with ablations"]
    assert agreement["value"] == pytest.approx(
        np.median([one.effect.logit_agreement for one in features if one.effect])
    )
    (table,) = report["parts"]["ablation"]["tables"]
    assert {tuple(row[2].split()[:1]) for row in table["rows"]} == {(repr(word),) for word in WORDS}


def test_the_curve_ends_at_the_whole_dictionary(smoke: Path) -> None:
    """All features alone are the dictionary's reconstruction, whose loss another room measures; none are its bias."""
    session = session_of(smoke, "topk_2x")
    prepared = measuring.prepare(session.plan, session.cache, Silent)
    dictionary, ids_NC = prepared.dictionaries[0].dictionary, measuring._loss_ids(prepared)
    everything = list(range(dictionary.n_features))
    curve = measuring.recovered(session, everything, [0, 128], everything[:40])
    against = metrics.ablations(prepared.subject, dictionary.reads[0], ids_NC)
    expected = metrics.cross_entropy(dictionary, against).recovered
    for name in ("whole", "best", "random"):
        value, low, high = curve[name] if name == "whole" else curve[name][1]
        assert value == pytest.approx(expected, abs=1e-5)
        assert low < value < high
    bias = replace(dictionary, W_dec_FD=torch.zeros_like(dictionary.W_dec_FD))
    assert curve["best"][0][0] == pytest.approx(metrics.cross_entropy(bias, against).recovered, abs=1e-5)
    assert curve["best"][0][0] < curve["described_alone"][0] < curve["whole"][0]
    assert curve["best_half_above_random"][1] < curve["best_half_above_random"][2]


def session_of(folder: Path, dictionary: str) -> Session:
    from autointerp.runs.opening import open_folder
    from autointerp.runs.trying import plan_of
    from sae.common.settings import cache_folder

    run = open_folder(folder)
    return Session(plan_of(run), run, dictionary, NEURONS, cache_folder("autointerp"), Silent)


def test_a_pinned_word_is_what_the_text_becomes(report: Any) -> None:
    """The unembedding is the embedding: a word that is held up foretells itself."""
    named = figures(report, "steering")
    assert named["share where the explanation holds, feature pinned"]["value"] > 0.5
    assert named["the same, nothing pinned"]["value"] < 0.3
    assert named["change of the share where another feature's explanation holds"]["value"] < 0.05


@pytest.mark.slow
def test_the_same_subject_is_universal_and_random_directions_are_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(folder / "run", "words")
    ours = measuring.prepare(session.plan, session.cache, Silent)
    noise = torch.Generator().manual_seed(1)
    W_FD = torch.randn(8, 16, generator=noise)
    random = Dictionary("words", "sae", W_FD.T.contiguous(), torch.zeros(8), W_FD, torch.zeros(16)).at("hook_embed")
    neurons = next(one for one in ours.dictionaries if one.dictionary.name == NEURONS)
    for theirs, low, high in ((ours.dictionaries[0].dictionary, 0.999, 1.001), (random, 0.0, 0.95)):
        other = SimpleNamespace(**vars(ours) | {"dictionaries": (SimpleNamespace(dictionary=theirs), neurons)})
        both = iter((other, ours))
        monkeypatch.setattr(measuring, "prepare", lambda *_, both=both: next(both))
        values = measuring.other_seed(session)
        assert low < float(np.median(values["features"])) < high
        assert np.allclose(values["neurons"], 1)


def test_a_study_continues_byte_for_byte(planted: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing finished is measured again; a part that was lost, or is damaged, is."""
    files = [folder / "study.json", folder / "study.md", *sorted((folder / "parts").iterdir())]
    before = [path.read_bytes() for path in files]
    (folder / "parts" / "logits.json").unlink()
    (folder / "parts" / "ablation.json").write_text("{")
    measured: list[str] = []
    for name in STUDIES.names:
        part = STUDIES.get(name)

        def measure(self: Any, session: Session, name: str = name, inner: Any = part.measure) -> Any:
            measured.append(name)
            return inner(self, session)

        monkeypatch.setattr(part, "measure", measure)
    done = study(planted, folder.parent)
    assert done.returncode == 0, done.stderr
    assert measured == ["ablation", "logits"]
    assert [path.read_bytes() for path in files] == before
    assert "ablation: Each feature is subtracted" in done.stdout
    assert "universality  needs a second model" in done.stdout
    assert done.stdout.endswith("next: autointerp show study/run\n")
    again = study(planted, folder.parent, "steering")
    assert again.returncode == 0
    assert [path.read_bytes() for path in files] == before


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("ablations",), "unknown study 'ablations'; did you mean ablation"),
        (("--set", "dictionaries.train=[]"), "nothing to study: the config has baselines only; give --dictionary PATH"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], line: str, tmp_path: Path) -> None:
    done = autointerp("study", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert line in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_figure_agrees_if_its_interval_holds_the_published_number() -> None:
    assert Figure("f", 0.5, 0.4, 0.6, published=0.45).agrees is True
    assert Figure("f", 0.5, 0.4, 0.6, published=0.65).agrees is False
    assert Figure("f", 0.5, 0.4, 0.6).agrees is None
    assert Figure("f", 0.5, published=0.5).agrees is None


def test_intervals_of_medians_cover_the_median_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    intervals = [median_interval(rng.exponential(size=50).tolist()) for _ in range(100)]
    covered = [one.low <= np.log(2) <= one.high for one in intervals if one and one.low and one.high]
    assert len(covered) == 100
    assert 0.88 < np.mean(covered) < 1
    assert median_interval([]) is None


def test_a_word_depends_on_itself_in_the_layer_below(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The residual stream carries the planted words through the block."""
    session = session_of(folder / "run", "words")
    ours = measuring.prepare(session.plan, session.cache, Silent)
    above = replace(ours.dictionaries[0].dictionary.at("blocks.0.hook_resid_post"), name="above")
    both = (SimpleNamespace(dictionary=above), *ours.dictionaries)
    prepared = SimpleNamespace(subject=ours.subject, text=ours.text, dictionaries=both)
    monkeypatch.setattr(circuits, "prepare", lambda *_: prepared)
    said = [SimpleNamespace(feature=one.feature, explanation=SimpleNamespace(text=f"the run's of {one.feature}"))
            for one in session.folder.results() if one.feature.dictionary == "words"]  # fmt: skip
    monkeypatch.setattr(Session, "results", lambda _, name: said if name == "words" else [])
    measured = circuits.measure(session, n_targets=8, n_trees=8, n_strongest=1)
    (link,) = measured["links"]
    assert (link["upper"], link["lower"], len(link["targets"])) == ("above", "words", len(WORDS))
    for one in link["targets"]:
        assert one["overlap"] == 1
        assert min(one["correlation"], one["direct"]) > 0.99
        assert one["lost"]["ablation"] > 0.5 > abs(one["lost"]["random"])
    assert np.mean([one["mismatched"] for one in link["targets"]]) < 0.5
    for tree in measured["trees"]:
        (below,) = tree["below"]
        assert below["feature"] == tree["feature"]
        assert below["explanation"] == f"the run's of words/{below['feature']}"
        assert f'"{WORDS[tree["feature"]]}"' in tree["explanation"]


@pytest.mark.slow
def test_two_toys_have_features_in_common(tmp_path: Path) -> None:
    """Smoke's toys are small and trained briefly; more alike than chance all the same."""
    done = api.study("smoke", ["universality"], features=2, out=tmp_path / "s", report=Silent)
    medians = [one["value"] for one in done.report["parts"]["universality"]["figures"][:2]]
    assert min(medians) > 0.2
    assert max(medians) < 0.9


def test_a_published_direction_agrees_if_the_interval_lies_on_its_side() -> None:
    assert Figure("f", 0.5, 0.4, 0.6, published=0.0, above=True).agrees is True
    assert Figure("f", -0.5, -0.6, -0.4, published=0.0, above=True).agrees is False
    assert Figure("f", 0.0, -0.1, 0.1, published=0.0, above=True).agrees is None
