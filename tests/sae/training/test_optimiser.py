"""Adam, its schedule and clipping against torch's own; unit rows and the gradient that keeps them so."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from sae.training.architectures.registry import build
from sae.training.flat import Flat
from sae.training.optimiser import Adam, peak_rate, schedule
from sae.training.trainer import Trainer
from tests.sae.training import recipes
from tests.sae.training.superposition import D, batches, trained, workspace

SHAPES = {"W": (5, 7), "b": (3,), "single": ()}
ALL: list[recipes.Recipe] = [
    recipes.ReLU(l1=0.1, expansion=2, lr=1e-2),
    recipes.Tied(l1=0.1, expansion=2, lr=1e-2),
    recipes.Gated(l1=0.1, expansion=2, lr=1e-2),
    recipes.JumpReLU(l0=0.1, bandwidth=0.1, threshold=0.1, decoder_norm="unit", expansion=2, lr=1e-2),
    recipes.TopK(k=3, expansion=2, lr=1e-2),
    recipes.BatchTopK(k=3, expansion=2, lr=1e-2),
    recipes.Matryoshka(k=3, expansion=2, lr=1e-2),
]


def filled(seed: int, like: Flat) -> Flat:
    generator, made = torch.Generator().manual_seed(seed), like.like()
    for part in made.parts.values():
        part.copy_(torch.randn(part.shape, generator=generator))
    return made


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.99)])
def test_adam_is_torchs(betas: tuple[float, float]) -> None:
    """Over several steps, the rate rising and falling."""
    recipe, steps = recipes.ReLU(l1=0, lr=0.03, betas=betas, warmup=0.3, decay=0.5), 12
    params, grads = filled(0, Flat(SHAPES, "cpu")), Flat(SHAPES, "cpu")
    theirs = {name: part.clone().requires_grad_() for name, part in params.parts.items()}
    adam, reference = Adam(recipe, params, grads, 8), torch.optim.Adam(theirs.values(), lr=1.0, betas=betas)
    for step in range(steps):
        grads.buffer.copy_(filled(step + 1, grads).buffer)
        adam.set_rate(step / steps)
        adam.step()
        reference.param_groups[0]["lr"] = 0.03 * schedule(recipe, step / steps)
        for name, part in theirs.items():
            part.grad = grads[name].clone()
        reference.step()
    for name, part in theirs.items():
        torch.testing.assert_close(params[name], part.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clip", [0.5, 1e3])
def test_clip_is_torchs(clip: float) -> None:
    """A gradient shorter than the limit stays as it is."""
    grads = filled(0, Flat(SHAPES, "cpu"))
    theirs = [torch.zeros_like(part).requires_grad_() for part in grads.parts.values()]
    for parameter, part in zip(theirs, grads.parts.values(), strict=True):
        parameter.grad = part.clone()
    norm = torch.nn.utils.clip_grad_norm_(theirs, clip)
    square = workspace().ranks.square_norm(grads)
    torch.testing.assert_close(square.sqrt(), norm)
    Adam(recipes.ReLU(l1=0, clip=clip), grads.like(), grads, 8).clip(square)
    for parameter, part in zip(theirs, grads.parts.values(), strict=True):
        torch.testing.assert_close(part, parameter.grad)


def test_no_clip() -> None:
    grads = filled(0, Flat(SHAPES, "cpu"))
    before = grads.buffer.clone()
    Adam(recipes.ReLU(l1=0), grads.like(), grads, 8).clip(workspace().ranks.square_norm(grads))
    assert torch.equal(grads.buffer, before)


def test_schedule_rises_stays_and_falls() -> None:
    recipe = recipes.ReLU(l1=0, warmup=0.1, decay=0.25)
    shares = [schedule(recipe, step / 1000) for step in range(1000)]
    assert all(0 < share <= 1 for share in shares)
    assert shares[50] == pytest.approx(0.5, abs=0.01)
    assert shares[875] == pytest.approx(0.5, abs=0.01)
    assert all(before < after for before, after in pairwise(shares[:101]))
    assert set(shares[100:751]) == {1.0}
    assert all(before > after for before, after in pairwise(shares[751:]))
    assert shares[0] < 0.02
    assert shares[-1] < 0.02


def test_schedule_without_ramps() -> None:
    recipe = recipes.ReLU(l1=0, warmup=0, decay=0)
    assert {schedule(recipe, step / 10) for step in range(10)} == {1.0}


def test_rate_falls_with_the_root_of_the_width() -> None:
    assert peak_rate(recipes.ReLU(l1=0), 2**14) == pytest.approx(2e-4)
    assert peak_rate(recipes.ReLU(l1=0), 2**16) == pytest.approx(1e-4)
    assert peak_rate(recipes.ReLU(l1=0, lr=0.5), 2**16) == 0.5


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.architecture)
def test_projected_gradient_is_orthogonal_to_the_rows(recipe: Any) -> None:
    """What is taken away lies along the row, and all else stays."""
    x_BD, architecture = next(batches(0, 64)), build(recipe, workspace())
    architecture.initialise(x_BD, x_BD.mean(0))
    architecture.gradients(x_BD)
    before = {name: part.clone() for name, part in architecture.grads.parts.items()}
    architecture.project()
    W_FD, grad_FD = architecture.params["W_dec"], architecture.grads["W_dec"]
    taken_FD = before.pop("W_dec") - grad_FD
    assert float((W_FD * taken_FD).sum(1).abs().max()) > 1e-3
    torch.testing.assert_close((W_FD * grad_FD).sum(1), torch.zeros(2 * D), atol=1e-5, rtol=0)
    torch.testing.assert_close(taken_FD, (W_FD * taken_FD).sum(1, keepdim=True) * W_FD, atol=1e-5, rtol=0)
    for name, part in before.items():
        assert torch.equal(architecture.grads[name], part)


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.architecture)
def test_rows_are_unit_after_every_step(recipe: Any) -> None:
    for steps in (1, 6):
        W_FD = trained(recipe, steps, batches(0, 64)).autoencoder.params["W_dec"]
        torch.testing.assert_close(W_FD.norm(dim=1), torch.ones(2 * D))


@pytest.mark.parametrize(("frozen", "free"), [(None, True), ("encoder", True), ("decoder", False)])
def test_jumprelu_s_rows_have_any_norm_and_its_thresholds_are_not_negative(frozen: Any, free: bool) -> None:
    """They start as long as the encoder's. A frozen decoder has unit rows."""
    recipe = recipes.JumpReLU(l0=1e-6, threshold=1e-3, encoder_start=0.2, expansion=2, lr=1e-2, frozen=frozen)
    start = Trainer(recipe, 6, next(batches(0, 64)), workspace()).autoencoder.params
    torch.testing.assert_close(start["W_dec"].norm(dim=1), torch.full((2 * D,), 0.2 if free else 1.0))
    end = trained(recipe, 6, batches(0, 64)).autoencoder.params
    assert (float(end["W_dec"].norm(dim=1).std()) > 0.01) == free
    assert float(end["threshold"].min()) == 0 < float(end["threshold"].max())


def test_a_step_is_project_clip_adam_normalise() -> None:
    """A trainer's steps against the same written with torch's optimiser, on the gradients it found."""
    recipe = recipes.ReLU(l1=0.1, expansion=2, lr=1e-2, clip=0.05, squared_error="sum", normalise=False)
    stream = batches(1, 64)
    trainer = Trainer(recipe, 5, next(stream), workspace())
    theirs = {name: part.clone().requires_grad_() for name, part in trainer.autoencoder.params.parts.items()}
    reference = torch.optim.Adam(theirs.values(), lr=1e-2)
    for step in range(5):
        x_BD = next(stream)
        f_BF = ((x_BD - theirs["b_dec"]) @ theirs["W_enc"].T + theirs["b_enc"]).relu()
        error_BD = f_BF @ theirs["W_dec"] + theirs["b_dec"] - x_BD
        reference.zero_grad()
        (error_BD.square().sum(1) + 0.1 * f_BF.sum(1)).mean().backward()
        W_FD = theirs["W_dec"]
        assert W_FD.grad is not None
        W_FD.grad -= (W_FD.grad * W_FD.detach()).sum(1, keepdim=True) * W_FD.detach()
        torch.nn.utils.clip_grad_norm_(theirs.values(), 0.05)
        reference.param_groups[0]["lr"] = 1e-2 * schedule(recipe, step / 5)
        reference.step()
        W_FD.data /= W_FD.data.norm(dim=1, keepdim=True)
        trainer.step(x_BD)
    for name, part in theirs.items():
        torch.testing.assert_close(trainer.autoencoder.params[name], part.detach(), rtol=1e-3, atol=1e-5)
