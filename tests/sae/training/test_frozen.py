"""Nulls: what is frozen stays as it was drawn, what must stay near does, and the rest learns; tied weights cannot."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sae.common.errors import UserError
from sae.training import config
from sae.training.frozen import NEAR
from sae.training.resampling import Resampler
from sae.training.trainer import LOOK_EVERY, Trainer
from tests.sae.training import recipes
from tests.sae.training.superposition import batches, recovered, trained, workspace

COMMON: dict[str, Any] = {"expansion": 2, "lr": 3e-2, "dead_after": 300}
ALL: list[recipes.Recipe] = [
    recipes.ReLU(l1=0.1, **COMMON),
    recipes.Gated(l1=0.1, **COMMON),
    recipes.JumpReLU(l0=0.1, bandwidth=0.1, threshold=0.1, **COMMON),
    recipes.TopK(k=2, clip=0.1, **COMMON),
    recipes.BatchTopK(k=2, **COMMON),
    recipes.Matryoshka(k=2, **COMMON),
]
STEPS = 2 * LOOK_EVERY


def with_frozen(recipe: recipes.Recipe, frozen: str | None) -> recipes.Recipe:
    return recipe.model_copy(update={"frozen": frozen})


def start_and_end(recipe: recipes.Recipe) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters before and after a training in which features die (and AuxK teaches them)."""
    stream = batches(0, 128)
    trainer = Trainer(recipe, STEPS, next(stream), workspace())
    params = trainer.autoencoder.params
    bias = params["b_enc" if "b_enc" in params.parts else "b_gate"]
    bias[:5] = -100.0
    start = {name: value.clone() for name, value in params.parts.items()}
    with torch.no_grad():
        for x_BD in islice(stream, STEPS):
            trainer.step(x_BD)
    assert bool(trainer.dead_F.any())
    return start, params.parts


def cosines(start: dict[str, Tensor], end: dict[str, Tensor]) -> Tensor:
    """Of every decoder row with its start."""
    return torch.cosine_similarity(start["W_dec"].double(), end["W_dec"].double(), dim=1)


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.architecture)
@pytest.mark.parametrize(("frozen", "matrix"), [("encoder", "W_enc"), ("decoder", "W_dec")])
def test_what_is_frozen_stays_bitwise_and_all_else_learns(recipe: recipes.Recipe, frozen: str, matrix: str) -> None:
    start, end = start_and_end(with_frozen(recipe, frozen))
    assert {name for name in start if torch.equal(start[name], end[name])} == {matrix}


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.architecture)
def test_near_decoder_stays_within_its_bound_and_reaches_it(recipe: recipes.Recipe) -> None:
    start, end = start_and_end(with_frozen(recipe, "near_decoder"))
    near_F, free_F = cosines(start, end), cosines(*start_and_end(recipe))
    assert float(near_F.min()) >= NEAR - 1e-6
    assert int((near_F < NEAR + 1e-6).sum()) > 2
    assert bool((near_F > NEAR + 1e-3).any())
    assert float(free_F.min()) < NEAR - 0.1
    torch.testing.assert_close(end["W_dec"].norm(dim=1), torch.ones(len(near_F)))


def test_a_row_beyond_the_bound_is_turned_back_in_its_own_plane() -> None:
    """In 2 dimensions by hand: 90 degrees from its start becomes arccos 0.8; what is within the bound stays bitwise."""
    first_BD = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    recipe = recipes.TopK(k=1, expansion=1, frozen="near_decoder")
    trainer = Trainer(recipe, 1, first_BD, workspace(2))
    rows_FD, held = trainer.autoencoder.params["W_dec"], trainer.frozen
    assert held is not None
    held.start_FD.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    rows_FD.copy_(torch.tensor([[0.0, -1.0], [0.28, 0.96]]))
    trainer.hold()
    torch.testing.assert_close(rows_FD[0], torch.tensor([0.8, -0.6]))
    assert rows_FD[1].tolist() == torch.tensor([0.28, 0.96]).tolist()


def test_a_frozen_gradient_is_not_clipped_for() -> None:
    """The rest of the gradient is as long as the limit allows, and Adam has seen nothing of the frozen part."""
    recipe = recipes.TopK(k=2, clip=0.01, frozen="decoder", **COMMON)
    trainer = trained(recipe, 1, batches(0, 128))
    assert float(trainer.autoencoder.grads["W_dec"].norm()) == 0
    assert float(trainer.autoencoder.grads.buffer.norm()) == pytest.approx(0.01, rel=1e-4)
    assert float(trainer.adam.second["W_dec"].norm()) == 0


@pytest.mark.parametrize("frozen", [None, "encoder", "decoder", "near_decoder"])
def test_resampling_leaves_what_is_frozen(frozen: str | None) -> None:
    resampling = recipes.Resampling(steps=(8,), silent_steps=4, inputs=512)
    recipe = with_frozen(recipes.ReLU(l1=0.1, resampling=resampling, **COMMON), frozen)
    stream = batches(0, 128)
    trainer = Trainer(recipe, 20, next(stream), workspace())
    params, dead = trainer.autoencoder.params, slice(0, 5)
    params["b_enc"][dead] = -100.0
    with torch.no_grad():
        for x_BD in islice(stream, 8):
            trainer.step(x_BD)
        before = {name: value.clone() for name, value in params.parts.items()}
        resampler = Resampler(trainer)
        for x_BD in islice(stream, resampler.n_batches):
            resampler.add(x_BD)
        assert resampler.finish() >= 5
    same = {name for name in ("W_enc", "W_dec", "b_enc") if torch.equal(params[name][dead], before[name][dead])}
    assert same == {None: set(), "encoder": {"W_enc"}, "decoder": {"W_dec"}, "near_decoder": set()}[frozen]
    if frozen == "near_decoder":
        assert trainer.frozen is not None
        assert float((params["W_dec"] * trainer.frozen.start_FD).sum(1).min()) >= NEAR - 1e-6
    if frozen != "encoder":
        parallel_F = torch.cosine_similarity(params["W_enc"][dead], params["W_dec"][dead], dim=1)
        torch.testing.assert_close(parallel_F, torch.ones(5))


@pytest.mark.slow
def test_a_null_recovers_less_of_what_is_planted() -> None:
    """What the constraints are for: 48 planted directions, of which only a learnt decoder can have many."""
    shares = {}
    for frozen in (None, "near_decoder", "decoder"):
        recipe = recipes.TopK(k=2, expansion=4, lr=1e-2, frozen=frozen)
        shares[frozen] = recovered(trained(recipe, 400, batches(0, 512)).autoencoder.params["W_dec"])
    assert shares[None] > 0.7
    assert shares["near_decoder"] < shares[None] - 0.2
    assert shares["decoder"] == 0


def test_tied_weights_cannot_be_frozen_alone(tmp_path: Path) -> None:
    path = tmp_path / "tied.yaml"
    path.write_text("dictionaries: [{architecture: tied, l1: 0.1, frozen: decoder}]")
    with pytest.raises(
        UserError, match="frozen=decoder: tied encodes and decodes with one matrix; take relu"
    ) as caught:
        config.load(str(path))
    assert "\n" not in str(caught.value)


def test_names_tell_nulls_apart(tmp_path: Path) -> None:
    path = tmp_path / "nulls.yaml"
    path.write_text(
        "dictionaries: [{architecture: topk, k: 4, sweep: {frozen: [null, encoder, decoder, near_decoder]}}]"
    )
    assert [recipe.label for recipe in config.load(str(path)).dictionaries] == [
        "topk_8x_k4", "topk_8x_k4_frozen=encoder", "topk_8x_k4_frozen=decoder", "topk_8x_k4_frozen=near_decoder",
    ]  # fmt: skip
