"""Baselines as dictionaries: neurons, random directions, PCA, ICA, and random directions at a dictionary's density.

Signed directions give two features, the positive and the negative part of the coordinate. All of them centre the
activations on the same mean. Knows nothing about language models: it is given activations.

Shape suffixes: B activation vectors, D their width, K directions, F = 2K features.
"""

import warnings
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sae.dictionary import Dictionary, JumpReLU, Kind
from sae.errors import UserError

NAMES: tuple[Kind, ...] = ("neurons", "pca", "ica", "random", "random_matched")
ICA_ITERATIONS = 40


def neurons(x_BD: Tensor) -> Dictionary:
    """The basis itself, rectified: "identity-ReLU" of Cunningham et al. 2023."""
    identity_DD = torch.eye(x_BD.shape[1], device=x_BD.device)
    zero_D = torch.zeros_like(identity_DD[0])
    return Dictionary("neurons", "neurons", identity_DD, zero_D, identity_DD, zero_D)


def random_directions(x_BD: Tensor, seed: int) -> Dictionary:
    """Unit vectors drawn uniformly, as many as there are dimensions, decoded by themselves (Cunningham et al. 2023)."""
    generator = torch.Generator().manual_seed(seed)
    drawn_KD = torch.randn((x_BD.shape[1],) * 2, generator=generator, dtype=torch.float64)
    unit_KD = drawn_KD / drawn_KD.norm(dim=1, keepdim=True)
    return _signed("random", "random", unit_KD, unit_KD, x_BD.mean(0))


def pca(x_BD: Tensor) -> Dictionary:
    """Principal components by decreasing variance, rectified; features equal scikit-learn's `PCA.transform`."""
    from sklearn.decomposition import PCA

    fitted = PCA(svd_solver="covariance_eigh").fit(x_BD.cpu().double().numpy())
    directions_KD = torch.from_numpy(fitted.components_)
    return _signed("pca", "pca", directions_KD, directions_KD, torch.from_numpy(fitted.mean_))


def ica(x_BD: Tensor, seed: int) -> Dictionary:
    """Independent components (FastICA, logcosh), rectified; features equal scikit-learn's `FastICA.transform`.

    Directions without variance (dead neurons) are left out, since whitening divides by it. The metadata says whether
    the iteration converged before its limit.
    """
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    x = x_BD.cpu().double().numpy()  # in single precision the iteration loses its nearly dependent directions
    model = FastICA(
        n_components=_rank(x),
        whiten="unit-variance",
        whiten_solver="eigh",
        max_iter=ICA_ITERATIONS,
        tol=1e-3,
        random_state=seed,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x)
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    directions_KD, inverse_KD = torch.from_numpy(model.components_), torch.from_numpy(model.mixing_.T)
    made = _signed("ica", "ica", directions_KD, inverse_KD, torch.from_numpy(model.mean_))
    return replace(made, metadata={"iterations": int(model.n_iter_), "converged": converged})


def random_matched(x_BD: Tensor, target: Dictionary, target_density_F: Tensor, seed: int) -> Dictionary:
    """Random directions, each silent below a threshold that gives it the density of a live feature of `target`.

    Density = share of `x_BD` on which a feature is active. Each direction is matched to one feature of the target,
    drawn with the seed, so that the whole distribution of densities is matched, not only its mean. Raises UserError if
    the target is active nowhere.
    """
    base = random_directions(x_BD, seed).to(str(x_BD.device))
    alive = target_density_F[target_density_F > 0].double()
    if not len(alive):
        raise UserError(
            f"dictionary {target.name} is active nowhere on this text; is it for this model and hook point?"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn_F = alive[torch.randint(len(alive), (base.n_features,), generator=generator)]
    threshold_F = _thresholds(x_BD, base, drawn_F)
    name = f"random_matched[{target.name}]"
    return Dictionary(
        name, "random_matched", base.W_enc_DF, base.b_enc_F, base.W_dec_FD, base.b_dec_D, JumpReLU(threshold_F)
    )


def _thresholds(x_BD: Tensor, base: Dictionary, density_F: Tensor) -> Tensor:
    """The value each feature's pre-activation exceeds on a share `density_F` of the vectors."""
    thresholds = []
    for features in torch.arange(base.n_features).split(128):
        pre_BS = torch.addmm(base.b_enc_F[features], x_BD - base.b_dec_D, base.W_enc_DF[:, features])
        sorted_BS = pre_BS.sort(0, descending=True).values
        rank_S = (density_F[features] * len(x_BD)).round().long().clamp(1, len(x_BD) - 1)
        thresholds.append(sorted_BS.gather(0, rank_S.to(sorted_BS.device)[None])[0])
    return torch.cat(thresholds).relu()


def _rank(x_BD: np.ndarray) -> int:
    """How many directions carry variance."""
    variances = np.linalg.eigvalsh(np.cov(x_BD, rowvar=False))
    return int((variances > 1e-7 * variances.max()).sum())


def _signed(name: str, kind: Kind, directions_KD: Tensor, decoder_KD: Tensor, mean_D: Tensor) -> Dictionary:
    """Two features per direction: relu(v.(x - mean)) for all of them, then relu(-v.(x - mean))."""
    W_enc_DF = torch.cat([directions_KD, -directions_KD]).T.float().contiguous()
    W_dec_FD = torch.cat([decoder_KD, -decoder_KD]).float().contiguous()
    return Dictionary(name, kind, W_enc_DF, torch.zeros(W_enc_DF.shape[1]), W_dec_FD, mean_D.float())
