"""Registers independent components, rectified."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sae.baselines.registry import BASELINES, Baseline
from sae.common.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Dictionary

ICA_ITERATIONS = 40


def ica(x_BD: Tensor, seed: int) -> Dictionary:
    """Fit independent components (FastICA, logcosh), rectified; features equal scikit-learn's `FastICA.transform`.

    Directions without variance (dead neurons) are left out, since whitening divides by it. The metadata says whether
    the iteration converged before its limit.
    """
    import torch
    from sklearn.decomposition import FastICA

    from sae.baselines.directions import fit_to_convergence, rank, require_vectors, signed_halves

    require_vectors("ica", x_BD)
    x = x_BD.cpu().double().numpy()  # in single precision the iteration loses its nearly dependent directions
    model = FastICA(
        n_components=rank(x),
        whiten="unit-variance",
        whiten_solver="eigh",
        max_iter=ICA_ITERATIONS,
        tol=1e-3,
        random_state=derive_seed(seed, "ica", bits=32),
    )
    converged = fit_to_convergence(model, x)
    directions_KD, inverse_KD = torch.from_numpy(model.components_), torch.from_numpy(model.mixing_.T)
    fitted = signed_halves("ica", directions_KD, inverse_KD, torch.from_numpy(model.mean_))
    return replace(fitted, metadata={"iterations": int(model.n_iter_), "converged": converged})


BASELINES.register("ica", Baseline("ica", "#E69F00", ica, reports_convergence=True, label="ICA"))
