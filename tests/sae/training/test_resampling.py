"""Resampling of dead features against the procedure of Towards Monosemanticity, written out here in numpy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chisquare
from torch import Tensor

from sae.training.resampling import Resampler, due
from sae.training.trainer import Trainer
from tests.sae.training import recipes
from tests.sae.training.superposition import batches, workspace

BATCH = 64
Array = NDArray[np.float64]


def recipe(expansion: float = 2, inputs: int = 4 * BATCH, **more: object) -> recipes.ReLU:
    resampling = recipes.Resampling(steps=(6, 9), silent_steps=4, inputs=inputs)
    return recipes.ReLU(l1=0.2, expansion=expansion, lr=1e-2, resampling=resampling, **more)  # type: ignore[arg-type]


def at_step(made: recipes.ReLU, steps: int = 6, dead: slice = slice(0, 10)) -> Trainer:
    """A trainer some of whose features cannot become active any more, from the third step on."""
    stream = batches(0, BATCH)
    trainer = Trainer(made, 12, next(stream), workspace())
    with torch.no_grad():
        for step in range(steps):
            if step == 2:
                trainer.autoencoder.params["b_enc"][dead] = -100.0
            trainer.step(next(stream))
    return trainer


def numpy_params(trainer: Trainer) -> dict[str, Array]:
    return {name: part.double().numpy().copy() for name, part in trainer.autoencoder.params.parts.items()}


def losses(trainer: Trainer, x_BD: Tensor) -> Array:
    """c |x - x_hat|^2 + l1 |f| of each vector, [B]."""
    p, x = numpy_params(trainer), x_BD.double().numpy() / trainer.scale
    features = np.maximum((x - p["b_dec"]) @ p["W_enc"].T + p["b_enc"], 0)
    error = x - features @ p["W_dec"] - p["b_dec"]
    loss: Array = trainer.autoencoder.error_weight * (error**2).sum(1) + 0.2 * features.sum(1)
    return loss


def test_due_at_its_steps_only() -> None:
    assert [due(at_step(recipe(), steps)) for steps in (5, 6, 7, 9)] == [False, True, False, True]
    assert not due(Trainer(recipes.Tied(l1=0.1), 6, next(batches(0, BATCH)), workspace()))


def test_dead_is_silent_for_so_many_steps() -> None:
    """Counted here from the features themselves, step by step."""
    made, stream = recipe(), batches(0, BATCH)
    trainer, active = Trainer(made, 12, next(stream), workspace()), []
    for step in range(6):
        if step == 2:
            trainer.autoencoder.params["b_enc"][:10] = -100.0
        if step == 3:
            trainer.autoencoder.params["b_enc"][10:20] = -100.0
        x_BD = next(stream)
        p, x = numpy_params(trainer), x_BD.double().numpy() / trainer.scale
        active.append(((x - p["b_dec"]) @ p["W_enc"].T + p["b_enc"] > 0).any(0))
        trainer.step(x_BD)
    expected = np.flatnonzero(~np.any(active[-4:], axis=0)).tolist()
    assert expected == list(range(10))  # those silent for three steps are not dead yet
    assert Resampler(trainer).dead_S.tolist() == expected


def test_losses() -> None:
    trainer, x_BD = at_step(recipe()), next(batches(5, BATCH))
    result_B = Resampler(trainer).losses(trainer.scaled(x_BD)).double().numpy()
    np.testing.assert_allclose(result_B, losses(trainer, x_BD), rtol=1e-4)


def test_as_many_inputs_are_looked_at_as_wanted() -> None:
    for inputs, required in ((4 * BATCH, 4), (4 * BATCH + 1, 5), (1, 1)):
        assert Resampler(at_step(recipe(inputs=inputs))).n_batches == required


def test_inputs_are_drawn_in_proportion_to_squared_loss() -> None:
    """Many dead features, few inputs: a chi-square test of how often each was drawn, in whichever batch it was."""
    trainer = at_step(recipe(expansion=2000), dead=slice(0, 40_000))
    resampler, stream = Resampler(trainer), batches(5, 16)
    seen = [next(stream), next(stream) * 0.3, next(stream) * 1.5]
    expected = np.concatenate([losses(trainer, x_BD) for x_BD in seen]) ** 2
    for x_BD in seen:
        resampler.add(x_BD)
    n_dead = resampler.finish()
    assert n_dead == 40_000
    rows = trainer.autoencoder.params["W_dec"][:40_000].double().numpy()
    inputs = torch.cat(seen).double().numpy()
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    cosines = rows @ inputs.T
    assert cosines.max(1).min() > 1 - 1e-5
    counts = np.bincount(cosines.argmax(1), minlength=len(inputs))
    assert expected.max() > 20 * expected.min()
    assert chisquare(counts, n_dead * expected / expected.sum()).pvalue > 1e-3


@pytest.mark.parametrize("normalise", [True, False])
def test_new_weights_and_nothing_else_changes(normalise: bool) -> None:
    trainer = at_step(recipe(normalise=normalise))
    before, adam = numpy_params(trainer), trainer.adam
    moments = [{name: part.clone() for name, part in flat.parts.items()} for flat in (adam.first, adam.second)]
    silent_F, steps = trainer.silent_F.clone(), adam.steps.clone()
    resampler, inputs = Resampler(trainer), [next(batches(seed, BATCH)) for seed in range(4)]
    for x_BD in inputs:
        resampler.add(x_BD)
    assert resampler.finish() == 10
    after, dead, alive = numpy_params(trainer), slice(0, 10), slice(10, None)

    np.testing.assert_allclose(np.linalg.norm(after["W_dec"][dead], axis=1), 1, rtol=1e-6)
    x = torch.cat(inputs).double().numpy()
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    assert (after["W_dec"][dead] @ x.T).max(1).min() > 1 - 1e-6
    norm = 0.2 * np.linalg.norm(before["W_enc"][alive], axis=1).mean()
    np.testing.assert_allclose(after["W_enc"][dead], norm * after["W_dec"][dead], rtol=1e-4, atol=1e-7)
    assert not after["b_enc"][dead].any()

    np.testing.assert_array_equal(after["b_dec"], before["b_dec"])
    for name in ("W_enc", "W_dec", "b_enc"):
        np.testing.assert_array_equal(after[name][alive], before[name][alive])
    for was, flat in zip(moments, (adam.first, adam.second), strict=True):
        assert torch.equal(flat["b_dec"], was["b_dec"])
        for name in ("W_enc", "W_dec", "b_enc"):
            assert was[name][dead].any()  # something was there to forget
            assert not flat[name][dead].any()
            assert torch.equal(flat[name][alive], was[name][alive])
    assert torch.equal(adam.steps, steps)
    assert not trainer.silent_F[dead].any()
    assert torch.equal(trainer.silent_F[alive], silent_F[alive])


def test_no_dead_feature_changes_nothing() -> None:
    trainer = at_step(recipe(), dead=slice(0, 0))
    before = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
    resampler = Resampler(trainer)
    resampler.add(next(batches(5, BATCH)))
    assert resampler.finish() == 0
    for name, tensor in trainer.tensors().items():
        assert torch.equal(tensor, before[name])


def test_the_same_again_from_the_same_seed() -> None:
    """A run that is repeated draws the same inputs; another seed, others."""
    rows = []
    for seed in (0, 0, 1):
        trainer = at_step(recipe(seed=seed))
        resampler = Resampler(trainer)
        resampler.add(next(batches(5, BATCH)))
        resampler.finish()
        rows.append(trainer.autoencoder.params["W_dec"][:10])
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


def test_copy_in_low_precision_is_renewed() -> None:
    """What products read is what was resampled."""
    stream = batches(0, BATCH)
    trainer = Trainer(recipe(), 12, next(stream), workspace(compute=torch.bfloat16))
    trainer.autoencoder.params["b_enc"][:10] = -100.0
    trainer.autoencoder.refresh()
    for _ in range(6):
        trainer.step(next(stream))
    resampler = Resampler(trainer)
    resampler.add(next(stream))
    assert resampler.finish() == 10
    autoencoder = trainer.autoencoder
    assert torch.equal(autoencoder.low["W_dec"], autoencoder.params["W_dec"].bfloat16())
