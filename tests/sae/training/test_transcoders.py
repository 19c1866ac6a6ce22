"""Transcoders as trained and as saved: in the activations' own scales, learnt from a model, continued."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sae import formats
from sae.common.errors import UserError
from sae.training.architectures.recipe import Recipe
from sae.training.trainer import Trainer
from tests.sae.training import recipes
from tests.sae.training.small import finish, of_planted
from tests.sae.training.superposition import workspace

D, E = 12, 7
RECIPES = [
    recipes.ReLU(l1=0.01, expansion=4),
    recipes.Gated(l1=0.01, expansion=4, skip=True),
    recipes.JumpReLU(l0=0.001, expansion=4, skip=True),
    recipes.TopK(k=4, expansion=4, skip=True),
    recipes.TopK(k=4, expansion=4, normalise=False),
]


def batches(seed: int = 0) -> Iterator[Tensor]:
    """Rows of x, large and off centre, and y, small: some rectified directions of x and a linear map of it."""
    generator = torch.Generator().manual_seed(seed)
    W_DE, V_DH, U_HE = (torch.randn(shape, generator=generator) for shape in ((D, E), (D, 8), (8, E)))
    while True:
        x_BD = 5 * torch.randn(512, D, generator=generator) + 2
        yield torch.cat([x_BD, 0.02 * (x_BD @ W_DE + (x_BD @ V_DH).relu() @ U_HE)], 1)


def trainer(recipe: Recipe, steps: int) -> tuple[Trainer, Iterator[Tensor]]:
    rows = batches()
    return Trainer(recipe, steps, next(rows), replace(workspace(D), d_out=E)), rows


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.label)
def test_what_is_saved_makes_what_was_trained(recipe: Recipe) -> None:
    """The step's own squared error, in its scale, is that of the saved dictionary on the same rows."""
    made, rows = trainer(recipe, 100)
    for _ in range(80):
        made.step(next(rows))
    rows_BD = next(rows)
    losses = made.autoencoder.gradients(made.scaled(rows_BD))
    dictionary = made.dictionary("a", "m", {}, "b")
    x_BD, y_BE = rows_BD[:, :D], rows_BD[:, D:]
    squared = (dictionary.reconstruct(x_BD) - y_BE).square().sum()
    torch.testing.assert_close(squared / made.scale**2, losses.squared_error, rtol=1e-3, atol=1e-3)
    assert squared < 0.5 * (y_BE - y_BE.mean(0)).square().sum()
    assert (dictionary.reads, dictionary.writes, dictionary.subtract_b_dec) == (("a",), ("b",), False)
    assert (dictionary.W_skip_DE is not None) == bool(recipe.skip)


@torch.no_grad()
def test_a_continued_training_ends_with_the_same_weights() -> None:
    whole, rows = trainer(RECIPES[3], 8)
    seen = [next(rows).clone() for _ in range(8)]
    for rows_BD in seen:
        whole.step(rows_BD)
    first, _ = trainer(RECIPES[3], 8)
    for rows_BD in seen[:4]:
        first.step(rows_BD)
    second = Trainer(RECIPES[3], 8, seen[5] * 3, replace(workspace(D), d_out=E))
    second.restore(dict(first.tensors()), first.facts())
    for rows_BD in seen[4:]:
        second.step(rows_BD)
    assert torch.equal(second.autoencoder.params.buffer, whole.autoencoder.params.buffer)
    assert (second.scale, second.scale_in) == (whole.scale, whole.scale_in)


def test_sae_train_learns_an_mlp(planted: Path, tmp_path: Path) -> None:
    """The whole command's work: the planted model's MLP, from what goes into it to what comes out."""
    given: dict[str, Any] = {
        "subject__hook_point": "blocks.0.mlp.hook_in", "subject__writes": "blocks.0.hook_mlp_out", "steps": 60,
        "dictionaries": [{"architecture": "topk", "k": 4, "expansion": 4, "skip": True}],
    }  # fmt: skip
    trained = finish(of_planted(planted, tmp_path / "t", **given))
    row = trained.about["dictionaries"][0]
    assert row["name"] == "topk_4x_k4_skip"
    assert row["fvu"] < 0.5
    dictionary = formats.load(trained.folder / row["name"])
    assert (dictionary.reads, dictionary.writes) == (("blocks.0.mlp.hook_in",), ("blocks.0.hook_mlp_out",))
    assert dictionary.metadata["metrics"]["writes"] == "blocks.0.hook_mlp_out"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subject__writes": "blocks.0.mlp.hook_post"}, "subject.writes is what is read"),
        ({"dictionaries.0.skip": True}, "skip is for transcoders; give subject.writes"),
        (
            {"subject__writes": "hook_embed", "dictionaries": [{"architecture": "tied", "l1": 1}]},
            "tied is for autoencoders",
        ),
        ({"subject__writes": "hook_embed"}, "resampling is for autoencoders"),
    ],
    ids=str,
)
def test_settings_that_no_transcoder_has(changes: dict[str, Any], message: str, planted: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        of_planted(planted, tmp_path / "t", **changes)
    assert "\n" not in str(caught.value)


def test_the_scales_are_not_rounded_where_activations_are_bf16() -> None:
    rows_BD = next(batches()).bfloat16()
    made = Trainer(RECIPES[0], 10, rows_BD, replace(workspace(D), d_out=E, compute=torch.bfloat16))
    divisor_D = torch.tensor([made.scale_in] * D + [made.scale] * E)
    assert torch.equal(made.scaled(rows_BD), (rows_BD.float() * (1 / divisor_D)).bfloat16())


@torch.no_grad()
def test_a_measured_batch_has_the_fvu_of_what_is_written_and_the_whole_loss() -> None:
    """What is read and what is written have scales of their own; the penalty is a part of the loss."""
    made, rows = trainer(RECIPES[0], 5)
    before, rows_BD = made.dictionary("a", "m", {}, "b"), next(rows)
    made.step(rows_BD)
    x_BD, y_BE, measured = rows_BD[:, :D], rows_BD[:, D:], made.measure(rows_BD)
    f_BF = before.encode(x_BD)
    squared = (before.decode(f_BF, x_BD) - y_BE).square().sum()
    assert measured.fvu == pytest.approx(float(squared / (y_BE - y_BE.mean(0)).square().sum()), rel=1e-4)
    error = made.autoencoder.error_weight * squared / made.scale**2 / len(y_BE)
    assert measured.loss == pytest.approx(float(error + 0.01 * f_BF.sum(1).mean() / made.scale), rel=1e-4)


def test_encoder_and_decoder_are_drawn_by_themselves_though_both_ends_are_as_wide() -> None:
    made = Trainer(RECIPES[0], 5, next(batches())[:, : 2 * E], replace(workspace(E), d_out=E)).autoencoder
    cosine_F = torch.nn.functional.cosine_similarity(made.params["W_enc"], made.params["W_dec"])
    assert cosine_F.mean().abs() < 0.5
