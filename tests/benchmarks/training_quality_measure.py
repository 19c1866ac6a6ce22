"""What `training_quality.py` measures: every library's dictionary by the same formulas, on the same held-out vectors.

The objective is what each family is trained on, in summed squared errors, with decoder rows of any norm:

    relu, tied  |x - x_hat|^2 + l1 * sum f |d|
    gated       |x - x_hat|^2 + l1 * sum gate |d| + |x - x_hat by the gate alone|^2
    jumprelu    |x - x_hat|^2 + l0 * active features
    the others  FVU with exactly k active features a vector (batch_topk, matryoshka: k B of a batch of B vectors)

The last term of gated (also by itself, as `auxiliary`) is an aid to learning. SAELens' decoder learns from it, those of
the paper, dictionary_learning and ours do not: so SAELens gets a lower objective with a higher FVU at the same L0.

Shape suffixes: B vectors, D their width, F features, T true directions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sae.dictionary import Dictionary, Gated
from sae.measuring.metrics import Ablations, CrossEntropy
from tests.benchmarks.training_quality_sources import Source, Task

PART = 2048
"""Vectors at once: the batch that batch_topk's features compete in."""
BATCH_FAMILIES = ("batch_topk", "matryoshka")
OBJECTIVES = ("relu", "tied", "gated", "jumprelu")
Encode = Callable[[Tensor], Tensor]


def goal(family: str) -> str:
    """Name the metric that a family's methods are compared by; less is better."""
    return "objective" if family in OBJECTIVES else "fvu"


def encoder(dictionary: Dictionary, family: str, k: int) -> Encode:
    """Return the function from vectors to features, at the k asked for where that is a batch's mean."""
    if family not in BATCH_FAMILIES:
        return dictionary.encode
    norms_F = dictionary.W_dec_FD.norm(dim=1)

    def encode(x_BD: Tensor) -> Tensor:
        f_BF = _linear(dictionary, x_BD).relu()
        ranked_N = (f_BF * norms_F).flatten()
        kept_N = ranked_N.topk(k * len(x_BD), sorted=False).indices
        return torch.zeros_like(ranked_N).index_fill_(0, kept_N, 1.0).view_as(f_BF) * f_BF

    return encode


def _linear(dictionary: Dictionary, x_BD: Tensor) -> Tensor:
    """Return what the activation function is given, [B, F]."""
    z_BD = x_BD - dictionary.b_dec_D if dictionary.subtract_b_dec else x_BD
    return torch.addmm(dictionary.b_enc_F, z_BD, dictionary.W_enc_DF)


@dataclass
class Sums:
    """Adds up over parts of the held-out vectors."""

    squared: float = 0.0
    penalty: float = 0.0
    auxiliary: float = 0.0
    active: float = 0.0


@torch.no_grad()
def measure(dictionary: Dictionary, family: str, task: Task, source: Source) -> dict[str, float]:
    """Return objective, FVU, L0, the share of features that are active on no held-out vector, MMCS if it is defined."""
    held_ND, sums = source.held_out_ND, Sums()
    encode, fired_F = encoder(dictionary, family, task.k), torch.zeros(dictionary.n_features, dtype=torch.bool)
    for x_BD in held_ND.split(PART):
        f_BF = encode(x_BD)
        fired_F |= (f_BF > 0).any(0)
        sums.active += float((f_BF > 0).sum())
        sums.squared += _squared(dictionary, f_BF, x_BD)
        _add_penalty(sums, dictionary, family, f_BF, x_BD)
    n, spread = len(held_ND), float((held_ND - held_ND.mean(0)).double().square().sum())
    coefficient = task.l0 if family == "jumprelu" else task.l1
    made = {
        "fvu": sums.squared / spread,
        "l0": sums.active / n,
        "dead": float((~fired_F).double().mean()),
    }
    if family in OBJECTIVES:
        made["objective"] = (sums.squared + sums.auxiliary + coefficient * sums.penalty) / n
    if family == "gated":
        made["auxiliary"] = sums.auxiliary / n
    if source.true_TD is not None:
        made["mmcs"] = mmcs(dictionary.W_dec_FD, source.true_TD)
    return made


def _squared(dictionary: Dictionary, f_BF: Tensor, x_BD: Tensor) -> float:
    return float((dictionary.decode(f_BF, x_BD) - x_BD).double().square().sum())


def _add_penalty(sums: Sums, dictionary: Dictionary, family: str, f_BF: Tensor, x_BD: Tensor) -> None:
    norms_F, activation = dictionary.W_dec_FD.norm(dim=1), dictionary.activation
    if family == "jumprelu":
        sums.penalty += float((f_BF > 0).sum())
    elif isinstance(activation, Gated):
        gate_BF = (_linear(dictionary, x_BD) + activation.b_gate_F).relu()
        sums.penalty += float((gate_BF @ norms_F).double().sum())
        sums.auxiliary += _squared(dictionary, gate_BF, x_BD)
    elif family in OBJECTIVES:
        sums.penalty += float((f_BF @ norms_F).double().sum())


def mmcs(rows_FD: Tensor, true_TD: Tensor) -> float:
    """Return the mean over true directions of the largest cosine with a decoder row."""
    unit_FD = rows_FD / rows_FD.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return float((true_TD @ unit_FD.T).amax(1).mean())


@torch.no_grad()
def ce_recovered(dictionary: Dictionary, family: str, k: int, scale: float, against: Ablations) -> float:
    """Return the share of the cross-entropy between zero ablation and the untouched model that is kept."""
    encode = encoder(dictionary, family, k)

    def reconstruct(x_NCD: Tensor) -> Tensor:
        parts = (x_NCD.flatten(0, 1) / scale).split(PART)
        return torch.cat([dictionary.decode(encode(x_BD), x_BD) * scale for x_BD in parts]).view_as(x_NCD)

    loss = float(against.subject.losses(against.ids_NC, {against.hook_points[0]: reconstruct}).mean())
    recovered = CrossEntropy(against.clean, loss, against.zeroed).recovered
    assert recovered is not None, "the subject does not use this hook point"
    return recovered
