"""Configs: every field classified, unknown keys refused, identity knows what matters and nothing else."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from autointerp import config
from autointerp.config import Config, Role, field_roles
from autointerp.reference import settings_yaml
from autointerp.scorers import SCORERS
from sae.common.errors import UserError
from sae.common.resources import shipped_folder
from sae.common.settings import Section, sections_in
from sae.training.config import TrainConfig

OTHER: dict[str, Any] = {
    "seed": 1, "corpus.held_out": 0.5, "corpus.context": 64, "corpus.max_tokens": 5, "subject.prepend_bos": True,
    "subject.toy": {"d_model": 7}, "subject.reset_weights": True,
    "dictionaries.train": [{"architecture": "topk", "name": "other", "k": 3}], "dictionaries.baselines": ["pca"],
    "dictionaries.steps": 7, "dictionaries.batch": 7,
    "dictionaries.fit_vectors": 9, "sampling.features": 7, "sampling.tokens": 7, "sampling.fragment": 7,
    "explainers": ["rules-2"], "simulator": "other", "judge": "openai/m", "scorers": ["detection"], "controls": 0.5,
    "control_kinds": ["permuted"],
    "sampling.feature_ids": {"": [1, 2]}, "sampling.score.weighted": 3, "sampling.population": 1000,
    "explanation.style": "highlighted", "explanation.contrast": True, "explanation.logits": True,
    "explanation.candidates": 3, "explanation.max_words": 7, "explanation.max_tokens": 7,
    "explanation.temperature": 0.5, "simulation.method": "text", "simulation.format": "json",
    "simulation.fragments": 7, "simulation.top_logprobs": 7, "simulation.samples": 7,
    "simulation.reasoning_tokens": 7, "simulation.temperature": 0.5, "detection.texts": 7, "detection.logprobs": True,
    "fuzzing.texts": 7, "fuzzing.logprobs": True, "intruder.questions": 7, "intruder.texts": 7,
    "sampling.score.hard": 3, "sampling.score.hard_by": "coactivation", "sampling.centred": True,
    "fuzzing.negatives": "active", "judgement.reasoning": True,
    "judgement.reasoning_tokens": 7, "judgement.temperature": 0.5, "embedding.model": "other",
    "surprisal.model": "hf/other",
    "logits.tokens": 7, "logits.logprobs": True, "effect.tokens": 7, "effect.logprobs": True, "sampling.effects": 7,
    "sampling.draw": "first", "sampling.min_active": 7, "sampling.most_fragments": 7,
    "sampling.explain.random_active": True, "sampling.score.random_active": True,
    "explanation.marked": 0.5, "detection.accuracy": True,
    "effort.explaining": "low", "effort.simulating": "off", "effort.judging": "high",
    "extra_body": {"openai/m": {"seed": 3}},
    "stopping.until_resolved": True, "stopping.difference": 0.5, "stopping.first": 7,
    "stopping.futility": 0.25, "stopping.most": 7,
    "peer_faults": ["drop-failures"],
} | {
    f"sampling.{side}.{source}": 77
    for side in ("explain", "score")
    for source in ("top", "quantile", "importance", "random", "inactive", "top_stride")
}  # fmt: skip
RUNTIME: dict[str, Any] = {
    "name": "other", "runtime.device": "cuda", "runtime.batch_blocks": 3, "runtime.out": "elsewhere",
    "runtime.concurrency": 3, "runtime.tries": 3, "runtime.call_seconds": 3, "runtime.attempt_seconds": 3,
    "runtime.first_wait": 3, "runtime.max_cost": 3, "runtime.fail_on_error": 0.5, "runtime.batch": True,
    "runtime.poll_seconds": 3, "runtime.prices": "mine.yaml", "runtime.check": False,
    "runtime.gpus": 3, "runtime.gpu_share": 0.3, "runtime.pictures": ["svg"], "runtime.site": False,
    "runtime.engine": "ray", "runtime.ray_address": "auto",
}  # fmt: skip


def test_one_value_where_a_list_belongs_is_refused_in_plain_words() -> None:
    with pytest.raises(UserError, match=r"control_kinds: write a list: \['permuted'\]"):
        config.load("demo", {"control_kinds": "permuted"})


def test_every_field_has_exactly_one_role() -> None:
    roles = field_roles(Config)
    identity = {name for name, role in roles.items() if role is Role.IDENTITY}
    assert identity == set(OTHER)
    assert {name for name, role in roles.items() if role is Role.RUNTIME} == set(RUNTIME)
    assert {name for name, role in roles.items() if role is Role.CONTENT} == {
        "corpus.source", "subject.model", "subject.hook_points", "dictionaries.load",
    }  # fmt: skip


def test_a_field_without_a_role_is_refused() -> None:
    class Forgetful(Section):
        forgotten: int = 0

    with pytest.raises(TypeError, match="forgotten has 0 roles"):
        field_roles(Forgetful)


@pytest.mark.parametrize("name", OTHER)
def test_identity_fields_change_the_identity(name: str) -> None:
    base = config.load("demo")
    assert config.load("demo", {name: OTHER[name]}).identity_fields() != base.identity_fields()


@pytest.mark.parametrize("name", RUNTIME)
def test_runtime_fields_do_not(name: str) -> None:
    changed = config.load("demo", {name: RUNTIME[name]})
    assert changed != config.load("demo")
    assert changed.identity_fields() == config.load("demo").identity_fields()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling.feature": 3}, r"unknown key 'sampling\.feature'; did you mean sampling\.features"),
        ({"explainer": ["rules-3"]}, "did you mean explainers"),
        ({"sampling.features": "many"}, r"sampling\.features: .*integer.*'many'"),
        ({"sampling.features": 0}, "greater than 0"),
        ({"dictionaries.baselines": ["neuron"]}, r"dictionaries\.baselines\.0: .*'neuron'; did you mean neurons"),
        ({"dictionaries.baselines": ["nmf", "pca-top0"]}, r"dictionaries\.baselines\.1: .*did you mean pca-top32"),
        ({"dictionaries.baselines": ["random_matched-top3"]}, "random_matched has no top-k version"),
        ({"scorers": ["detecting"]}, r"scorers\.0: unknown scorer 'detecting'; did you mean detection\?"),
        ({"judge": "claude"}, r"judge: unknown judge 'claude'; give --judge anthropic/MODEL, .*, rules$"),
        ({"judge": "language_model"}, "judge: unknown judge 'language_model'"),
        ({"judge": "anthropic/"}, "judge: model spec 'anthropic/' names no model"),
        ({"detection.text": 3}, r"unknown key 'detection\.text'; did you mean detection\.texts"),
        ({"intruder.texts": 2}, r"intruder\.texts: .*greater than 2"),
        ({"simulation.method": "logprob"}, r"simulation\.method: unknown method 'logprob'; did you mean logprobs"),
        ({"name.inner": 3}, "name is 'demo' here, which holds no settings; 'inner' cannot be set in it"),
        ({"dictionaries.train.0.kk": 3}, r"unknown key 'dictionaries\.train\.0\.kk'; did you mean k\?"),
        ({"dictionaries.train.1.k": 3}, r"dictionaries\.train is a list of 1, .* no item '1'"),
    ],
)
def test_mistakes_are_one_line_with_the_near_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        config.load("demo", changes)
    assert "\n" not in str(caught.value)


def test_configs_are_found_by_path_here_and_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"did you mean smoke\?"):
        config.load("smok")
    (tmp_path / "eval_configs").mkdir()
    (tmp_path / "eval_configs" / "mine.yaml").write_text("seed: 5")
    assert config.load("mine").seed == 5
    assert config.load(str(tmp_path / "eval_configs" / "mine.yaml")).name == "mine"
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(UserError, match="is not YAML"):
        config.load("bad.yaml")


def test_all_shipped_configs_load() -> None:
    names = [path.stem for path in shipped_folder("eval_configs").glob("*.yaml")]
    assert {"demo", "dictionary", "judged", "smoke"} <= set(names)
    for name in names:
        config.load(name)


def test_settings_of_parts_are_those_of_their_files() -> None:
    sections = config.part_sections()
    assert config.load("demo").section(sections["detection"]).texts == 5  # type: ignore[attr-defined]
    assert set(sections) == {
        "explanation", "simulation", "detection", "fuzzing", "intruder", "judgement", "embedding", "logits",
        "effect", "surprisal",
    }  # fmt: skip


def test_a_part_cannot_take_another_ones_section(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Section):
        texts: int = 3

    for name in ("detection", "corpus"):
        monkeypatch.setattr(SCORERS.get("intruder"), "settings", {name: Other})
        with pytest.raises(UserError, match=f"other settings called '{name}'"):
            config.part_sections()
    monkeypatch.setattr(SCORERS.get("intruder"), "settings", {"new": Other})
    with pytest.raises(TypeError, match=r"new\.texts has 0 roles"):
        config.part_sections()


def test_printed_settings_are_whole_explained_and_read_back() -> None:
    text = settings_yaml(Config())
    assert config.build(yaml.safe_load(text), {}, "printed") == Config()
    for name in field_roles(Config):
        leaf = name.split(".")[-1]
        assert re.search(rf"# .*\n *{leaf}:", text), f"{name} has no meaning"
    for section in ("detection", "sampling.explain", "runtime.tries", "dictionaries.train", "subject.toy"):
        printed = yaml.safe_load(settings_yaml(Config(), section))
        assert list(printed) == [section.split(".")[0]]
        assert config.build(printed, {}, "printed") == Config()
    assert yaml.safe_load(settings_yaml(Config(), "runtime.tries")) == {"runtime": {"tries": 8}}
    assert "  # - architecture: topk #" in settings_yaml(Config(), "dictionaries.train")
    changed = config.load("judged", {"judge": "openai/m"})
    assert config.build(yaml.safe_load(settings_yaml(changed)), {}, "printed") == changed


@pytest.mark.parametrize(
    ("section", "near"),
    [("detecting", "detection"), ("sampling.explan", r"sampling\.explain"), ("runtime.try", r"runtime\.tries")],
)
def test_printing_an_unknown_section_names_the_near_ones(section: str, near: str) -> None:
    with pytest.raises(UserError, match=rf"no section '{section}'; did you mean .*{near}"):
        settings_yaml(Config(), section)
    for method in ("section", "sampling.copy"):  # what Python calls so is no setting
        with pytest.raises(UserError, match=f"no section '{method}'"):
            settings_yaml(Config(), method)


def test_an_item_of_a_list_is_changed_by_its_number() -> None:
    (trained,) = config.load("demo", {"dictionaries.train.0.k": 3}).dictionaries.train
    assert (trained.name, trained.k) == ("topk_4x", 3)


@pytest.mark.parametrize("model", [config.Config, TrainConfig])
def test_every_setting_has_a_meaning(model: type[BaseModel]) -> None:
    """`autointerp config` prints them: a setting without one would be a riddle."""
    silent: list[str] = []

    def look(section: type[BaseModel], prefix: str) -> None:
        for name, field in section.model_fields.items():
            inner = sections_in(field.annotation)
            if not inner and not field.description and name != "architecture":  # the name of a choice
                silent.append(prefix + name)
            for one in inner:
                look(one, f"{prefix}{name}.")

    look(model, "")
    assert not silent
