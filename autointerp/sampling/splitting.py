"""Matches the features of three sizes of one dictionary on the grammar's text. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from autointerp.sampling.tasks import SIZES, Tasks, task_subject
from autointerp.statistics.plane import in_plane
from autointerp.studies import Session
from sae.dictionary import Dictionary
from sae.measuring.directions import write_directions
from sae.measuring.metrics import reconstruction
from sae.measuring.splitting import Splits, active, splits, token_shares

BLOCKS = 512
"""Blocks of text on which features are matched."""
WORDS = 3
"""Preceding tokens that are shown of a feature."""


def measure(session: Session, token: str, near: float, mostly: float) -> dict[str, Any]:
    """Match each size with the next, and describe the features of one token.

    Args:
        near: the cosine from which on a feature is a child of its nearest in the smaller size.
        mostly: the share of its activation on one token from which on a feature is of that token.
    """
    tasks = task_subject(session)
    ids_NC = tasks.ids(BLOCKS)
    x_BD = tasks.vectors(ids_NC.numel())
    sizes = [tasks.sparse[one.label] for one in SIZES]
    number = {text: index for index, text in enumerate(tasks.subject.token_strings())}[token]
    of_token = [_of_token(one, x_BD, ids_NC.flatten(), tasks.subject.vocabulary, number, mostly) for one in sizes]
    steps, graph = [], []
    matched = [splits(smaller, larger, x_BD) for smaller, larger in pairwise(sizes)]
    for (smaller, larger), match, (_, features) in zip(pairwise(sizes), matched, of_token[1:], strict=True):
        has_G = match.by_cosine_G >= 0
        step = {
            "children": match.children(near)[match.live_F].tolist(),
            "has_parent": (match.cosine_G[has_G] >= near).double().tolist(),
            "agree": (match.by_cosine_G[has_G] == match.by_firing_G[has_G]).double().tolist(),
        }
        names = {"smaller": smaller.name, "larger": larger.name}
        steps.append(names | step)
        graph += [names | _edge(tasks, match, larger, x_BD, ids_NC, one) for one in features]
    described = [
        {"name": one.name, "n_features": one.n_features, "fvu": reconstruction(one, x_BD).fvu} | counts
        for one, (counts, _) in zip(sizes, of_token, strict=True)
    ]
    drawn = _map(sizes, matched, [features for _, features in of_token], near)
    return {"steps": steps, "graph": graph, "sizes": described, "map": drawn}


def _map(
    sizes: Sequence[Dictionary], matched: Sequence[Splits], of_token: Sequence[Sequence[int]], near: float
) -> dict[str, Any]:
    """Place the active features of all sizes in a plane; `parents` and `token` number the points of a size."""
    largest = (matched[-1].by_cosine_G >= 0).nonzero().flatten().tolist()
    live = [*(match.live_F.nonzero().flatten().tolist() for match in matched), largest]
    rows_FD = torch.cat([write_directions(one)[features] for one, features in zip(sizes, live, strict=True)]).float()
    method, point_F2 = in_plane(torch.nn.functional.normalize(rows_FD).cpu().numpy())
    points = iter(point_F2.tolist())
    parents: list[list[int | None]] = [[None] * len(live[0])]
    for match, below, above in zip(matched, live, live[1:], strict=False):
        joined = zip(match.by_cosine_G[above].tolist(), match.cosine_G[above].tolist(), strict=True)
        parents.append([below.index(parent) if cosine >= near else None for parent, cosine in joined])
    drawn = [
        {"name": one.name, "points": [next(points) for _ in features], "parents": joined,
         "token": [features.index(feature) for feature in ours]}
        for one, features, joined, ours in zip(sizes, live, parents, of_token, strict=True)
    ]  # fmt: skip
    return {"method": method, "sizes": drawn}


def _of_token(
    dictionary: Dictionary, x_BD: Tensor, tokens_B: Tensor, vocabulary: int, token: int, mostly: float
) -> tuple[dict[str, int], list[int]]:
    """Count the features that are active, of one token, and of this token; and return the last."""
    shares_FV = token_shares(active(dictionary, x_BD), tokens_B, vocabulary)
    of_token_F = shares_FV[:, token] >= mostly
    single_F = shares_FV.amax(1) >= mostly
    counts = {"live": shares_FV.amax(1) > 0, "single": single_F, "token": of_token_F}
    return {name: int(mask_F.sum()) for name, mask_F in counts.items()}, of_token_F.nonzero().flatten().tolist()


def _edge(
    tasks: Tasks, match: Splits, larger: Dictionary, x_BD: Tensor, ids_NC: Tensor, feature: int
) -> dict[str, Any]:
    """Describe a feature's nearest in the smaller dictionary, and what stands before the tokens it is active on."""
    acts_NC = larger.encoder(torch.tensor([feature], device=x_BD.device))(x_BD).view_as(ids_NC)
    weight_V = acts_NC.new_zeros(tasks.subject.vocabulary).index_add_(
        0, ids_NC[:, :-1].flatten(), acts_NC[:, 1:].flatten()
    )
    texts, parent = tasks.subject.token_strings(), int(match.by_cosine_G[feature])
    before = [texts[index] for index in weight_V.argsort(descending=True)[:WORDS].tolist() if weight_V[index] > 0]
    values = {"cosine": float(match.cosine_G[feature]), "correlation": float(match.correlation_G[feature])}
    return {"child": feature, "parent": parent, "before": before} | values
