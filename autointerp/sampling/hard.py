"""Draws hard records: fragments on which a feature is silent and a near feature of its dictionary is active.

An explanation that fits the near feature as well calls them active, which random silent fragments seldom show. Near
features are looked for among the dictionary's sampled ones, whose activations on the population are known: no further
pass of the model is needed. Imports torch.

Shape suffixes: S sampled features of a dictionary, F all its features, M fragments of the population, L tokens of a
fragment, D the width of a decoder row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice, zip_longest

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autointerp.config import ScoreRecords
from autointerp.population import Population
from autointerp.records import ActivationRecord, FeatureRecord

NEIGHBOURS = 5
"""Near features that the hard records of a feature come from, in turns."""
Floats = NDArray[np.float32]


def with_hard(features: Sequence[FeatureRecord], W_dec_FD: Tensor, records: ScoreRecords) -> list[FeatureRecord]:
    """Add the hard records that the config asks for to the score records of a dictionary's features.

    A feature gets fewer where there are not as many different texts, and none where no other feature is near.
    """
    populations = [feature.population for feature in features if feature.population is not None]
    if not records.hard or not populations:
        return list(features)
    max_SM = np.stack([fragment_maxima(population) for population in populations])
    by_decoder, indices = records.hard_by == "decoder", [feature.id.index for feature in features]
    unit_SX = _unit(W_dec_FD[indices].float().cpu().numpy() if by_decoder else (max_SM > 0).astype(np.float32))
    text, length = populations[0].text, populations[0].text.ids_ML.shape[1]

    def drawn(slot: int, feature: FeatureRecord) -> Iterator[ActivationRecord]:
        seen = {record.tokens for record in feature.score}
        for fragment in hard_fragments(slot, unit_SX @ unit_SX[slot], max_SM):
            tokens = text.tokens(fragment)
            if tokens not in seen:
                seen.add(tokens)
                yield ActivationRecord(tokens, (0.0,) * length, int(text.document_M[fragment]), "hard")

    return [
        replace(feature, score=(*feature.score, *islice(drawn(slot, feature), records.hard)))
        for slot, feature in enumerate(features)
    ]


def fragment_maxima(population: Population) -> Floats:
    """Return a feature's largest activation on each fragment, [M]; 0 where it is silent."""
    n_fragments, length = population.text.ids_ML.shape
    max_M = np.zeros(n_fragments, np.float32)
    np.maximum.at(max_M, population.position_A // length, population.value_A)
    return max_M


def hard_fragments(slot: int, near_S: Floats, max_SM: Floats) -> Iterator[int]:
    """List the fragments on which one feature is silent and a near one is active.

    The nearest features take turns, the nearest first; each gives its fragments from its strongest activation down.

    Args:
        slot: the feature's index among the sampled ones.
        near_S: how near each sampled feature is to it; only those above 0 count.
        max_SM: the features' largest activations on each fragment.
    """
    order = [int(other) for other in np.argsort(-near_S, kind="stable") if other != slot and near_S[other] > 0]
    silent_M = max_SM[slot] == 0
    lists = []
    for other in order[:NEIGHBOURS]:
        eligible = np.flatnonzero(silent_M & (max_SM[other] > 0))
        lists.append(eligible[np.argsort(-max_SM[other, eligible], kind="stable")].tolist())
    turns = chain.from_iterable(zip_longest(*lists))
    return (fragment for fragment in dict.fromkeys(turns) if fragment is not None)


def _unit(rows_SX: Floats) -> Floats:
    """Scale every row to length 1; a row of zeros stays one."""
    unit_SX: Floats = rows_SX / np.linalg.norm(rows_SX, axis=1, keepdims=True).clip(1e-12)
    return unit_SX
