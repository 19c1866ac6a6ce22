"""A run's plan: what it takes from its dictionaries, that they agree, and that everything is read once."""

from pathlib import Path
from typing import Any

import pytest
import torch

from autointerp import config
from autointerp.llm.providers import PROVIDERS
from autointerp.runs import plan as plans
from autointerp.runs.plan import make_plan
from sae import formats
from sae.common.errors import UserError
from sae.data import corpus
from sae.data.split import VERSION
from sae.dictionary import Dictionary

HOOK = "blocks.0.mlp.hook_post"
CENTRED: dict[str, Any] = {"processing": {"center_writing_weights": True}}
NONE: dict[str, Any] = {"processing": {}}


def saved(folder: Path, name: str, reads: tuple[str, ...] = (HOOK,), **metadata: Any) -> str:
    """A small dictionary on disk."""
    eye = torch.eye(3)
    dictionary = Dictionary(name, "sae", eye, eye[0], eye, eye[0], reads=reads, writes=reads, metadata=metadata)
    formats.save(dictionary, folder / name)
    return str(folder / name)


def planned(folder: Path, *paths: str, **changes: Any) -> plans.Plan:
    """A plan over a small text, for a model that is only named."""
    text = folder / "corpus.txt"
    text.write_text("\n\n".join(f"paragraph {i} " * 400 for i in range(4)))
    settings = {"dictionaries.load": list(paths), "dictionaries.train": [], "subject.model": "gpt2"}
    settings |= {"subject.hook_points": [], "corpus.source": str(text)} | changes
    return make_plan(config.load("smoke", settings))


def test_records_depend_on_what_is_sampled_and_on_no_judge(tmp_path: Path) -> None:
    first, second = (saved(tmp_path, name) for name in ("one", "two"))

    def identity(*paths: str, **changes: Any) -> str:
        return planned(tmp_path, *paths, **changes).records_identity

    plain = identity(first)
    asked: list[dict[str, Any]] = [
        {"explainers": ["rules-1", "anthropic/m"], "simulator": "openai/m"},
        {"scorers": ["detection"], "controls": 0.5, "runtime.fail_on_error": 0.5},
    ]
    assert {identity(first, **changes) for changes in asked} == {plain}
    others: list[dict[str, Any]] = [
        {"seed": 1}, {"sampling.features": 3}, {"sampling.score.weighted": 9}, {"corpus.context": 32},
        {"subject.model": "gpt2-medium"}, {"subject.prepend_bos": True}, {"dictionaries.baselines": ["neurons"]},
    ]  # fmt: skip
    drawn = [identity(first, second), *(identity(first, **changes) for changes in others)]
    assert len({plain, *drawn}) == 1 + len(drawn)


def test_models_at_another_machine_make_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dictionary = saved(tmp_path, "one")

    def identity(url: str) -> str:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        return planned(tmp_path, dictionary, simulator="openai/m").identity

    own, gateway = identity(""), "https://gateway.example/v1"
    assert identity(PROVIDERS.get("openai").url + "/") == own
    assert len({own, identity(gateway), identity("https://other.example/v1")}) == 3
    for here in ("http://127.0.0.1:4000/v1", "http://localhost:4001", "http://[::1]:1/v1"):
        assert identity(here) == own, "the port of a proxy here says nothing of the model"


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [([{}], {}), ([NONE, {}], {}), ([CENTRED], CENTRED["processing"]), ([{}, CENTRED, CENTRED], CENTRED["processing"])],
    ids=str,
)
def test_the_processing_is_the_one_that_the_dictionaries_name(
    metadata: list[dict[str, Any]], expected: dict[str, Any], tmp_path: Path
) -> None:
    paths = [saved(tmp_path, f"d{i}", **each) for i, each in enumerate(metadata)]
    assert planned(tmp_path, *paths).processing == expected


@pytest.mark.parametrize("metadata", [(NONE, CENTRED), (CENTRED, {}, NONE)], ids=str)
def test_dictionaries_of_models_processed_differently_are_not_mixed(
    metadata: tuple[dict[str, Any], ...], tmp_path: Path
) -> None:
    """That a model was left as it is counts as a statement too."""
    paths = [saved(tmp_path, f"d{i}", **each) for i, each in enumerate(metadata)]
    with pytest.raises(UserError, match=r"disagree on processing \(.*d0.*\); run them apart") as caught:
        planned(tmp_path, *paths)
    assert "\n" not in str(caught.value)


def test_every_dictionary_reads_its_own_hook_point(tmp_path: Path) -> None:
    paths = [saved(tmp_path, "a", ("hook_embed",)), saved(tmp_path, "b"), saved(tmp_path, "c", ("hook_embed", HOOK))]
    plan = planned(tmp_path, *paths)
    assert [each.reads for each in plan.dictionaries] == [("hook_embed",), (HOOK,), ("hook_embed", HOOK)]
    assert plan.config.subject.hook_points == ("hook_embed", HOOK), "baselines stand where single ones read"
    two = planned(tmp_path, *paths, **{"subject.hook_points": ["blocks.0.hook_resid_post", HOOK]})
    assert [each.reads for each in two.dictionaries] == [each.reads for each in plan.dictionaries]
    assert two.config.subject.hook_points == ("blocks.0.hook_resid_post", HOOK)
    assert len({plan.identity, two.identity}) == 2


def test_one_hook_point_given_is_read_by_all(tmp_path: Path) -> None:
    paths = [saved(tmp_path, "a", ()), saved(tmp_path, "b", ("hook_embed",))]
    plan = planned(tmp_path, *paths, **{"subject.hook_points": [HOOK]})
    assert [each.reads for each in plan.dictionaries] == [(HOOK,), (HOOK,)]
    with pytest.raises(UserError, match="dictionary a does not name its hook point; give one: --hook NAME"):
        planned(tmp_path, *paths)


def test_the_toy_has_the_layers_that_the_hook_points_need(tmp_path: Path) -> None:
    hook_points = ["blocks.0.mlp.hook_post", "blocks.2.mlp.hook_post"]
    plan = make_plan(config.load("smoke", {"subject.hook_points": hook_points}))
    assert plan.config.subject.toy.n_layers == 3
    assert make_plan(config.load("smoke")).config.subject.toy.n_layers == 1


def test_headers_and_text_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peeked, read = [], []
    peek, read_documents = plans.peek, corpus.read_documents
    monkeypatch.setattr(plans, "peek", lambda path: peeked.append(path) or peek(path))
    monkeypatch.setattr(corpus, "read_documents", lambda *given: read.append(given) or read_documents(*given))
    paths = [saved(tmp_path, "a"), saved(tmp_path, "b")]
    plan = planned(tmp_path, *paths)
    assert plan.text.documents, "used again, not read again"
    assert (peeked, len(read)) == (paths, 1)


def trained_on(source: str, seed: int = 0) -> dict[str, Any]:
    """What `sae train` records."""
    text = {"source": source, "context": 64, "max_tokens": 10_000, "held_out_tokens": 500}
    return {"corpus": text, "seed": seed, "split_version": VERSION}


def test_the_corpus_is_the_one_that_was_trained_on(tmp_path: Path) -> None:
    own = tmp_path / "corpus.txt"
    a = saved(tmp_path, "a", **trained_on(str(own)))
    plan = planned(tmp_path, a, **{"corpus.source": None})
    assert plan.text.source == str(own)
    assert [training.held_out_tokens for training in plan.trainings] == [500]
    assert plan.notes == ()
    assert planned(tmp_path, a, **{"corpus.source": "stdlib"}).trainings == ()


def test_a_text_that_may_have_been_trained_on_is_noted_once(tmp_path: Path) -> None:
    plan = planned(tmp_path, saved(tmp_path, "a"), saved(tmp_path, "b"), saved(tmp_path, "c", **trained_on("stdlib")))
    assert plan.notes == ("a, b: the text that it was trained on is not known, so sampled text may be among it",)
    assert plan.about["notes"] == list(plan.notes)


def test_dictionaries_of_two_corpora_need_one_to_be_given(tmp_path: Path) -> None:
    paths = [saved(tmp_path, "a", **trained_on("stdlib")), saved(tmp_path, "b", **trained_on("x.jsonl"))]
    with pytest.raises(UserError, match=r"a was trained on corpus stdlib, b on x.jsonl; give --corpus SPEC"):
        planned(tmp_path, *paths, **{"corpus.source": None})
