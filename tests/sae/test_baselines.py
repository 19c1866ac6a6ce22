"""Baselines against scikit-learn and against what they promise."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, FastICA

from sae import baselines, metrics
from sae.dictionary import Dictionary


@pytest.fixture(scope="module")
def x_BD() -> torch.Tensor:
    rng = np.random.default_rng(0)
    sources = rng.laplace(size=(3000, 12)) ** 3
    return torch.from_numpy(sources @ rng.normal(size=(12, 12)) + rng.normal(size=12)).float()


def halves(codes: np.ndarray) -> torch.Tensor:
    """Signed coordinates as two rectified halves."""
    return torch.from_numpy(np.concatenate([codes, -codes], 1).clip(0)).float()


def test_pca_equals_scikit_learn(x_BD: torch.Tensor) -> None:
    reference = PCA(svd_solver="covariance_eigh").fit_transform(x_BD.double().numpy())
    torch.testing.assert_close(baselines.pca(x_BD).encode(x_BD), halves(reference), atol=2e-3, rtol=1e-4)


def test_ica_equals_scikit_learn(x_BD: torch.Tensor) -> None:
    model = FastICA(
        whiten="unit-variance", whiten_solver="eigh", max_iter=baselines.ICA_ITERATIONS, tol=1e-3, random_state=5
    )
    reference = model.fit_transform(x_BD.double().numpy())
    torch.testing.assert_close(baselines.ica(x_BD, 5).encode(x_BD), halves(reference), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("make", [baselines.pca, lambda x: baselines.ica(x, 0)], ids=["pca", "ica"])
def test_complete_bases_reconstruct(make: object, x_BD: torch.Tensor) -> None:
    dictionary: Dictionary = make(x_BD)  # type: ignore[operator]
    assert metrics.reconstruction(dictionary, x_BD).fvu < 1e-5


def test_ica_leaves_out_dead_neurons(x_BD: torch.Tensor) -> None:
    dead_BD = torch.cat([x_BD, torch.zeros(len(x_BD), 3)], 1)
    assert baselines.ica(dead_BD, 0).n_features == 2 * x_BD.shape[1]


def test_ica_says_whether_it_converged(x_BD: torch.Tensor) -> None:
    noise_BD = torch.randn(400, 40, generator=torch.Generator().manual_seed(0))
    stopped, ended = baselines.ica(noise_BD, 0).metadata, baselines.ica(x_BD, 0).metadata
    assert (stopped["converged"], stopped["iterations"]) == (False, baselines.ICA_ITERATIONS)
    assert ended["converged"]
    assert ended["iterations"] < baselines.ICA_ITERATIONS


def test_neurons_equal_the_raw_activations(x_BD: torch.Tensor) -> None:
    assert torch.equal(baselines.neurons(x_BD).encode(x_BD), x_BD.relu())


def test_random_directions_are_unit_and_seeded(x_BD: torch.Tensor) -> None:
    one, same, other = (baselines.random_directions(x_BD, seed) for seed in (1, 1, 2))
    torch.testing.assert_close(one.W_enc_DF.norm(dim=0), torch.ones(24))
    assert torch.equal(one.W_enc_DF, same.W_enc_DF)
    assert not torch.equal(one.W_enc_DF, other.W_enc_DF)


def test_random_matched_has_the_targets_densities(x_BD: torch.Tensor) -> None:
    target = baselines.neurons(x_BD)
    wanted_F = torch.full((12,), 0.03)
    wanted_F[:6] = 0.2
    wanted_F[0] = 0.0  # dead: never drawn
    matched = baselines.random_matched(x_BD, target, wanted_F, 0)
    density_F = metrics.density(matched, x_BD)
    near = [min(abs(float(d) - 0.03), abs(float(d) - 0.2)) for d in density_F]
    assert max(near) <= 1.5 / len(x_BD)
    assert {round(float(d), 2) for d in density_F} == {0.03, 0.2}
