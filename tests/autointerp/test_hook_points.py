"""Several hook points in one pass of the model equal runs of one each; dictionaries may read several side by side."""

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
        found = scores[scores["hook_point"] == hook_point]["mean"].to_numpy(float)
        assert np.array_equal(found, expected, equal_nan=True)


def test_one_forward_pass_reads_all_hook_points(planted: Path) -> None:
    subject = boot(str(planted / "model"))
    ids_NC = torch.arange(24).reshape(2, 12)
    both = subject.activations_at(ids_NC, (*HOOKS, HOOKS[0]))
    assert list(both) == list(HOOKS)
    for hook_point in HOOKS:
        assert torch.equal(both[hook_point], subject.activations(ids_NC, hook_point))


def test_a_dictionary_that_reads_two_hook_points_sees_them_side_by_side(planted: Path, tmp_path: Path) -> None:
    """Its features copy coordinates of either one: records equal the activations that each single one would give."""
    eye = torch.eye(16 + 64)
    features = eye[:, [*range(8), *range(16, 24)]].contiguous()
    zeros = torch.zeros(16), torch.zeros(80)
    joined = Dictionary("joined", "sae", features, zeros[0], features.T.contiguous(), zeros[1], reads=HOOKS, writes=HOOKS)
    formats.save(replace(joined, model=str(planted / "model")), tmp_path / "joined")
    changes = {"dictionaries.load": [str(tmp_path / "joined")], "dictionaries.baselines": [], "sampling.features": 16}
    records = run(planted, tmp_path / "run", **changes).features
    subject = boot(str(planted / "model"))
    assert {record.id.index < 8 for record in records} == {True, False}
    for record in records:
        hook_point = HOOKS[record.id.index >= 8]
        for fragment in record.explain + record.score:
            assert _contains(subject, hook_point, record.id.index % 8, fragment.tokens, fragment.activations)


def _contains(
    subject: Subject, hook_point: str, column: int, tokens: tuple[str, ...], activations: tuple[float, ...]
) -> bool:
    """Whether a fragment that opens its block has these activations; later ones depend on text that is not known."""
    ids = subject.token_ids([" ".join(tokens)])[0]
    values = subject.activations(torch.tensor([ids]), hook_point)[0, :, column].relu()
    is_first = hook_point == "hook_embed"  # without position: every fragment can be checked
    return not is_first or values.tolist() == pytest.approx(list(activations), abs=1e-6)


@pytest.mark.parametrize("streamed", [False, True])
def test_only_text_that_a_training_held_out_is_sampled(planted: Path, tmp_path: Path, streamed: bool) -> None:
    """Of two trainings with different seeds, only what both held out."""
    trained = []
    for seed in (0,) if streamed else (0, 1):
        changes = {"subject__hook_point": HOOKS[1], "corpus__streamed": streamed, "corpus__held_out_tokens": 9000}
        session = finish(of_planted(planted, tmp_path / f"trained{seed}", seed=seed, steps=20, **changes))
        trained.append(str(session.folder / "topk_4x_k4"))
    one_name = {"dictionaries.load": trained[:1], "corpus.source": None, "subject.model": None}
    finished = run(planted, tmp_path / "run", **one_name)
    sampled = {fragment.document for record in finished.features for fragment in record.explain + record.score}
    training = recorded(formats.load(trained[0]).metadata)
    assert training is not None
    subject = boot(str(planted / "model"))
    artifacts = ArtifactCache(tmp_path / "cache", Silent, "cpu")
    held_out = training.held_out(subject.token_ids, lambda text: artifacts.tokens(subject, text))
    assert sampled
    assert sampled <= set(held_out.document_N.tolist())
    assert finished.about["sampling"]["held_out_by"] == "the dictionaries' training"
    assert finished.about["sampling"]["held_out_tokens"] == held_out.n_tokens
