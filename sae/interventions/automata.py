"""Finds finite-state automata: chains of features of which each raises the tokens on which the next one is active.

So in Towards Monosemanticity (Bricken et al. 2023): a feature for "http" raises ":", on which another feature is
active, that raises "/". Here both ends are measured: on which token a feature is active, and which tokens become less
likely when it is ablated.

Shape suffixes: N blocks, C tokens of context, B activation vectors, F features, S features of one token, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sae.common.progress import Progress
from sae.dictionary import Dictionary
from sae.interventions.effects import Effects, Passages, ablate
from sae.interventions.hold import hook_point_of
from sae.measuring.metrics import loss_blocks_at_once
from sae.measuring.splitting import active, token_shares
from sae.models.subject import Subject, batches

MOSTLY = 0.5
"""Share of a feature's activation on one token from which on it is a feature of that token."""
PROMOTED = 3
"""Tokens that a feature raises: those whose logits fall most when it is ablated."""
PREDICTED = 0.1
"""Mean probability of a token where a feature is active, weighted by its activation, that an edge needs at least."""
PASSAGES = 6
"""Blocks on which a feature is ablated, for finding and for checking each: those where it is most active."""


@dataclass(frozen=True)
class Edge:
    """Leads from a feature to another that is active on a token which the first one raises."""

    first: int
    second: int
    token: int
    """The first feature's own token."""
    following: int
    """The second feature's own token, raised by the first."""
    fall: float
    """Mean fall of that token's logit, less the mean over the vocabulary, when the first is ablated, on text that was
    not searched. Logits, because a probability near 1 hardly falls."""
    others: float
    """The same of the own tokens of all other features, in the mean."""


def find_edges(
    subject: Subject, dictionary: Dictionary, ids_NC: Tensor, least: float, progress: Progress | None = None
) -> list[Edge]:
    """Find edges on the first half of the blocks and keep those that the second half confirms.

    Args:
        least: fall of the logit, in nats, beyond that of other features' tokens, from which on an edge holds.
    """
    acts_NCF = _activations(subject, dictionary, ids_NC)
    half = len(ids_NC) // 2
    shares_FV = token_shares(acts_NCF.flatten(0, 1), ids_NC.flatten(), subject.vocabulary)
    strongest_F, token_F = shares_FV.max(1)
    features_S = (strongest_F >= MOSTLY).nonzero().flatten()
    token_S = token_F[features_S]
    if not len(features_S):
        return []
    searched, checked = (
        ablate(subject, dictionary, features_S, _passages(ids_NC[part], acts_NCF[part][..., features_S]), progress)
        for part in (slice(half), slice(half, None))
    )
    edges = []
    checked_SV, predicted_SV = _logit_falls(checked), _predicted(subject, ids_NC[:half], acts_NCF[:half, :, features_S])
    for row, column in _raised(_logit_falls(searched).where(predicted_SV >= PREDICTED, 0), token_S, least):
        falls_S = checked_SV[row, token_S]
        different_S = token_S != token_S[column]
        fall, others = float(falls_S[column]), float(falls_S[different_S].mean())
        if fall - others >= least:
            ends = (int(features_S[row]), int(features_S[column]), int(token_S[row]), int(token_S[column]))
            edges.append(Edge(*ends, fall, others))
    return edges


def _activations(subject: Subject, dictionary: Dictionary, ids_NC: Tensor) -> Tensor:
    """Return all features, [N, C, F]."""
    hook_point, parts = hook_point_of(dictionary), []
    for part_NC in batches(ids_NC, loss_blocks_at_once(ids_NC.shape[1], subject.vocabulary)):
        x_BD = dictionary.in_context(subject.activations(part_NC, hook_point)).flatten(0, 1)
        parts.append(active(dictionary, x_BD).view(*part_NC.shape, -1))
    return torch.cat(parts)


@torch.no_grad()
def _predicted(subject: Subject, ids_NC: Tensor, acts_NCS: Tensor) -> Tensor:
    """Return each token's mean probability as the next one, weighted by each feature's activation, [S, V]."""
    size = loss_blocks_at_once(ids_NC.shape[1], subject.vocabulary)
    sums_SV = acts_NCS.new_zeros(acts_NCS.shape[2], subject.vocabulary)
    for part_NC, part_NCS in zip(batches(ids_NC, size), batches(acts_NCS, size), strict=True):
        probs_BV = subject.logits(part_NC).float().softmax(-1).flatten(0, 1)
        sums_SV += part_NCS.flatten(0, 1).T @ probs_BV
    return sums_SV / acts_NCS.sum((0, 1)).clamp(min=1e-12)[:, None]


def _logit_falls(effects: Effects) -> Tensor:
    """Return the mean fall of each token's logit less the mean over the vocabulary, [S, V]; 0 where nothing was read.

    Log-probabilities are logits less one number for each text position, which the mean over the vocabulary has too.
    """
    falls_SV = -effects.log_probs_SV.nan_to_num(0)
    return falls_SV - falls_SV.mean(1, keepdim=True)


def _raised(falls_SV: Tensor, token_S: Tensor, least: float) -> list[tuple[int, int]]:
    """Return pairs of a feature and another one whose own token it raises."""
    pairs = []
    for row, falls_V in enumerate(falls_SV):
        raised = falls_V.topk(PROMOTED).indices
        kept = raised[falls_V[raised] >= least]
        pairs += [(row, int(column)) for column in torch.isin(token_S, kept).nonzero().flatten() if column != row]
    return pairs


def _passages(ids_NC: Tensor, acts_NCS: Tensor) -> Passages:
    """Return of each feature the whole blocks in which it is most active."""
    values_PS, rows_PS = acts_NCS.amax(1).topk(min(PASSAGES, len(ids_NC)), dim=0)
    feature_PS = torch.arange(values_PS.shape[1], device=ids_NC.device).expand_as(rows_PS)
    kept_PS = values_PS > 0
    rows_P = rows_PS[kept_PS]
    n, context = len(rows_P), ids_NC.shape[1]
    start_P = rows_P.new_zeros(n)
    full_P = rows_P.new_full((n,), context)
    return Passages(ids_NC[rows_P], full_P, start_P, full_P, feature_PS[kept_PS])


def chains(edges: Sequence[Edge]) -> list[list[Edge]]:
    """Follow the strongest edge of each feature until there is none, or a feature comes again; longest chains first.

    A chain that is the end of another one is left out.
    """
    best: dict[int, Edge] = {}
    for edge in edges:
        if edge.first not in best or edge.fall > best[edge.first].fall:
            best[edge.first] = edge
    followed = [_followed(best, start) for start in sorted(best)]
    followed.sort(key=len, reverse=True)
    kept: list[list[Edge]] = []
    for chain in followed:
        if not any(chain[0] in other for other in kept):
            kept.append(chain)
    return kept


def _followed(best: Mapping[int, Edge], start: int) -> list[Edge]:
    chain, seen = [best[start]], {start}
    while (after := best.get(chain[-1].second)) and after.first not in seen:
        chain.append(after)
        seen.add(after.first)
    return chain
