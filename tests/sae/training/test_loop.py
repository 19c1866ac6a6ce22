"""Several learners on one stream: none disturbs another; trouble is reported, and stops only the one that has it."""

import math
from typing import Any

import pytest
import torch

from sae.common.progress import Silent
from sae.training.loop import Learner, enrol, train
from tests.sae.training import recipes
from tests.sae.training.superposition import D, batches, workspace

ALL: list[recipes.Recipe] = [
    recipes.ReLU(l1=0.1, expansion=2, lr=1e-2),
    recipes.ReLU(name="same_shape", l1=0.3, expansion=2, lr=1e-2, seed=1),
    recipes.Tied(l1=0.1, expansion=2, lr=1e-2),
    recipes.Gated(l1=0.1, expansion=2, lr=1e-2),
    recipes.JumpReLU(l0=0.1, bandwidth=0.1, threshold=0.1, expansion=2, lr=1e-2),
    recipes.TopK(k=3, expansion=3, lr=1e-2, dead_after=300),
    recipes.BatchTopK(k=3, expansion=2, lr=1e-2, dead_after=300),
    recipes.Matryoshka(k=3, expansion=2, lr=1e-2, dead_after=300),
]


def run(recipe_list: list[recipes.Recipe], steps: int, every: int = 10) -> tuple[list[Learner], list[dict[str, Any]]]:
    """Trained on one stream, and what was reported."""
    stream, rows = batches(0, 64), []
    learners = enrol(recipe_list, steps, next(stream), workspace())
    train(learners, stream, Silent, every=every, tell=rows.append)
    return learners, rows


def of(rows: list[dict[str, Any]], status: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["status"] == status]


@pytest.mark.slow
def test_training_together_equals_training_alone() -> None:
    """They share working memory, but nothing that is in it."""
    together, _ = run(ALL, 80)
    for learner, recipe in zip(together, ALL, strict=True):
        (alone,), _ = run([recipe], 80)
        for name, tensor in alone.trainer.tensors().items():
            assert torch.equal(learner.trainer.tensors()[name], tensor), (recipe.label, name)


def test_rows_are_told_every_so_often_and_at_the_end() -> None:
    (learner,), rows = run(ALL[:1], 25)
    assert [(row["dictionary"], row["step"]) for row in of(rows, "ok")] == [(ALL[0].label, n) for n in (10, 20, 25)]
    last = rows[-1]
    assert last["vectors"] == 25 * 64
    assert 0 < last["fvu"] < 1
    assert last["dead"] == 0
    assert last["lr"] == float(learner.trainer.adam.rate)
    assert learner.trainer.done


def test_a_loss_that_is_not_finite_stops_only_its_own() -> None:
    wild = recipes.ReLU(name="wild", l1=0.1, expansion=2, lr=1e30)
    (bad, good), rows = run([wild, ALL[5]], 40)
    (alone,), _ = run([ALL[5]], 40)
    assert bad.problem is not None
    assert good.problem is None
    assert bad.trainer.steps_done == 10
    assert good.trainer.done
    assert torch.equal(good.trainer.autoencoder.params.buffer, alone.trainer.autoencoder.params.buffer)
    (reported,) = of(rows, "error")
    assert (reported["dictionary"], reported["step"], reported["problem"]) == ("wild", 10, bad.problem)
    assert all(math.isfinite(row["loss"]) for row in of(rows, "ok"))


def test_training_ends_when_nobody_is_left() -> None:
    """No batch is asked for in vain."""
    stream, taken = batches(0, 64), []
    wild = recipes.ReLU(name="wild", l1=0.1, expansion=2, lr=1e30)
    learners = enrol([wild], 1000, next(stream), workspace())
    train(learners, (taken.append(1) or x_BD for x_BD in stream), Silent, every=10)
    assert len(taken) == 10


def test_no_feature_active_is_warned_of_once() -> None:
    (learner,), rows = run([recipes.ReLU(l1=100.0, expansion=2, lr=3e-2)], 100)
    assert learner.problem is None
    silent = [row["step"] for row in of(rows, "ok") if row["l0"] == 0]
    assert len(silent) > 1
    (reported,) = [row for row in of(rows, "warning") if "no feature is active" in row["problem"]]
    assert reported["step"] == silent[0]
    assert not of(run(ALL[:1], 20)[1], "warning")


def test_resampling_at_its_steps_is_told_and_takes_its_own_inputs() -> None:
    """160 inputs of 64 a batch are three batches more at each of two times; dead features start over."""
    resampling = recipes.Resampling(steps=(20, 40), silent_steps=5, inputs=160)
    recipe = recipes.ReLU(l1=0.1, expansion=2, lr=1e-2, resampling=resampling)
    stream, taken, rows = batches(0, 64), [], []
    learners = enrol([recipe], 60, next(stream), workspace())
    learners[0].trainer.autoencoder.params["b_enc"][:9] = -100.0
    train(learners, (taken.append(1) or x_BD for x_BD in stream), Silent, every=10, tell=rows.append)
    assert [(row["step"], row["features"]) for row in of(rows, "resampled")] == [(20, 9), (40, 0)]
    assert len(taken) == 60 + 2 * 3
    assert of(rows, "ok")[1]["dead"] == 9 / (2 * D)
    assert of(rows, "ok")[-1]["dead"] == 0
