"""Reads every activation of the selected features on the population: the score half, or a random part of it.

Imports torch. Shape suffixes: M fragments, L tokens of a fragment, S features, T tokens, A active tokens.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autointerp.population import Population, PopulationText
from autointerp.sampling.fragments import SCORE, Fragments
from autointerp.sampling.prepare import Prepared


def population_fragments(fragments: Fragments, tokens: int) -> NDArray[np.int64]:
    """Return the numbers of the score half's usable fragments, ascending; the lowest hashes if they are too many."""
    number_M = (fragments.usable_M & (fragments.side_M == SCORE)).nonzero().flatten()
    most = tokens // fragments.length
    if len(number_M) > most:
        number_M = number_M[fragments.rank_M[number_M].argsort()[:most]].sort().values
    return number_M.numpy()


def population_text(prepared: Prepared, fragments: Fragments, number_M: NDArray[np.int64]) -> PopulationText:
    """Return these fragments with a vocabulary of their own: tokens that read the same are one."""
    strings = prepared.subject.token_strings()
    model_ids_ML = prepared.text.ids_NC.reshape(-1, fragments.length)[number_M]
    vocabulary = tuple(sorted({strings[index] for index in np.unique(model_ids_ML).tolist()}))
    id_of = {token: index for index, token in enumerate(vocabulary)}
    table_V = np.array([id_of.get(token, -1) for token in strings], np.int32)
    return PopulationText(vocabulary, table_V[model_ids_ML], fragments.document_M[number_M].numpy().astype(np.int32))


class Census:
    """Collects the activations of one dictionary's followed features on the population, batch by batch.

    A batch is kept as one bit for every token and feature, and the active values: a third of what positions would take
    where half of them are active.
    """

    def __init__(self, text: PopulationText) -> None:
        self._text = text
        self._parts: list[_Part] = []

    def add(self, acts_MLS: Tensor) -> None:
        """Take in the activations on the population's next fragments."""
        acts_ST = acts_MLS.flatten(0, 1).T.float().contiguous()
        is_active_ST = acts_ST > 0
        end_S = is_active_ST.sum(1).cumsum(0)
        values_A = acts_ST[is_active_ST].cpu().numpy()
        bits = np.packbits(is_active_ST.cpu().numpy(), axis=1)
        self._parts.append(_Part(bits, values_A, end_S.tolist(), acts_ST.shape[1]))

    def population(self, slot: int) -> Population:
        """Return a feature's activations, by its row among the followed ones."""
        positions, values = [], []
        offset = 0
        for part in self._parts:
            positions.append(np.flatnonzero(np.unpackbits(part.bits[slot], count=part.n_tokens)) + offset)
            values.append(part.values_A[part.end_S[slot - 1] if slot else 0 : part.end_S[slot]])
            offset += part.n_tokens
        return Population(self._text, np.concatenate(positions).astype(np.int32), np.concatenate(values))


class _Part(NamedTuple):
    """Holds a batch of the population: which features are active where, and the values, feature by feature."""

    bits: NDArray[np.uint8]
    values_A: NDArray[np.float32]
    end_S: list[int]
    n_tokens: int
