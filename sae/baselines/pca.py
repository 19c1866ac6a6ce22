"""Registers principal components, rectified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sae.baselines.registry import BASELINES, Baseline

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Dictionary


def pca(x_BD: Tensor, seed: int = 0, transposed: bool = False) -> Dictionary:
    """Fit principal components by decreasing variance, rectified; features equal scikit-learn's `PCA.transform`.

    Draws nothing.

    Args:
        transposed: take the columns of the matrix of components for its rows, as SAEBench's PCA does: directions that
            reconstruct as well, and are no principal components.
    """
    import torch
    from sklearn.decomposition import PCA

    from sae.baselines.directions import require_vectors, signed_halves

    require_vectors("pca", x_BD)
    fitted = PCA(svd_solver="covariance_eigh").fit(x_BD.cpu().double().numpy())
    components_KD = torch.from_numpy(fitted.components_)
    directions_KD = components_KD.T if transposed else components_KD
    return signed_halves("pca", directions_KD, directions_KD, torch.from_numpy(fitted.mean_))


BASELINES.register("pca", Baseline("pca", "#009E73", pca, label="PCA"))
