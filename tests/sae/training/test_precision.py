"""Products in bfloat16: the gradient nearly that of fp32, the weights fp32. What comes of it: test_recovery.py."""

from typing import Any

import pytest
import torch

from sae.training.architectures.registry import build
from sae.training.architectures.topk import TopKAutoencoder
from sae.training.trainer import Trainer
from tests.sae.training import recipes
from tests.sae.training.superposition import batches, workspace

ALL: list[recipes.Recipe] = [
    recipes.ReLU(l1=0.1, expansion=4, lr=3e-3),
    recipes.Tied(l1=0.1, expansion=4, lr=3e-3),
    recipes.Gated(l1=0.1, expansion=4, lr=3e-3),
    recipes.JumpReLU(
        l0=0.1, bandwidth=0.5, threshold=0.4, encoder_start=1.0, decoder_norm="unit", expansion=4, lr=3e-3
    ),
    recipes.TopK(k=8, expansion=4, lr=3e-3, dead_after=64),
    recipes.BatchTopK(k=8, expansion=4, lr=3e-3, dead_after=64),
    recipes.Matryoshka(k=8, expansion=4, lr=3e-3, dead_after=64),
]


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.architecture)
def test_gradient_is_nearly_that_of_fp32(recipe: Any) -> None:
    """Of the whole, within 5%; of every part, within 10%: bfloat16's 8 bits, and here and there another choice of k."""
    x_BD, result = next(batches(0, 512)), {}
    for compute in (torch.float32, torch.bfloat16):
        autoencoder = build(recipe, workspace(compute=compute))
        autoencoder.initialise(x_BD, x_BD.mean(0))
        autoencoder.progress.fill_(0.5)
        if isinstance(autoencoder, TopKAutoencoder):
            autoencoder.dead_S = torch.arange(10)
        autoencoder.refresh()
        losses = autoencoder.gradients(x_BD.to(compute))
        assert autoencoder.grads.buffer.dtype == torch.float32
        result[compute] = (autoencoder.grads, losses)
    (exact, loss), (rough, rough_loss) = result.values()
    assert float((rough.buffer - exact.buffer).norm() / exact.buffer.norm()) < 0.05
    for name, part in exact.parts.items():
        assert float((rough[name] - part).norm() / part.norm()) < 0.1, name
    assert float(rough_loss.error + rough_loss.penalty) == pytest.approx(float(loss.error + loss.penalty), rel=0.02)
    assert float(rough_loss.active) == pytest.approx(float(loss.active), rel=0.02)


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.architecture)
def test_trains(recipe: Any) -> None:
    """Through the times at which features are found dead; the loss falls, and little updates are not rounded away."""
    stream = batches(0, 256)
    trainer = Trainer(recipe, 150, next(stream), workspace(compute=torch.bfloat16))
    fvu = []
    for _ in range(150):
        x_BD = next(stream)
        trainer.step(x_BD)
        fvu.append(trainer.measure(x_BD).fvu)
    assert sum(fvu[-10:]) < 0.6 * sum(fvu[:10])
    assert trainer.autoencoder.params.buffer.dtype == torch.float32
    W_FD = trainer.autoencoder.params["W_dec"]
    assert not torch.equal(W_FD, W_FD.bfloat16().float())
    torch.testing.assert_close(W_FD.norm(dim=1), torch.ones(len(W_FD)))


def test_a_continued_training_computes_with_the_weights_it_was_given() -> None:
    """Products read a copy in bfloat16, which must not be that of the weights it began with."""
    stream = batches(0, 64)
    first, second = (Trainer(ALL[0], 9, next(stream), workspace(compute=torch.bfloat16)) for _ in range(2))
    for _ in range(3):
        first.step(next(stream))
    second.restore({name: tensor.clone() for name, tensor in first.tensors().items()}, first.facts())
    assert torch.equal(second.autoencoder.low.buffer, first.autoencoder.low.buffer)
