"""Checkpoints: only whole ones are seen, only the newest is kept, and what cannot be gone on from says so."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sae.common.errors import UserError
from sae.training import checkpoint
from sae.training.checkpoint import Checkpoints
from sae.training.loop import Learner, enrol, train
from sae.training.ranks import Ranks
from sae.training.session import run
from tests.sae.training import recipes
from tests.sae.training.small import KilledError, Silent, cut_short, finish, killed, of_planted, struck_by_ctrl_c
from tests.sae.training.superposition import batches, workspace

ALL: list[recipes.Recipe] = [
    recipes.ReLU(l1=100.0, expansion=2, lr=3e-2),
    recipes.JumpReLU(l0=0.1, bandwidth=0.1, threshold=0.1, expansion=2, lr=1e-2),
    recipes.BatchTopK(k=3, expansion=2, lr=1e-2, dead_after=300),
    recipes.TopK(k=3, expansion=2, lr=1e-2, frozen="near_decoder"),
    recipes.TopK(name="wild", k=3, expansion=2, lr=1e30),
]


class Two(Ranks):
    """The first of two processes, as far as a checkpoint asks."""

    world = 2


def begun() -> list[Learner]:
    return enrol(ALL, 100, next(batches(0, 64)), workspace())


def trained(steps: int) -> list[Learner]:
    learners, done = begun(), []
    stream = batches(0, 64)

    def stop(step: int) -> None:
        done.append(step)
        if step == steps:
            raise KilledError

    with pytest.raises(KilledError):
        train(learners, stream, Silent, every=10, after_step=stop)
    return learners


@pytest.fixture(scope="module")
def learners() -> list[Learner]:
    """After 70 steps; one of them has failed, one was warned of."""
    made = trained(70)
    assert [learner.problem is None for learner in made] == [True, True, True, True, False]
    assert made[0].warned
    return made


def test_all_that_training_depends_on_comes_back(learners: list[Learner], tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "c", Ranks())
    assert (kept.step, kept.position()) == (None, None)
    kept.save(70, learners, {"fill": 3, "source": None})
    assert (kept.step, kept.position()) == (70, {"fill": 3, "source": None})
    others = begun()
    kept.restore(others)
    for before, after in zip(learners, others, strict=True):
        for name in ("problem", "warned", "seconds", "timed_steps"):
            assert getattr(after, name) == getattr(before, name)
        assert after.trainer.facts() == before.trainer.facts()
        for name, tensor in before.trainer.tensors().items():
            assert torch.equal(after.trainer.tensors()[name].nan_to_num(7), tensor.nan_to_num(7)), name


def test_only_the_newest_is_kept(learners: list[Learner], tmp_path: Path) -> None:
    """And nothing that a kill left."""
    kept = Checkpoints(tmp_path, Ranks())
    kept.save(10, learners, None)
    (tmp_path / ".tmp-abc").mkdir()
    (tmp_path / ".tmp-abc" / "20.0.safetensors").write_text("torn")
    (tmp_path / "20.0.safetensors").write_text("never completed")
    kept.save(30, learners, None)
    assert {path.name for path in tmp_path.iterdir()} == {"30.0.safetensors", "latest.json"}


def test_parts_without_the_last_word_are_not_seen(
    learners: list[Learner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while waiting for the others, or while the part is written."""
    kept = Checkpoints(tmp_path, Ranks())
    kept.save(10, learners, "ten")
    monkeypatch.setattr(Ranks, "barrier", lambda self: killed())
    with pytest.raises(KilledError):
        kept.save(20, learners, "twenty")
    assert (tmp_path / "20.0.safetensors").is_file()
    assert (kept.step, kept.position()) == (10, "ten")
    monkeypatch.undo()

    def torn(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_text("half")
        raise KilledError

    monkeypatch.setattr(checkpoint, "save_file", torn)
    with pytest.raises(KilledError):
        kept.save(30, learners, "thirty")
    assert not (tmp_path / "30.0.safetensors").exists()
    assert (kept.step, kept.position()) == (10, "ten")


def test_a_full_disk_is_the_users_to_mend_and_spoils_nothing(
    learners: list[Learner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Checkpoints(tmp_path, Ranks())
    kept.save(10, learners, "ten")

    def full(tensors: Any, path: Path, metadata: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError, match=r"20\.0\.safetensors: No space left on device"):
        kept.save(20, learners, "twenty")
    assert kept.position() == "ten"


def test_another_number_of_processes_or_another_split_is_refused(learners: list[Learner], tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, Ranks())
    kept.save(10, learners, None)
    with pytest.raises(UserError, match=r"written by 1 process\(es\), and here are 2; continue with as many"):
        Checkpoints(tmp_path, Two()).position()
    features, data = Two(), Two()
    data.parts = 2
    Checkpoints(tmp_path, data).save(20, learners, None)
    with pytest.raises(UserError, match=r"runtime\.split=data"):
        Checkpoints(tmp_path, features).position()


@pytest.mark.parametrize(
    "damage", ["torn", *(pytest.param(n, marks=pytest.mark.slow) for n in ("other", "missing", "latest"))]
)
def test_damage_is_one_line(planted: Path, tmp_path: Path, damage: str) -> None:
    """It names the file and what to do; done so, training starts over."""
    settings = of_planted(planted, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        run(settings, cut_short(20, struck_by_ctrl_c))
    folder = tmp_path / "out" / "checkpoint"
    part = folder / "20.0.safetensors"
    if damage == "torn":
        part.write_bytes(part.read_bytes()[:5000])
    elif damage == "other":
        part.write_bytes((planted / "dictionary" / "dictionary.safetensors").read_bytes())
    elif damage == "missing":
        part.unlink()
    else:
        (folder / "latest.json").write_text("[]")
    with pytest.raises(UserError) as caught:
        finish(settings)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"checkpoint {folder / 'latest.json' if damage == 'latest' else part} is damaged (")
    assert line.endswith(f"remove {folder} to start over")
    for path in folder.iterdir():
        path.unlink()
    assert finish(settings).about["status"] == "complete"
