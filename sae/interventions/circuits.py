"""Measures on which features of a lower dictionary a feature of an upper one depends: by ablation, by attribution.

The automatic circuit detection of Cunningham et al. (2023, arXiv 2309.08600) ablates the lower features one by one.
Integrated gradients, along the path on which all of them rise from zero together, attribute the upper feature's
activation to them in a few passes (Marks et al. 2024, arXiv 2403.19647). In a linear model both are the same.

What the lower dictionary does not reconstruct stays as it is. It may be an autoencoder or a transcoder: its features
are read where it reads, and taken away where it writes.

Shape suffixes: C tokens of an excerpt, D width of what the upper dictionary reads, E of what the lower one writes,
F lower features, A those active in an excerpt, R edits of one excerpt, S features of the upper dictionary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sae.common.errors import UserError
from sae.dictionary import Dictionary
from sae.interventions.hold import written
from sae.measuring.directions import unit_lengths, unit_reads
from sae.models.residual import carried
from sae.models.subject import Subject, batches

STEPS = 8
"""Points of the path at which gradients are taken: midpoints of as many equal parts."""
MOST = 256
"""Lower features of an excerpt that are looked at: those that write most."""
PASSES = 128
"""Edits of an excerpt that pass the model together."""


@dataclass(frozen=True)
class Dependence:
    """Holds how far a feature's activation at an excerpt's last token depends on lower features."""

    activation: float
    """The activation there."""
    features_A: Tensor
    """The lower features that are active in the excerpt, those that write most first."""
    here_A: Tensor
    """Their activations at the last token."""
    ablation_A: Tensor
    """By how much the activation falls when each of them alone is ablated in the whole excerpt."""
    attribution_A: Tensor
    """What integrated gradients attribute to each."""
    earlier_A: Tensor
    """The part of it that they have by what they write before the last token, which only attention brings there."""
    together: float
    """By how much it falls when all of them are ablated."""


@dataclass(frozen=True)
class Link:
    """Joins two dictionaries of one model, of which the upper one reads what the lower one has an effect on."""

    subject: Subject
    lower: Dictionary
    upper: Dictionary

    def __post_init__(self) -> None:
        """Raise UserError if either reads several hook points, or the upper one before the lower one has written."""
        lower, upper = self.lower, self.upper
        for one, names in ((lower, lower.reads), (lower, lower.writes), (upper, upper.reads)):
            if len(names) != 1:
                raise UserError(f"dictionary {one.name} has {len(names)} hook points; circuits are between single ones")
        probe_NC = torch.zeros((1, 2), dtype=torch.long, device=self.subject.device)
        order = list(self.subject.activations_at(probe_NC, (self.written, self.read)))
        if order != [self.written, self.read]:
            raise UserError(f"{upper.name} reads {self.read} before {lower.name} writes {self.written}")

    @property
    def written(self) -> str:
        return self.lower.writes[0]

    @property
    def read(self) -> str:
        return self.upper.reads[0]


class Excerpt:
    """Holds one upper feature at the last token of a text, and what each lower feature writes in that text."""

    def __init__(self, link: Link, feature: int, ids_C: Tensor) -> None:
        self.link, self._ids_C = link, ids_C
        self._encode = link.upper.encoder(torch.tensor([feature], device=ids_C.device))
        at = link.subject.activations_at(ids_C[None], (*link.lower.reads, link.written))
        x_CD, self.stream_CE = link.lower.in_context(at[link.lower.reads[0]])[0], at[link.written][0]
        acts_CF = link.lower.encode(x_CD)
        size_F = acts_CF.norm(dim=0) * unit_lengths(link.lower)
        order_F = size_F.argsort(descending=True, stable=True)[:MOST]
        self.features_A = order_F[size_F[order_F] > 0]
        self.acts_AC = acts_CF[:, self.features_A].T
        n, context = self.acts_AC.shape
        features_B, x_BD = self.features_A.repeat_interleave(context), x_CD.repeat(n, 1)
        self.written_ACE = written(link.lower, self.acts_AC.flatten(), features_B, x_BD).view(n, context, -1)

    @torch.no_grad()
    def values(self, edits_RCE: Tensor) -> Tensor:
        """Return the upper feature's activation after each of some edits of what was written, [R]."""
        return torch.cat([self._value(self.stream_CE + part_RCE) for part_RCE in batches(edits_RCE, PASSES)])

    def _value(self, stream_RCE: Tensor, with_gradients: bool = False) -> Tensor:
        ids_RC, link = self._ids_C.expand(len(stream_RCE), -1), self.link
        at = link.subject.activations_at(ids_RC, (link.read,), {link.written: lambda _: stream_RCE}, with_gradients)
        value_R: Tensor = self._encode(link.upper.in_context(at[link.read])[:, -1]).squeeze(1)
        return value_R

    def without(self, groups: Sequence[Tensor]) -> Tensor:
        """Return the upper feature's activation with each group of lower features ablated, [R].

        Args:
            groups: lower features; those that are not active here change nothing.
        """
        removed = [self.written_ACE[torch.isin(self.features_A.cpu(), group)].sum(0) for group in groups]
        return self.values(-torch.stack(removed))

    def attributions(self) -> Tensor:
        """Return the integrated gradient of each lower feature at each token, [A, C]."""
        left_S = 1 - (torch.arange(STEPS, device=self._ids_C.device) + 0.5) / STEPS
        stream_SCE = self.stream_CE - left_S[:, None, None] * self.written_ACE.sum(0)
        stream_SCE.requires_grad_()
        with torch.enable_grad():
            value_S = self._value(stream_SCE, with_gradients=True)
            (gradient_SCE,) = torch.autograd.grad(value_S.sum(), stream_SCE)
        attribution_AC: Tensor = (self.written_ACE * gradient_SCE.mean(0)).sum(2)
        return attribution_AC


def depend(link: Link, feature: int, ids_C: Tensor) -> Dependence:
    """Measure on which lower features an upper feature's activation at the last of some tokens depends."""
    excerpt = Excerpt(link, feature, ids_C)
    all_1CE = excerpt.written_ACE.sum(0, keepdim=True)
    values_R = excerpt.values(-torch.cat([torch.zeros_like(all_1CE), all_1CE, excerpt.written_ACE])).cpu()
    attribution_AC = excerpt.attributions().cpu()
    return Dependence(
        activation=float(values_R[0]),
        features_A=excerpt.features_A.cpu(),
        here_A=excerpt.acts_AC[:, -1].cpu(),
        ablation_A=values_R[0] - values_R[2:],
        attribution_A=attribution_AC.sum(1),
        earlier_A=attribution_AC[:, :-1].sum(1),
        together=float(values_R[0] - values_R[1]),
    )


@torch.no_grad()
def direct_weights(link: Link, features_S: Tensor) -> Tensor | None:
    """Return what a unit of each lower feature adds to upper features by the residual stream alone, [S, F].

    Encoder row times decoder column: the same for every text, but for the scale of a norm between them, which is left
    out. Between transcoders it is the whole effect that goes past attention (Dunefsky et al. 2024, arXiv 2406.11944).
    None where the residual stream does not lead from the one to the other.
    """
    W_FD = carried(link.subject.bridge, link.written, link.read, link.lower.unit_writes())
    return None if W_FD is None else unit_reads(link.upper, features_S) @ W_FD.T
