"""Baselines as dictionaries: neurons, random directions (also at a dictionary's density), PCA, ICA, NMF; their top k.

Signed directions give two features, the positive and the negative part of the coordinate. All of them centre the
activations on the same mean. Knows nothing about language models: it is given activations.

Shape suffixes: B activation vectors, D their width, K directions, F = 2K features.
"""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sae.dictionary import Activation, Dictionary, JumpReLU, Kind, NonNegative, ReLU, TopK
from sae.errors import UserError

ICA_ITERATIONS = 40
NMF_ITERATIONS = 40
"""With 128 parts of the demo's activations 40 leave 0.356 of the variance, 80 in twice the time 0.352."""
NMF_COMPONENTS = 256
"""At most: the time to fit and the time to encode grow with their square."""


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

    x = x_BD.cpu().double().numpy()  # in single precision the iteration loses its nearly dependent directions
    model = FastICA(
        n_components=_rank(x),
        whiten="unit-variance",
        whiten_solver="eigh",
        max_iter=ICA_ITERATIONS,
        tol=1e-3,
        random_state=seed,
    )
    converged = _fit(model, x)
    directions_KD, inverse_KD = torch.from_numpy(model.components_), torch.from_numpy(model.mixing_.T)
    made = _signed("ica", "ica", directions_KD, inverse_KD, torch.from_numpy(model.mean_))
    return replace(made, metadata={"iterations": int(model.n_iter_), "converged": converged})


def nmf(x_BD: Tensor, seed: int, components: int | None = None) -> Dictionary:
    """Non-negative parts of unit length; features equal scikit-learn's `NMF.transform` for these parts.

    A dimension that is negative somewhere is first moved up by its minimum over `x_BD`; below that minimum the features
    are still the least-squares ones. The metadata says whether the iteration converged before its limit.

    Args:
        components: parts to look for; by default half as many as there are directions with variance, at most
            `NMF_COMPONENTS`. With as many parts as directions, the neurons themselves are a perfect solution.
    """
    from sklearn.decomposition import NMF

    shift_D = x_BD.amin(0).clamp(max=0).cpu().float()
    x = (x_BD.cpu().float() - shift_D).numpy()
    wanted = components or max(1, min(_rank(x) // 2, NMF_COMPONENTS))
    # From "nndsvda", which has no zeros to begin with, the iteration may take its first steps for convergence.
    model = NMF(wanted, init="nndsvd", max_iter=NMF_ITERATIONS, random_state=seed)
    converged = _fit(model, x)
    found_KD = torch.from_numpy(model.components_).double()
    found_KD = found_KD[found_KD.norm(dim=1) > 0]
    parts_KD = found_KD / found_KD.norm(dim=1, keepdim=True)  # lengths are arbitrary; unit ones make weights comparable
    W_enc_DF, W_dec_FD = parts_KD.T.float().contiguous(), parts_KD.float()
    activation = NonNegative((parts_KD @ parts_KD.T).float())
    made = Dictionary("nmf", "nmf", W_enc_DF, torch.zeros(len(parts_KD)), W_dec_FD, shift_D, activation)
    return replace(made, metadata={"iterations": int(model.n_iter_), "converged": converged})


def top_k(base: Dictionary, k: int) -> Dictionary:
    """A baseline with only the k largest features of each vector, as they are, called NAME-topK.

    Of a signed basis these are the k coordinates that are largest in magnitude (ICA: in units of their standard
    deviation); of NMF the k largest weights. Raises UserError if there are fewer than k features.
    """
    if k > base.n_features:
        raise UserError(f"{base.name}-top{k}: {base.name} has only {base.n_features} features here; take a smaller k")
    return replace(base, name=f"{base.name}-top{k}", activation=_keeping(base.activation, k))


def _keeping(activation: Activation, k: int) -> Activation:
    match activation:
        case ReLU():
            return TopK(k)
        case NonNegative():
            return replace(activation, k=k)
        case other:
            raise ValueError(f"the activation {other.name} has no top-k version")


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


def _fit(model: Any, x_BD: np.ndarray) -> bool:
    """Fit a scikit-learn model; whether it converged."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x_BD)
    return not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def _rank(x_BD: np.ndarray) -> int:
    """How many directions carry variance."""
    variances = np.linalg.eigvalsh(np.cov(x_BD, rowvar=False))
    return int((variances > 1e-7 * variances.max()).sum())


def _signed(name: str, kind: Kind, directions_KD: Tensor, decoder_KD: Tensor, mean_D: Tensor) -> Dictionary:
    """Two features per direction: relu(v.(x - mean)) for all of them, then relu(-v.(x - mean))."""
    W_enc_DF = torch.cat([directions_KD, -directions_KD]).T.float().contiguous()
    W_dec_FD = torch.cat([decoder_KD, -decoder_KD]).float().contiguous()
    return Dictionary(name, kind, W_enc_DF, torch.zeros(W_enc_DF.shape[1]), W_dec_FD, mean_D.float())
