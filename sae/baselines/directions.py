"""Shares what several baselines need: signed directions as two rectified features, a fit's convergence, the rank."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sae.common.errors import UserError
from sae.dictionary import Dictionary


def fit_to_convergence(model: Any, x_BD: np.ndarray) -> bool:
    """Fit a scikit-learn model and return whether it converged."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x_BD)
    return not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def require_vectors(name: str, x_BD: Tensor) -> None:
    """Raise UserError if there are not more vectors [B, D] than dimensions, so that directions would be made up."""
    n_vectors, width = x_BD.shape
    if n_vectors <= width:
        raise UserError(
            f"baseline {name} needs more than {width} activation vectors of width {width}, and there are {n_vectors}; "
            "raise dictionaries.fit_vectors, or give more text"
        )


def rank(x_BD: np.ndarray) -> int:
    """Count the directions that carry variance."""
    variances = np.linalg.eigvalsh(np.cov(x_BD, rowvar=False))
    return int((variances > 1e-7 * variances.max()).sum())


def signed_halves(name: str, directions_KD: Tensor, decoder_KD: Tensor, mean_D: Tensor) -> Dictionary:
    """Make two features per direction: relu(v.(x - mean)) for all of them, then relu(-v.(x - mean))."""
    W_enc_DF = torch.cat([directions_KD, -directions_KD]).T.float().contiguous()
    W_dec_FD = torch.cat([decoder_KD, -decoder_KD]).float().contiguous()
    return Dictionary(name, name, W_enc_DF, torch.zeros(W_enc_DF.shape[1]), W_dec_FD, mean_D.float())
