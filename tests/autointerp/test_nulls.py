"""Dictionaries as nulls: frozen recipes beside the learnt one, and whole runs on a subject that has learnt nothing."""

from pathlib import Path
from typing import Any

import pytest

import autointerp
from autointerp import config
from autointerp.reporting import merging
from sae import formats
from sae.common.progress import Silent

TOPK = {"architecture": "topk", "expansion": 2, "k": 4, "lr": 0.003}
FROZEN = ("encoder", "decoder", "near_decoder")


def run(planted: Path, out: Path, **changes: Any) -> autointerp.Run:
    settings = {
        "dictionaries.load": [str(planted / "dictionary")],
        "dictionaries.train": [{**TOPK, "name": "learnt"}] + [{**TOPK, "name": f, "frozen": f} for f in FROZEN],
        "dictionaries.steps": 20,
        "dictionaries.batch": 256,
        "dictionaries.baselines": ["pca"],
        "corpus.source": str(planted / "corpus.jsonl"),
        "corpus.context": 32,
        "corpus.held_out": 0.5,
        "sampling.fragment": 16,
        "sampling.features": 4,
        "explainers": ["rules-3"],
        "runtime.out": str(out),
        "runtime.pictures": [],
        "runtime.site": False,
    }
    return autointerp.run("dictionary", settings | changes, report=Silent)


@pytest.mark.slow
def test_runs_on_a_reset_subject_share_nothing_with_ordinary_ones(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice on the reset subject, each with a cache of its own: the same; the dictionary of the other subject runs."""
    reset: dict[str, Any] = {"subject.reset_weights": True}
    monkeypatch.setenv("AUTOINTERP_CACHE", str(tmp_path / "one"))
    plain = run(planted, tmp_path / "plain")
    made = tmp_path / "one" / "dictionaries"
    before = set(made.iterdir())
    first = run(planted, tmp_path / "first", **reset)
    fitted = [formats.load(path) for path in made.iterdir() if path.is_dir() and path not in before]
    assert {one.name for one in fitted} == {"learnt", *FROZEN, "pca"}
    assert {one.model for one in fitted} == {
        str(path) for path in (tmp_path / "one" / "subjects").iterdir() if path.is_dir()
    }
    assert first.about["identity"] != plain.about["identity"]
    assert {r.id.dictionary for r in first.features} >= {"words", "learnt"}
    assert first.features != plain.features
    monkeypatch.setenv("AUTOINTERP_CACHE", str(tmp_path / "two"))
    again = run(planted, tmp_path / "again", **reset)
    assert again.features == first.features
    models = {row["model"] for row in merging.merge([tmp_path / "plain", tmp_path / "first"])}
    assert models == {str(planted / "model"), f"{planted / 'model'} (weights reset)"}


def test_shipped_nulls_are_the_demos_dictionary_and_its_frozen_kin() -> None:
    demo, nulls = config.load("demo"), config.load("nulls")
    learnt, *frozen = nulls.dictionaries.train
    assert (learnt,) == demo.dictionaries.train
    for recipe in frozen:
        assert recipe.model_copy(update={"name": learnt.name, "frozen": None}) == learnt
    assert {recipe.frozen for recipe in frozen} == set(FROZEN)
    assert (nulls.corpus, nulls.subject, nulls.sampling) == (demo.corpus, demo.subject, demo.sampling)
