"""How sparse a dictionary is, and how much of the activations and of the model's prediction it keeps.

Knows nothing about explanations.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sae.dictionary import Dictionary
from sae.subject import Subject, batches


@dataclass(frozen=True)
class Reconstruction:
    """Measured on held-out text.

    l0: mean number of active features per token.
    fvu: fraction of variance unexplained, sum |x - x_hat|^2 / sum |x - mean x|^2 over all tokens and dimensions.
    dead: share of features active on none of the measured tokens.
    tokens: how many tokens were measured.
    """

    l0: float
    fvu: float
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
        fvu=float(residual / total),
        dead=float((counts_F == 0).double().mean()),
        tokens=len(x_BD),
    )


def cross_entropy(subject: Subject, dictionary: Dictionary, hook_point: str, ids_NC: Tensor, size: int) -> CrossEntropy:
    """Loss over blocks of ids, `size` blocks at a time; predictions of tokens 1..C-1 of each block count."""
    replacements = {
        "clean": None,
        "reconstructed": lambda x: dictionary.reconstruct(x.flatten(0, 1)).view_as(x),
        "zeroed": torch.zeros_like,
    }
    means = {
        name: float(torch.cat([subject.losses(part, hook_point, replace) for part in batches(ids_NC, size)]).mean())
        for name, replace in replacements.items()
    }
    return CrossEntropy(**means)
