"""Reads every activation of the selected features on the population: the score half, or a random part of it.

Imports torch. Shape suffixes: M fragments, L tokens of a fragment, S features, T tokens, A active tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autointerp.population import Population, PopulationText
from autointerp.sampling.fragments import SCORE, Fragments, is_on
from autointerp.sampling.prepare import Prepared


def population_fragments(fragments: Fragments, tokens: int) -> NDArray[np.int64]:
    """Return the numbers of the score half's usable fragments, ascending; the lowest hashes if they are too many."""
    number_M = (fragments.usable_M & is_on(fragments.side_M, SCORE)).nonzero().flatten()
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


@dataclass(frozen=True)
class CensusPart:
    """Holds the activations of one dictionary's followed features on some consecutive tokens of the population.

    One bit for every token and feature, and the active values: a third of what positions would take where half of them
    are active.
    """

    first: int
    """The first token, counted in the population."""
    n_tokens: int
    bits: NDArray[np.uint8]
    """Which features are active where."""
    values_A: NDArray[np.float32]
    """The values, feature by feature."""
    end_S: NDArray[np.int64]
    """Where each feature's values end."""

    @classmethod
    def of(cls, acts_MLS: Tensor, first: int) -> "CensusPart":
        """Keep the activations on some fragments, of which `first` is the first token."""
        acts_ST = acts_MLS.flatten(0, 1).T.float().contiguous()
        is_active_ST = acts_ST > 0
        end_S = is_active_ST.sum(1).cumsum(0).cpu().numpy()
        values_A = acts_ST[is_active_ST].cpu().numpy()
        return cls(first, acts_ST.shape[1], np.packbits(is_active_ST.cpu().numpy(), axis=1), values_A, end_S)


def population(text: PopulationText, parts: Sequence[CensusPart], row: int) -> Population:
    """Return a feature's activations on the population, by its row among the followed ones.

    Args:
        parts: those of the whole population, in its order.
    """
    positions, values = [], []
    for part in parts:
        positions.append(np.flatnonzero(np.unpackbits(part.bits[row], count=part.n_tokens)) + part.first)
        values.append(part.values_A[part.end_S[row - 1] if row else 0 : part.end_S[row]])
    return Population(text, np.concatenate(positions).astype(np.int32), np.concatenate(values))
