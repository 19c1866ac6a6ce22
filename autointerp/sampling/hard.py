"""Draws hard records: fragments on which a feature is silent though an explanation may well fit them.

Either a near feature of its dictionary is active on them: an explanation that fits the near feature as well calls them
active, which random silent fragments seldom show. Near features are looked for among the dictionary's sampled ones,
whose activations on the population are known: no further pass of the model is needed. Or their texts are, by sentence
embedding, near to texts on which the feature is active (as delphi's hard negatives by similarity). Imports torch.

Shape suffixes: S sampled features of a dictionary, F all its features, M fragments of the population, L tokens of a
fragment, D the width of a decoder row or of an embedding, T different texts, E examples, N silent fragments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autointerp.population import Population, PopulationText
from autointerp.prompting import render
from autointerp.records import ActivationRecord, FeatureRecord
from autointerp.sampling import Embed
from autointerp.sections import ScoreRecords

NEIGHBOURS = 5
"""Near features that the hard records of a feature come from, in turns."""
EXAMPLES = 10
"""A feature's strongest fragments, to whose texts hard records by embedding are near (delphi)."""
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EmbeddedText:
    """Holds the sentence embeddings of the population's fragments, those that read the same under one index."""

    vectors_TD: NDArray[np.float64]
    text_M: NDArray[np.int64]
    """Index of each fragment's text."""

    @staticmethod
    def of(text: PopulationText, embed: Embed) -> EmbeddedText:
        """Embed every different text once."""
        plain = [render.plain(text.tokens(fragment)) for fragment in range(len(text.ids_ML))]
        index_of = {one: index for index, one in enumerate(dict.fromkeys(plain))}
        return EmbeddedText(embed(list(index_of)), np.array([index_of[one] for one in plain]))


def with_hard(
    features: Sequence[FeatureRecord], W_dec_FD: Tensor, records: ScoreRecords, embedded: EmbeddedText | None = None
) -> list[FeatureRecord]:
    """Add the hard records that the config asks for to the score records of a dictionary's features.

    A feature gets fewer where there are not as many different texts, and none where no other feature is near.

    Args:
        embedded: the population's embeddings, for hard_by=embedding, which needs them.
    """
    populations = [feature.population for feature in features if feature.population is not None]
    if not records.hard or not populations:
        return list(features)
    max_SM = np.stack([fragment_maxima(population) for population in populations])
    orders: Iterable[Iterator[int]]
    if records.embeds:
        assert embedded is not None, "the population was not embedded"
        orders = (similar_fragments(max_M, embedded) for max_M in max_SM)
    else:
        unit_SX = _unit(_rows(features, W_dec_FD) if records.hard_by == "decoder" else (max_SM > 0).astype(np.float32))
        orders = (hard_fragments(slot, unit_SX @ unit_X, max_SM) for slot, unit_X in enumerate(unit_SX))
    text, length = populations[0].text, populations[0].text.ids_ML.shape[1]

    def drawn(feature: FeatureRecord, order: Iterable[int]) -> Iterator[ActivationRecord]:
        seen = {record.tokens for record in feature.score}
        for fragment in order:
            tokens = text.tokens(fragment)
            if tokens not in seen:
                seen.add(tokens)
                yield ActivationRecord(tokens, (0.0,) * length, int(text.document_M[fragment]), "hard")

    return [
        replace(feature, score=(*feature.score, *islice(drawn(feature, order), records.hard)))
        for feature, order in zip(features, orders, strict=True)
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
    return _in_turns(lists)


def similar_fragments(max_M: Floats, embedded: EmbeddedText) -> Iterator[int]:
    """List the fragments on which a feature is silent by how near their texts are to those of its strongest fragments.

    The strongest fragments take turns, the strongest first; each gives the silent ones, the nearest first. A silent
    fragment that reads like an active one (only the text before it differs) is left out: no judge could tell.
    """
    active = np.flatnonzero(max_M > 0)
    silent = np.flatnonzero((max_M == 0) & ~np.isin(embedded.text_M, embedded.text_M[active]))
    strongest = active[np.argsort(-max_M[active], kind="stable")[:EXAMPLES]]
    vectors_ED, vectors_ND = (embedded.vectors_TD[embedded.text_M[rows]] for rows in (strongest, silent))
    order_EN = np.argsort(-(vectors_ED @ vectors_ND.T), axis=1, kind="stable")
    return _in_turns(silent[order_EN].tolist())


def _in_turns(lists: Sequence[Sequence[int]]) -> Iterator[int]:
    """Take the first of every list, then the second of every list, and so on; each fragment once."""
    turns = chain.from_iterable(zip_longest(*lists))
    return (fragment for fragment in dict.fromkeys(turns) if fragment is not None)


def _rows(features: Sequence[FeatureRecord], W_dec_FD: Tensor) -> Floats:
    """Return the features' rows of the decoder, [S, D]."""
    rows_SD: Floats = W_dec_FD[[feature.id.index for feature in features]].float().cpu().numpy()
    return rows_SD


def _unit(rows_SX: Floats) -> Floats:
    """Scale every row to length 1; a row of zeros stays one."""
    unit_SX: Floats = rows_SX / np.linalg.norm(rows_SX, axis=1, keepdims=True).clip(1e-12)
    return unit_SX
