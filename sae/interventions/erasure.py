"""Erases a concept from activations: by LEACE, by a mean difference, by principal components, by ablating features.

Shape suffixes: B activation vectors, D their width, Z concept values, K directions, F features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sae.dictionary import Dictionary

Erase = Callable[[Tensor], Tensor]
"""Takes activation vectors [B, D] and returns them without the concept."""
TOLERANCE = 1e-6
"""Share of the largest variance below which a direction counts as having none."""


@dataclass(frozen=True)
class Affine:
    """Computes x - (x - centre) right' left': an affine eraser, written by its low rank."""

    centre_D: Tensor
    left_DK: Tensor
    """What is taken away lies in the span of these columns."""
    right_DK: Tensor
    """What is read from x to decide how much of them."""

    def __call__(self, x_BD: Tensor) -> Tensor:
        removed_BD = (x_BD.double() - self.centre_D) @ self.right_DK @ self.left_DK.T
        return (x_BD.double() - removed_BD).to(x_BD.dtype)


def leace(x_BD: Tensor, z_BZ: Tensor) -> Affine:
    """Fit the least-squares eraser after which no linear probe does better than a constant (Belrose et al. 2023,
    arXiv 2306.03819, Theorem 4.3): r(x) = x - W^+ P W (x - mean), with W the whitening W = Cov(x)^(-1/2) and P the
    orthogonal projection onto the columns of W Cov(x, z).
    """
    x_BD, z_BZ = x_BD.double(), z_BZ.double()
    centre_D = x_BD.mean(0)
    cov_DD = _covariance(x_BD, x_BD)
    variances_D, vectors_DD = torch.linalg.eigh(cov_DD)
    kept_D = variances_D > TOLERANCE * variances_D.max()
    basis_DD, roots_D = vectors_DD[:, kept_D], variances_D[kept_D].sqrt()
    whiten_DD, colour_DD = basis_DD / roots_D @ basis_DD.T, basis_DD * roots_D @ basis_DD.T
    columns_DK = _orthonormal(whiten_DD @ _covariance(x_BD, z_BZ))
    return Affine(centre_D, colour_DD @ columns_DK, whiten_DD @ columns_DK)


def _covariance(a_BD: Tensor, b_BE: Tensor) -> Tensor:
    covariance_DE: Tensor = (a_BD - a_BD.mean(0)).T @ (b_BE - b_BE.mean(0)) / len(a_BD)
    return covariance_DE


def _orthonormal(columns_DZ: Tensor) -> Tensor:
    """Return an orthonormal basis [D, K] of the columns' span; nothing if all are 0."""
    left_DZ, values_Z, _ = torch.linalg.svd(columns_DZ, full_matrices=False)
    basis_DK: Tensor = left_DZ[:, values_Z > TOLERANCE * values_Z.max().clamp(min=1e-12)]
    return basis_DK


def mean_difference(x_BD: Tensor, is_one_B: Tensor) -> Affine:
    """Project out the difference of the two classes' means; on that direction both become the mean of all."""
    x_BD = x_BD.double()
    return _projected_out(x_BD, (x_BD[is_one_B].mean(0) - x_BD[~is_one_B].mean(0))[:, None])


def principal_components(x_BD: Tensor, is_one_B: Tensor, k: int) -> Affine:
    """Project out the k principal components whose coordinates correlate most with the class."""
    x_BD = x_BD.double()
    vectors_DD = torch.linalg.eigh(_covariance(x_BD, x_BD)).eigenvectors
    strength_D = correlation(x_BD @ vectors_DD, is_one_B).abs()
    return _projected_out(x_BD, vectors_DD[:, strength_D.argsort(descending=True, stable=True)[:k]])


def _projected_out(x_BD: Tensor, columns_DK: Tensor) -> Affine:
    basis_DK = _orthonormal(columns_DK)
    return Affine(x_BD.mean(0), basis_DK, basis_DK)


def ablated(dictionary: Dictionary, features: Sequence[int]) -> Erase:
    """Return an eraser that subtracts what some features add to the reconstruction; none: nothing changes."""
    kept_F = torch.zeros(dictionary.n_features, device=dictionary.W_enc_DF.device)
    kept_F[list(features)] = 1

    def erase(x_BD: Tensor) -> Tensor:
        acts_BF = dictionary.encode(x_BD.float()) * kept_F
        zero_BD = dictionary.decode(torch.zeros_like(acts_BF), x_BD.float())
        return x_BD - (dictionary.decode(acts_BF, x_BD.float()) - zero_BD)

    return erase


def by_correlation(dictionary: Dictionary, x_BD: Tensor, is_one_B: Tensor) -> list[int]:
    """Return the features that correlate with the class, the strongest first."""
    strength_F = correlation(dictionary.encode(x_BD), is_one_B).abs()
    return [int(index) for index in strength_F.argsort(descending=True, stable=True) if strength_F[index] > 0]


def correlation(values_BF: Tensor, is_one_B: Tensor) -> Tensor:
    """Return Pearson's correlation of each column with a class, [F]; 0 where a column is constant."""
    v_BF, z_B = values_BF.double(), is_one_B.double()
    v_BF, z_B = v_BF - v_BF.mean(0), z_B - z_B.mean()
    correlation_F: Tensor = (v_BF * z_B[:, None]).sum(0) / (v_BF.norm(dim=0) * z_B.norm())
    return correlation_F.nan_to_num(0)
