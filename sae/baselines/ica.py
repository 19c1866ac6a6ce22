"""Independent components, rectified."""

from dataclasses import replace

import torch
from torch import Tensor

from sae.baselines.directions import fit_to_convergence, rank, signed_halves
from sae.common.seeds import derive_seed
from sae.dictionary import Dictionary

ICA_ITERATIONS = 40


def ica(x_BD: Tensor, seed: int) -> Dictionary:
    """Independent components (FastICA, logcosh), rectified; features equal scikit-learn's `FastICA.transform`.

    Directions without variance (dead neurons) are left out, since whitening divides by it. The metadata says whether
    the iteration converged before its limit.
    """
    from sklearn.decomposition import FastICA

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
    made = signed_halves("ica", "ica", directions_KD, inverse_KD, torch.from_numpy(model.mean_))
    return replace(made, metadata={"iterations": int(model.n_iter_), "converged": converged})
