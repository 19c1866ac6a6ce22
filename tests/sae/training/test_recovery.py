"""Every architecture finds the directions planted in a toy model of superposition; PCA's and random ones are others.

One set of hyperparameters each, which holds for other seeds too. The tied one is the slow one: it has no decoder bias,
so that the toy's constant is left out, and needs ten times the rate and twice the steps (as it does when written with
automatic differentiation and torch's Adam). BatchTopK and Matryoshka need AuxK to hold for other seeds.
"""

from functools import cache

import pytest
import torch

from sae.baselines import pca, random
from sae.training.trainer import Trainer
from tests.sae.training import recipes
from tests.sae.training.superposition import D, batches, recovered, trained, workspace

STEPS, BATCH = 800, 512
RECIPES: dict[str, recipes.Recipe] = {
    "relu": recipes.ReLU(l1=0.1, expansion=4, lr=1e-2),
    "tied": recipes.Tied(l1=0.04, expansion=4, lr=2e-2),
    "gated": recipes.Gated(l1=0.4, expansion=4, lr=1e-2),
    "jumprelu": recipes.JumpReLU(l0=0.06, expansion=4, lr=1e-2, bandwidth=0.3, threshold=0.3, encoder_start=1.0),
    "topk": recipes.TopK(k=2, expansion=4, lr=3e-3),
    "batch_topk": recipes.BatchTopK(k=2, expansion=4, lr=1e-2, dead_after=10_000),
    "matryoshka": recipes.Matryoshka(k=2, expansion=4, lr=1e-2, dead_after=10_000, prefixes=(0.75, 1)),
}


@cache
def of(architecture: str, compute: torch.dtype = torch.float32) -> Trainer:
    """Trained once for all tests of this file."""
    tied = architecture == "tied"
    steps, size, constant = (2400, 256, 0.0) if tied else (STEPS, BATCH, 0.5)
    return trained(RECIPES[architecture], steps, batches(0, size, constant), workspace(compute=compute))


SLOW = ("batch_topk", "gated", "jumprelu", "matryoshka", "tied")
ARCHITECTURES = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in RECIPES]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_planted_directions_are_recovered(architecture: str) -> None:
    assert recovered(of(architecture).dictionary("hook", "model", {}).W_dec_FD) >= 0.9


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_reconstruction_is_good_and_sparse(architecture: str) -> None:
    """On fresh data, by the dictionary as it would be saved: a fifth of the variance at most is lost."""
    x_BD = next(batches(9, 2048, 0.0 if architecture == "tied" else 0.5))
    dictionary = of(architecture).dictionary("hook", "model", {})
    f_BF = dictionary.encode(x_BD)
    error, spread = (dictionary.decode(f_BF) - x_BD).square().sum(), (x_BD - x_BD.mean(0)).square().sum()
    assert float(error / spread) < 0.2
    assert float((f_BF > 0).sum(1).double().mean()) < 8


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["relu", "topk"])
def test_bfloat16_products_do_as_well(architecture: str) -> None:
    assert recovered(of(architecture, torch.bfloat16).dictionary("hook", "model", {}).W_dec_FD) >= 0.9


def test_beginnings_do_not_have_them() -> None:
    """What the recovery is measured against: the same number of rows, untrained."""
    for recipe in RECIPES.values():
        W_FD = Trainer(recipe, STEPS, next(batches(0)), workspace()).autoencoder.params["W_dec"]
        assert len(W_FD) == 4 * D
        assert recovered(W_FD) < 0.1


def test_baselines_do_not_have_them() -> None:
    x_BD = next(batches(1, 8192))
    assert recovered(pca.pca(x_BD).W_dec_FD) < 0.3
    assert recovered(random.random_directions(x_BD, 0).W_dec_FD) < 0.3
