"""Presets: their settings number by number against the protocols' published figures, and the table made of them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from autointerp import config, presets, scorers, suites
from autointerp.config import Config
from autointerp.records import FeatureId
from autointerp.sections import Records, ScoreRecords
from sae.common.errors import UserError
from sae.common.resources import shipped_folder
from tests.conftest import autointerp

BILLS_EXPLAIN = Records(top=5, top_stride=4 // 2)  # ranks 0, 4, ... of one list are 0, 2, ... of half of it
FIGURES: dict[str, dict[str, Any]] = {
    "bills": {
        "sampling.fragment": 64,
        "sampling.explain": BILLS_EXPLAIN,
        "sampling.score": ScoreRecords(top=5, random=5),
        "explanation.style": "tokens",
        "explanation.candidates": 1,
        "explanation.max_tokens": 60,
        "explanation.temperature": 1,
        "simulation.method": "all_at_once",
        "simulation.top_logprobs": 15,
        "scorers": ("simulation",),
    },
    "cunningham": {
        "sampling.most_fragments": 50_000,
        "sampling.fragment": 64,
        "corpus.context": 64,
        "subject.prepend_bos": False,
        "sampling.features": 150,
        "sampling.draw": "first",
        "sampling.min_active": 20,
        "sampling.explain": BILLS_EXPLAIN,
        "sampling.score": ScoreRecords(top=5, random=5, random_active=True),
        "explanation.style": "tokens",
        "explanation.candidates": 1,
        "simulation.method": "all_at_once",
        "dictionaries.baselines": ("neurons", "random", "pca", "ica"),
        "scorers": ("simulation",),
    },
    "delphi": {
        "sampling.tokens": 10_000_000,
        "corpus.context": 256,
        "sampling.fragment": 32,
        "sampling.min_active": 200,
        "sampling.explain": Records(quantile=10 * 4),
        "sampling.score": ScoreRecords(quantile=10 * 5, inactive=50),
        "explanation.style": "highlighted",
        "explanation.marked": 0.3,
        "explanation.temperature": 0,
        "detection.texts": 5,
        "fuzzing.texts": 5,
        "scorers": ("detection", "fuzzing", "intruder"),
    },
    "saebench": {
        "sampling.tokens": 2_000_000,
        "corpus.context": 128 // 21 * 21,
        "sampling.fragment": 10 + 1 + 10,
        "sampling.centred": True,
        "sampling.features": 1000,
        "sampling.draw": "random",
        "sampling.min_active": 15 + 1,
        "sampling.explain": Records(top=10, importance=5, top_stride=1),
        "sampling.score": ScoreRecords(top=12 - 10, importance=7 - 5, inactive=10, top_stride=1),
        "explanation.style": "highlighted",
        "explanation.marked": 0.01,
        "detection.texts": 14,
        "detection.accuracy": True,
        "scorers": ("detection",),
    },
    "exact": {
        "sampling.tokens": None,
        "sampling.most_fragments": None,
        "sampling.explain": Records(top=10, quantile=5, random=5),
        "sampling.score": ScoreRecords(weighted=10),
        "sampling.population": Config().corpus.max_tokens,
        "scorers": ("simulation",),
    },
}
MAIN = {
    "bills": ("simulation/top_and_random", 0.0),
    "cunningham": ("simulation/top_and_random", 0.0),
    "delphi": ("detection", 0.5),
    "saebench": ("detection/accuracy", 10 / 14),
    "exact": ("simulation/population", 0.0),
}
SHIPPED = sorted(path.stem for path in (shipped_folder("eval_configs") / "presets").glob("*.yaml"))
MODELS = ("explainers", "simulator", "judge", "subject.model", "corpus.source", "surprisal.model", "embedding.model")


def value_of(section: Any, name: str) -> Any:
    for part in name.split("."):
        section = getattr(section, part)
    return section


def test_every_shipped_preset_is_checked() -> None:
    assert set(SHIPPED) == set(FIGURES) == set(MAIN)


@pytest.mark.parametrize(("preset", "name"), [(preset, name) for preset in FIGURES for name in FIGURES[preset]])
def test_the_numbers_are_the_published_ones(preset: str, name: str) -> None:
    """Whatever the config says; its records of other sources are gone too."""
    other = {"sampling.explain.inactive": 7, "sampling.score.hard": 7, "sampling.score.weighted": 7}
    made = config.load("demo", presets.under(preset, {}))
    assert value_of(made, name) == FIGURES[preset][name]
    beneath = config.load("demo", other).model_dump()
    assert value_of(config.build(beneath, presets.under(preset, {}), "test"), name) == FIGURES[preset][name]


@pytest.mark.parametrize("preset", FIGURES)
def test_the_metric_of_the_protocol_is_the_main_score(preset: str) -> None:
    made = config.load("demo", presets.under(preset, {}))
    score, chance = next(iter(scorers.make(made.scorers[0], made).chances.items()))
    assert (score, chance) == (MAIN[preset][0], pytest.approx(MAIN[preset][1]))


@pytest.mark.parametrize("preset", FIGURES)
def test_presets_name_no_model_and_suit_every_config(preset: str) -> None:
    assert not set(presets.load(preset).settings) & set(MODELS)
    for path in shipped_folder("eval_configs").glob("*.yaml"):
        made = config.load(path.stem, presets.under(preset, {}))
        assert made.corpus.context % made.sampling.fragment == 0
        for name in MODELS:
            assert value_of(made, name) == value_of(config.load(path.stem), name)


def test_flags_override_a_preset_and_a_preset_the_config(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("sampling: {features: 7, tokens: 9, explain: {random: 3}}")
    made = config.load(str(mine), presets.under("saebench", {"sampling.features": 8, "sampling.score.random": 1}))
    assert (made.sampling.features, made.sampling.tokens) == (8, 2_000_000)
    assert made.sampling.explain == Records(top=10, importance=5, top_stride=1)
    assert (made.sampling.score.random, made.sampling.score.top) == (1, 2)
    whole = presets.under("saebench", {"sampling.score": {"random": 1}})
    assert config.load(str(mine), whole).sampling.score == ScoreRecords(random=1)


def test_a_preset_is_the_settings_that_it_makes() -> None:
    preset = presets.load("delphi")
    by_hand = config.load("smoke", preset.settings)
    assert config.load("smoke", presets.under("delphi", {})) == by_hand
    assert by_hand.identity_fields() != config.load("smoke").identity_fields()
    assert config.load("smoke", presets.under(None, {"seed": 3})) == config.load("smoke", {"seed": 3})


@pytest.mark.parametrize("preset", FIGURES)
def test_the_table_is_made_of_the_preset(preset: str) -> None:
    path = shipped_folder("eval_configs") / "presets" / f"{preset}.yaml"
    data = yaml.safe_load(path.read_text("utf-8"))
    table = presets.table(presets.load(preset))
    assert table.title == data["title"]
    assert len(table.rows) == len(data["aspects"])
    for row, aspect in zip(table.rows, data["aspects"], strict=True):
        assert [row[0], row[1], row[4]] == [aspect["aspect"], aspect["published"], aspect["source"]]
        assert row[3].startswith(aspect.get("differs", "without its fault" if "faults" in aspect else "-"))
        shown = [part.partition("=") for part in row[2].split("; ")][: len(aspect.get("settings", {}))]
        assert {name: yaml.safe_load(value) for name, _, value in shown} == aspect.get("settings", {})


REQUIRED = {
    "text", "features", "split", "explain records", "score records", "normalisation", "explanation prompt", "metric",
}  # fmt: skip
"""What every preset must say: sampling, features drawn, splits, normalisation, structure of the prompt, metric."""
IN_WORDS: dict[str, tuple[str, ...]] = {
    "top_stride": ("every second", "ranks 0, 4, 8", "10 of the 12 top", "2 top", "10 top"),
    "candidates": ("one sample", "one, at", "the answer", "like this"),
    "min_active": ("more than 15", "none left out", "often enough"),
    "population": ("records", "5 top", "the same", "windows", "all of the score half", "shuffled", "AUROC"),
}
"""How numbers are said whose figure does not stand in an aspect: one by its words, 0 by what there is instead."""


@pytest.mark.parametrize("preset", FIGURES)
def test_a_preset_says_all_that_a_protocol_is_and_every_number_that_it_sets(preset: str) -> None:
    """A changed number in the settings or in the words of an aspect no longer agrees with the other."""
    loaded = presets.load(preset)
    assert {aspect.aspect for aspect in loaded.aspects} >= REQUIRED
    for aspect in loaded.aspects:
        text = " ".join(filter(None, (aspect.published, aspect.here, aspect.differs)))
        for name, value in numbers_in(aspect.settings):
            forms = {str(value), f"{value:,}", f"{value // 10**6}M" if value >= 10**6 else str(value)}
            said = any(re.search(rf"(?<![\d.,]){re.escape(form)}(?!\d)", text) for form in forms)
            words = IN_WORDS.get(name.split(".")[-1], ())
            assert said or any(word in text for word in words), f"{preset}, {aspect.aspect}: {name}={value} is not said"


def numbers_in(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """List the numbers of settings, however deep."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from numbers_in(value, f"{name}.{key}")
    elif isinstance(values, int | float) and not isinstance(values, bool):
        yield name, values


def test_a_config_file_and_a_variant_of_a_suite_name_a_preset(tmp_path: Path) -> None:
    """The file's own settings go over the preset, and a variant's preset over the suite's settings."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("preset: bills\nsampling: {features: 7, score: {random: 3}}")
    made = config.load(str(mine))
    by_hand = config.build({"name": "mine"}, presets.load("bills").settings, "test")
    assert made.sampling.score == by_hand.sampling.score.model_copy(update={"random": 3})
    assert made.model_copy(update={"sampling": by_hand.sampling}) == by_hand
    assert config.load(str(mine), presets.under("delphi", {})).sampling.score.quantile == 50
    mine.write_text("sampling: {fragment: 16}\nsuite: {p: {a: {}, b: {preset: saebench, sampling.features: 3}}}")
    members = suites.load(str(mine)).members
    assert [members[name].sampling.fragment for name in "ab"] == [16, 21]
    assert (members["b"].sampling.features, members["b"].detection.texts) == (3, 14)  # type: ignore[attr-defined]
    for text, message in (("preset: bill", "did you mean bills"), ("preset: 3", "preset is the name of a preset")):
        mine.write_text(text)
        with pytest.raises(UserError, match=message):
            config.load(str(mine))


def test_config_prints_the_table_and_a_changed_preset_another(tmp_path: Path) -> None:
    shipped = autointerp("config", "--preset", "saebench", cwd=tmp_path)
    assert shipped.returncode == 0
    for figure in ("10/14 = 0.714", "sampling.features=1000", "explanation.marked=0.01", "context 126"):
        assert figure in shipped.stdout
    assert "next: autointerp run --preset saebench" in shipped.stdout
    text = (shipped_folder("eval_configs") / "presets" / "saebench.yaml").read_text("utf-8")
    (tmp_path / "eval_configs" / "presets").mkdir(parents=True)
    changed = tmp_path / "eval_configs" / "presets" / "saebench.yaml"
    changed.write_text(text.replace("sampling.features: 1000", "sampling.features: 77"), "utf-8")
    printed = autointerp("config", "--preset", "saebench", cwd=tmp_path).stdout
    assert "sampling.features=77" in printed
    assert "sampling.features=1000" not in printed
    section = autointerp("config", "sampling", "--preset", "saebench", cwd=tmp_path).stdout
    assert yaml.safe_load(section)["sampling"]["features"] == 77


ASPECT = {"aspect": "text", "published": "all", "source": "here"}
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown setting": ({"aspects": [ASPECT | {"settings": {"sampling.feature": 3}}]}, r"did you mean sampling\.feat"),
    "wrong value": ({"aspects": [ASPECT | {"settings": {"sampling.features": 0}}]}, "greater than 0"),
    "set twice": (
        {"aspects": [ASPECT | {"settings": {name: 2}} for name in ("sampling.score.top", "sampling.score")]},
        r"two aspects set sampling\.score",
    ),
    "says nothing": ({"aspects": [ASPECT]}, "'text' says nothing of what is done here"),
    "no source": ({"aspects": [{"aspect": "a", "published": "b", "differs": "c"}]}, r"aspects\.0\.source is required"),
    "no aspects": ({"aspects": []}, "aspects: at least 1 is needed"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_presets_are_refused_in_one_line(mistake: str, tmp_path: Path) -> None:
    values, message = MISTAKES[mistake]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"title": "mine"} | values))
    with pytest.raises(UserError, match=message) as caught:
        presets.load(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_is_refused_with_the_near_one(tmp_path: Path) -> None:
    done = autointerp("run", "smoke", "--preset", "cuningham", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "did you mean cunningham?" in done.stderr


@pytest.mark.slow
def test_a_run_offline_follows_its_preset(tmp_path: Path) -> None:
    done = autointerp(
        "run", "smoke", "--preset", "cunningham", "--explainer", "rules-5", "--simulator", "rules", "--out", "run",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    from autointerp.api import open_run

    run = open_run(tmp_path / "run")
    assert run.about["status"] == "complete"
    board = json.loads((tmp_path / "run" / "leaderboard.json").read_text())
    assert board[0]["scorer"] == "simulation/top_and_random"
    assert {row["dictionary"] for row in board} == {"topk_2x", "neurons", "pca", "ica", "random"}
    for feature in run.features:
        assert isinstance(feature.id, FeatureId)
        assert feature.id.index < 150
        assert [record.source for record in feature.explain] == ["top"] * 5
        assert [record.source for record in feature.score] == ["top"] * 5 + ["random"] * 5
        assert {len(record.tokens) for record in feature.score} == {64}
        assert min(max(record.activations) for record in feature.score) > 0
