"""What is saved is what was trained: the dictionary in the activations' own scale, its sparsity, its threshold."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sae.dictionary import JumpReLU, TopK
from sae.training.architectures.registry import build
from sae.training.trainer import Trainer
from tests.sae.training import recipes
from tests.sae.training.superposition import D, batches, trained, workspace

F = 2 * D
ALL: list[recipes.Recipe] = [
    recipes.ReLU(l1=0.1, expansion=2, lr=1e-2),
    recipes.Tied(l1=0.1, expansion=2, lr=1e-2),
    recipes.Gated(l1=0.1, expansion=2, lr=1e-2),
    recipes.JumpReLU(l0=0.1, bandwidth=0.1, threshold=0.4, encoder_start=1.0, expansion=2, lr=1e-2),
    recipes.JumpReLU(l0=0.1, threshold=0.4, encoder_start=1.0, decoder_norm="unit", expansion=2, lr=1e-2),
    recipes.TopK(k=5, expansion=2, lr=1e-2),
    recipes.BatchTopK(k=5, expansion=2, lr=1e-2),
    recipes.Matryoshka(k=5, expansion=2, lr=1e-2),
]


def features(trainer: Trainer, x_BD: Tensor) -> Tensor:
    """From the formulas, in the scale trained in."""
    p, recipe = trainer.autoencoder.params.parts, trainer.recipe
    if isinstance(recipe, recipes.Tied):
        return (x_BD @ p["W_dec"].T + p["b_enc"]).clamp_min(0)
    u_BF = (x_BD - p["b_dec"]) @ p["W_enc"].T
    if isinstance(recipe, recipes.Gated):
        magnitude_BF = (p["r_mag"].exp() * u_BF + p["b_mag"]).clamp_min(0)
        return torch.where(u_BF + p["b_gate"] > 0, magnitude_BF, 0)
    pre_BF = u_BF + p["b_enc"]
    if isinstance(recipe, recipes.TopK):
        kth_B1 = pre_BF.sort(dim=1).values[:, -recipe.k][:, None]
        return torch.where(pre_BF >= kth_B1, pre_BF, 0).clamp_min(0)
    if isinstance(recipe, recipes.JumpReLU):
        return torch.where(pre_BF > p["threshold"], pre_BF, 0)
    threshold = trainer.tensors()["threshold"] if isinstance(recipe, recipes.Sparse) else torch.zeros(())
    return torch.where(pre_BF > threshold, pre_BF, 0)


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.architecture)
def test_raw_activations_are_encoded_as_scaled_ones_were(recipe: Any) -> None:
    """Biases and thresholds are first moved away from zero and from each other; the activations are 40 times larger."""
    stream = (40 * x_BD for x_BD in batches(0, 256))
    trainer, generator = trained(recipe, 10, stream), torch.Generator().manual_seed(3)
    for name in trainer.autoencoder.params.parts.keys() - {"W_enc", "W_dec"}:
        part = trainer.autoencoder.params[name]
        part.add_(0.3 * torch.randn(part.shape, generator=generator))
        if name == "threshold":
            part.abs_()
    assert trainer.scale > 20
    x_BD, dictionary = next(stream), trainer.dictionary("hook", "model", {"note": 1})
    expected_BF = features(trainer, x_BD / trainer.scale)
    result_BF = dictionary.encode(x_BD)
    assert 0.02 < float((expected_BF > 0).double().mean()) < 0.9
    p = trainer.autoencoder.params.parts
    norms_F = p["W_dec"].norm(dim=1)  # saved features take the norms of the rows that are not kept at 1
    # A pre-activation within rounding of the threshold falls on either side of it, by the processor's products.
    lower_BF, upper_BF = (features(trainer, x_BD / trainer.scale * nudge) for nudge in (1 - 1e-4, 1 + 1e-4))
    settled_BF = (lower_BF > 0) == (upper_BF > 0)
    assert float(settled_BF.double().mean()) > 0.999
    scaled_BF = trainer.scale * expected_BF * norms_F
    torch.testing.assert_close(result_BF[settled_BF], scaled_BF[settled_BF], rtol=1e-3, atol=1e-3)
    made_BD = expected_BF @ p["W_dec"] + p.get("b_dec", torch.zeros(D))
    torch.testing.assert_close(dictionary.decode(scaled_BF), trainer.scale * made_BD, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(dictionary.W_dec_FD.norm(dim=1), torch.ones(F))


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.architecture)
def test_a_saved_dictionary_does_not_change_with_further_training(recipe: Any) -> None:
    """It holds copies, and says what it was made by."""
    stream = batches(0, 256)
    trainer = trained(recipe, 3, stream)
    x_BD, dictionary = next(stream), trainer.dictionary("hook", "model", {"note": 1})
    before_BF, before_BD = dictionary.encode(x_BD), dictionary.reconstruct(x_BD)
    trainer.step(x_BD)
    assert torch.equal(dictionary.encode(x_BD), before_BF)
    assert torch.equal(dictionary.reconstruct(x_BD), before_BD)
    assert not torch.equal(trainer.dictionary("hook", "model", {}).encode(x_BD), before_BF)
    assert (dictionary.hook_point, dictionary.model, dictionary.metadata["note"]) == ("hook", "model", 1)
    assert type(recipe)(**dictionary.metadata["recipe"]) == recipe


def test_topk_keeps_k() -> None:
    trainer = trained(recipes.TopK(k=5, expansion=2, lr=1e-2), 10, batches(0, 256))
    dictionary = trainer.dictionary("hook", "model", {})
    assert dictionary.activation == TopK(5)
    assert int((dictionary.encode(next(batches(2))) > 0).sum(1).max()) <= 5


@pytest.mark.parametrize("recipe", [recipes.BatchTopK(k=5), recipes.Matryoshka(k=5)], ids=lambda r: r.architecture)
def test_a_batch_keeps_k_on_average(recipe: Any) -> None:
    """In training, where one vector may have more than k and another fewer."""
    stream = batches(0, 256)
    trainer = Trainer(recipe.model_copy(update={"expansion": 2, "lr": 1e-2}), 20, next(stream), workspace())
    for _ in range(20):
        x_BD = next(stream)
        trainer.step(x_BD)
        assert trainer.measure(x_BD).l0 == pytest.approx(5, abs=1e-9)


@pytest.mark.parametrize("recipe", [recipes.BatchTopK(k=5), recipes.Matryoshka(k=5)], ids=lambda r: r.architecture)
def test_threshold_repeats_a_batchs_selection(recipe: Any) -> None:
    """The first batch's threshold is its smallest kept activation, and what exceeds that passes, as elsewhere."""
    x_BD = next(batches(0, 256))
    architecture = build(recipe.model_copy(update={"expansion": 2}), workspace())
    architecture.initialise(x_BD, x_BD.mean(0))
    p = {name: part.clone() for name, part in architecture.params.parts.items()}
    architecture.gradients(x_BD)
    pre_BF = (x_BD - p["b_dec"]) @ p["W_enc"].T + p["b_enc"]
    kept = pre_BF.flatten().topk(5 * 256)
    activation = architecture.activation(1.0)
    assert isinstance(activation, JumpReLU)
    torch.testing.assert_close(activation.threshold_F, kept.values[-1].expand(F), rtol=1e-5, atol=0)
    between = JumpReLU((kept.values[-2] + kept.values[-1]).expand(F) / 2)
    passed = set(activation(pre_BF).flatten().nonzero()[:, 0].tolist())
    assert set(kept.indices[:-1].tolist()) == set(between(pre_BF).flatten().nonzero()[:, 0].tolist())
    assert passed - {int(kept.indices[-1])} == set(kept.indices[:-1].tolist())


@pytest.mark.slow
def test_threshold_is_the_running_mean_of_the_smallest_kept() -> None:
    """Over the last tenth of the batches, and never more than a hundred; in the first ten it is the last one."""
    stream, expected = batches(0, 8), 0.0
    trainer = Trainer(recipes.BatchTopK(k=5, expansion=2, lr=1e-2), 1200, next(stream), workspace())
    for step in range(1, 1201):
        x_BD, p = next(stream), trainer.autoencoder.params
        pre_BF = (x_BD / trainer.scale - p["b_dec"]) @ p["W_enc"].T + p["b_enc"]
        smallest = float(pre_BF.flatten().topk(5 * 8).values[-1])
        expected += (smallest - expected) / min(100, max(1, step / 10))
        trainer.step(x_BD)
        if step in (1, 10, 30, 1200):
            assert float(trainer.tensors()["threshold"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("recipe", [recipes.BatchTopK(k=4), recipes.Matryoshka(k=4)], ids=lambda r: r.architecture)
def test_threshold_gives_k_on_fresh_batches(recipe: Any) -> None:
    """Also after a short training, in which activations have shifted all the time."""
    trainer = trained(recipe.model_copy(update={"expansion": 2, "lr": 3e-3}), 300, batches(0, 256))
    f_BF = trainer.dictionary("hook", "model", {}).encode(next(batches(5, 4096)))
    assert float((f_BF > 0).sum(1).double().mean()) == pytest.approx(4, rel=0.1)


def test_batches_on_which_nothing_is_active_leave_a_finite_threshold() -> None:
    """The smallest kept activation of such a batch counts as 0; one of the next batch counts whole again."""
    stream = batches(0, 64)
    trainer = Trainer(recipes.BatchTopK(k=2, expansion=2), 20, next(stream), workspace())
    before_F = trainer.autoencoder.params["b_enc"].clone()
    for is_silent in (False, True, False):
        trainer.autoencoder.params["b_enc"].copy_(before_F - 100 * is_silent)
        trainer.autoencoder.gradients(trainer.scaled(next(stream)))
        threshold = float(trainer.tensors()["threshold"])
        assert (threshold == 0) if is_silent else (0 < threshold < torch.inf)
