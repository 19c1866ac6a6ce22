"""Several hook points in one pass of the model equal runs of one each; dictionaries may read several side by side."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import autointerp
from autointerp.records import FeatureRecord
from sae import formats
from sae.common.progress import Silent
from sae.data.split import recorded
from sae.dictionary import Dictionary
from sae.models.cache import ArtifactCache
from sae.models.subject import Subject, boot
from tests.sae.training.small import finish, of_planted

HOOKS = ("hook_embed", "blocks.0.mlp.hook_post")


def settings(planted: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return {
        "subject.model": str(planted / "model"),
        "subject.prepend_bos": False,
        "corpus.source": str(planted / "corpus.jsonl"),
        "corpus.context": 32,
        "corpus.held_out": 0.5,
        "sampling.fragment": 16,
        "sampling.features": 5,
        "dictionaries.baselines": ["neurons", "pca", "random"],
        "explainers": ["rules-3"],
        "runtime.out": str(out),
        "runtime.pictures": [],
        "runtime.site": False,
    } | changes


def run(planted: Path, out: Path, **changes: Any) -> autointerp.Run:
    return autointerp.run("dictionary", settings(planted, out, **changes), report=Silent)


def unnamed(record: FeatureRecord) -> FeatureRecord:
    """Without the hook point that a name carries where there are several."""
    return replace(record, id=replace(record.id, dictionary=record.id.dictionary.split("@")[0]))


def test_two_hook_points_in_one_pass_equal_two_runs_of_one_each(planted: Path, tmp_path: Path) -> None:
    both = run(planted, tmp_path / "both", **{"subject.hook_points": list(HOOKS)})
    scores = both.leaderboard()
    for hook_point in HOOKS:
        single = run(planted, tmp_path / hook_point, **{"subject.hook_points": [hook_point]})
        here = [unnamed(r) for r in both.features if r.id.dictionary.endswith(f"@{hook_point}")]
        assert here == single.features
        expected = single.leaderboard()["mean"].to_numpy(float)
        assert set(single.leaderboard()["hook_point"]) == {hook_point}
        result = scores[scores["hook_point"] == hook_point]["mean"].to_numpy(float)
        assert np.array_equal(result, expected, equal_nan=True)


def test_one_forward_pass_reads_all_hook_points(planted: Path) -> None:
    subject = boot(str(planted / "model"))
    ids_NC = torch.arange(24).reshape(2, 12)
    both = subject.activations_at(ids_NC, (*HOOKS, HOOKS[0]))
    assert list(both) == list(HOOKS)
    for hook_point in HOOKS:
        assert torch.equal(both[hook_point], subject.activations(ids_NC, hook_point))


@pytest.mark.slow
def test_a_dictionary_that_reads_two_hook_points_sees_them_side_by_side(planted: Path, tmp_path: Path) -> None:
    """Its features copy coordinates of either one: records equal the activations that each single one would give."""
    eye = torch.eye(16 + 64)
    features = eye[:, [*range(8), *range(16, 24)]].contiguous()
    zeros = torch.zeros(16), torch.zeros(80)
    joined = Dictionary(
        "joined", "sae", features, zeros[0], features.T.contiguous(), zeros[1], reads=HOOKS, writes=HOOKS
    )
    formats.save(replace(joined, model=str(planted / "model")), tmp_path / "joined")
    changes = {"dictionaries.load": [str(tmp_path / "joined")], "dictionaries.baselines": [], "sampling.features": 16}
    records = run(planted, tmp_path / "run", **changes).features
    subject = boot(str(planted / "model"))
    assert {record.id.index < 8 for record in records} == {True, False}
    for record in records:
        hook_point = HOOKS[record.id.index >= 8]
        for fragment in (*record.explain, *record.score):
            assert _contains(subject, hook_point, record.id.index % 8, fragment.tokens, fragment.activations)


def _contains(
    subject: Subject, hook_point: str, column: int, tokens: tuple[str, ...], activations: tuple[float, ...]
) -> bool:
    """Whether a fragment that opens its block has these activations; later ones depend on text that is not known."""
    ids = subject.token_ids([" ".join(tokens)])[0]
    values = subject.activations(torch.tensor([ids]), hook_point)[0, :, column].relu()
    is_first = hook_point == "hook_embed"  # without position: every fragment can be checked
    return not is_first or values.tolist() == pytest.approx(list(activations), abs=1e-6)


def trained(planted: Path, folder: Path, **changes: Any) -> str:
    """A dictionary of `sae train` on the planted corpus, of whose 240 documents about 90 are held out."""
    settings = {"subject__hook_point": HOOKS[1], "corpus__held_out_tokens": 9000, "steps": 20} | changes
    return str(finish(of_planted(planted, folder, **settings)).folder / "topk_4x_k4")


def held_out_documents(path: str, subject: Subject, cache: Path) -> set[int]:
    training = recorded(formats.load(path).metadata)
    assert training is not None
    artifacts = ArtifactCache(cache, Silent, "cpu")
    return set(training.held_out(subject.token_ids, lambda t: artifacts.tokens(subject, t)).document_N.tolist())


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [pytest.param(False, marks=pytest.mark.slow), True])
def test_only_text_that_every_training_held_out_is_sampled(planted: Path, tmp_path: Path, streamed: bool) -> None:
    """A stream holds out its first documents whatever the seed; in memory two seeds hold out different ones."""
    paths = [trained(planted, tmp_path / f"t{seed}", seed=seed, corpus__streamed=streamed) for seed in (0, 1)]
    for number, path in enumerate(paths):
        Path(path).rename(Path(path).with_name(f"topk{number}"))
    paths = [str(Path(path).with_name(f"topk{number}")) for number, path in enumerate(paths)]
    _rename(paths)
    changes = {"dictionaries.load": paths, "corpus.source": None, "subject.model": None, "sampling.features": 2}
    finished = run(planted, tmp_path / "run", **changes)
    sampled = {fragment.document for record in finished.features for fragment in (*record.explain, *record.score)}
    subject = boot(str(planted / "model"))
    each = [held_out_documents(path, subject, tmp_path / "cache") for path in paths]
    assert sampled
    assert sampled <= each[0] & each[1]
    assert (each[0] == each[1]) == streamed
    assert finished.about["sampling"]["held_out_by"] == "the dictionaries' training"


def _rename(paths: list[str]) -> None:
    """Give each dictionary its folder's name: two of one name cannot share a run."""
    for path in paths:
        about = Path(path) / "dictionary.json"
        about.write_text(json.dumps(json.loads(about.read_text()) | {"name": Path(path).name}))
