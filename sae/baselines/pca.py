"""Principal components, rectified."""

import torch
from torch import Tensor

from sae.baselines.directions import signed_halves
from sae.dictionary import Dictionary


def pca(x_BD: Tensor) -> Dictionary:
    """Principal components by decreasing variance, rectified; features equal scikit-learn's `PCA.transform`."""
    from sklearn.decomposition import PCA

    fitted = PCA(svd_solver="covariance_eigh").fit(x_BD.cpu().double().numpy())
    directions_KD = torch.from_numpy(fitted.components_)
    return signed_halves("pca", "pca", directions_KD, directions_KD, torch.from_numpy(fitted.mean_))
