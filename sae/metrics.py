"""How sparse a dictionary is, and how much of the activations and of the model's prediction it keeps.

Knows nothing about explanations.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sae.dictionary import Dictionary
from sae.subject import Replace, Subject, batches

BLOCKS_AT_ONCE = 32


@dataclass(frozen=True)
class Reconstruction:
    """Measured on held-out text.

    l0: mean number of active features per token.
    fvu: fraction of variance unexplained, sum |x - x_hat|^2 / sum |x - mean x|^2 over all tokens and dimensions; None
        where the activations do not vary.
    dead: share of features active on none of the measured tokens.
    tokens: how many tokens were measured.
    """

    l0: float
    fvu: float | None
    dead: float
    tokens: int


@dataclass(frozen=True)
class CrossEntropy:
    """Next-token loss in nats: untouched, with the activations reconstructed, and with them set to zero."""

    clean: float
    reconstructed: float
    zeroed: float

    @property
    def recovered(self) -> float | None:
        """Share of the loss increase of zero ablation that the reconstruction avoids; None if there is none."""
        harm = self.zeroed - self.clean
        return None if harm == 0 else 1 - (self.reconstructed - self.clean) / harm


@torch.no_grad()
def density(dictionary: Dictionary, x_BD: Tensor, rows: int = 4096) -> Tensor:
    """Share of the vectors on which each feature is active, [F], in double precision."""
    counts_F = torch.zeros(dictionary.n_features, dtype=torch.float64, device=x_BD.device)
    for part_BD in x_BD.split(rows):
        counts_F += (dictionary.encode(part_BD) > 0).sum(0)
    return counts_F / len(x_BD)


@torch.no_grad()
def reconstruction(dictionary: Dictionary, x_BD: Tensor, rows: int = 4096) -> Reconstruction:
    """L0, FVU and dead share on activation vectors [B, D]."""
    counts_F = torch.zeros(dictionary.n_features, dtype=torch.float64, device=x_BD.device)
    residual = torch.zeros((), dtype=torch.float64, device=x_BD.device)
    for part_BD in x_BD.split(rows):
        features_BF = dictionary.encode(part_BD)
        counts_F += (features_BF > 0).sum(0)
        residual += (part_BD - dictionary.decode(features_BF, part_BD)).double().square().sum()
    total = (x_BD - x_BD.mean(0)).double().square().sum()
    return Reconstruction(
        l0=float(counts_F.sum() / len(x_BD)),
        fvu=float(residual / total) if total > 0 else None,
        dead=float((counts_F == 0).double().mean()),
        tokens=len(x_BD),
    )


@dataclass(frozen=True)
class Baseline:
    """Blocks and the two losses on them that every dictionary's is compared with."""

    subject: Subject
    hook_point: str
    ids_NC: Tensor
    clean: float
    zeroed: float


def baseline(subject: Subject, hook_point: str, ids_NC: Tensor) -> Baseline:
    """Measure the untouched and the zero-ablated loss of some blocks of ids."""
    clean, zeroed = _loss(subject, hook_point, ids_NC, None), _loss(subject, hook_point, ids_NC, torch.zeros_like)
    return Baseline(subject, hook_point, ids_NC, clean, zeroed)


def cross_entropy(dictionary: Dictionary, against: Baseline) -> CrossEntropy:
    """Loss with the activations replaced by the dictionary's reconstruction, beside the baseline's two."""
    reconstructed = _loss(
        against.subject,
        against.hook_point,
        against.ids_NC,
        lambda x_NCD: dictionary.reconstruct(x_NCD.flatten(0, 1).float()).view_as(x_NCD),
    )
    return CrossEntropy(against.clean, reconstructed, against.zeroed)


def _loss(subject: Subject, hook_point: str, ids_NC: Tensor, replace: Replace | None) -> float:
    """Mean over tokens 1..C-1 of each block."""
    parts = [subject.losses(part, hook_point, replace) for part in batches(ids_NC, BLOCKS_AT_ONCE)]
    return float(torch.cat(parts).mean())
