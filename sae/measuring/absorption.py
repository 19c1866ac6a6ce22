"""Measures feature absorption as SAEBench does (arXiv 2503.09532), after Chanin et al. (arXiv 2409.14507).

A dictionary has features for a property of words, such as "begins with S". Where these stay silent on some words that
have it, while features of these words hold the property's direction, those have absorbed it. The direction is that of a
linear probe on the activations; the property's features are those by which a sparse probe tells it.

SAEBench asks for the first letter of words, read off by prompts; here any property of vectors is taken.

Shape suffixes: B activation vectors, D their width, F features, P vectors on which the probe is right.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sae.dictionary import Dictionary

MOST = 10
"""Features of a property, at most."""
JUMP = 0.03
"""Gain of the F1 of a sparse probe that one more feature needs to be among them."""
FIRST, NEAR = 0.025, 0.1
"""Cosine with the probe of a feature that absorbs a property whole, and of one that takes part."""
SHARE = 0.4
"""Share of the probe's projection that absorbing features hold, at least."""
HELPERS = 3
"""Features that absorb together, at most."""
L1 = 1.0
"""Inverse strength of the L1 penalty by which the sparse probe's features are ordered."""


@dataclass(frozen=True)
class Property:
    """Holds activation vectors and whether each has the property; the tested ones are of other words."""

    x_BD: Tensor
    has_B: Tensor
    tested_BD: Tensor
    tested_has_B: Tensor


@dataclass(frozen=True)
class Probe:
    """Holds a linear probe of a property."""

    direction_D: Tensor
    """Of length 1."""
    right_B: Tensor
    """Which tested vectors that have the property it finds."""
    f1: float
    """On the tested vectors."""


@dataclass(frozen=True)
class Absorption:
    """Holds what is absorbed of one property."""

    features: tuple[int, ...]
    """The property's features."""
    f1: float
    """Of the sparse probe on them, on the tested vectors."""
    fraction_P: Tensor
    """Of each tested vector that the probe finds rightly, the absorbed share of the property, 0 to 1."""
    full_P: Tensor
    """Whether one other feature has absorbed it whole."""


def fit_probe(one: Property) -> Probe:
    """Fit a logistic regression. Raises ValueError if all vectors have the property, or none."""
    fitted = _logistic(one.x_BD, one.has_B)
    asked_B = torch.from_numpy(fitted.predict(one.tested_BD.cpu().numpy())).to(one.tested_has_B)
    direction_D = torch.from_numpy(fitted.coef_[0]).to(one.x_BD)
    return Probe(direction_D / direction_D.norm(), asked_B & one.tested_has_B, _f1(asked_B, one.tested_has_B))


def absorption(dictionary: Dictionary, one: Property, probe: Probe) -> Absorption:
    """Measure how much of a property is absorbed in a dictionary, which normalises nothing."""
    features, f1 = _features(dictionary, one)
    return Absorption(features, f1, *absorbed(dictionary, one.tested_BD[probe.right_B], probe.direction_D, features))


def absorbed(
    dictionary: Dictionary, x_PD: Tensor, direction_D: Tensor, features: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Return the absorbed share of a property, and whether it is absorbed whole, of each vector that has it.

    Args:
        direction_D: the probe's, of length 1.
        features: the property's.
    """
    acts_PF = dictionary.encode(x_PD)
    written_FD = dictionary.unit_writes()
    along_F = written_FD @ direction_D
    cosine_F = along_F / written_FD.norm(dim=1).clamp(min=1e-12)
    parts_PF, whole_P = acts_PF * along_F, x_PD @ direction_D
    own_P = parts_PF[:, list(features)].sum(1)
    may_F = cosine_F >= NEAR
    may_F[list(features)] = False
    helping_P = (parts_PF * may_F).clamp(min=0).topk(min(HELPERS, len(along_F)), 1).values.sum(1)
    share_P = torch.minimum(helping_P, whole_P - own_P) / (torch.minimum(helping_P, whole_P - own_P) + own_P)
    share_P = share_P.clamp(0, 1).where(own_P > 0, 1.0)
    fraction_P = share_P.where((own_P < whole_P) & (helping_P >= SHARE * whole_P) & (whole_P > 0), 0.0)
    top_P, index_P = parts_PF.max(1)
    silent_P = (acts_PF[:, list(features)] == 0).all(1)
    full_P = silent_P & (cosine_F[index_P] >= FIRST) & (whole_P > 0) & (top_P >= SHARE * whole_P)
    return fraction_P, full_P


def _features(dictionary: Dictionary, one: Property) -> tuple[tuple[int, ...], float]:
    """Return the property's features and the F1 of the sparse probe on them.

    A probe with an L1 penalty orders them; one more is taken as long as F1 gains JUMP by it.
    """
    acts_BF, tested_BF = dictionary.encode(one.x_BD), dictionary.encode(one.tested_BD)
    scale_F = acts_BF.std(0).clamp(min=1e-6)
    sparse = _logistic(acts_BF / scale_F, one.has_B, l1_ratio=1.0, solver="liblinear", C=L1, random_state=0)
    order = torch.from_numpy(sparse.coef_[0]).argsort(descending=True, stable=True)[:MOST].tolist()
    best, features = -1.0, tuple(order[:1])
    for k in range(1, len(order) + 1):
        fitted = _logistic(acts_BF[:, order[:k]], one.has_B, class_weight="balanced")
        asked_B = torch.from_numpy(fitted.predict(tested_BF[:, order[:k]].cpu().numpy()))
        f1 = _f1(asked_B.to(one.tested_has_B), one.tested_has_B)
        if f1 <= best + JUMP:
            break
        best, features = f1, tuple(order[:k])
    return features, best


def _logistic(x_BX: Tensor, has_B: Tensor, **settings: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=500, **settings).fit(x_BX.cpu().numpy(), has_B.cpu().numpy())


def _f1(asked_B: Tensor, has_B: Tensor) -> float:
    both = float((asked_B & has_B).sum())
    return 2 * both / max(float(asked_B.sum() + has_B.sum()), 1.0)
