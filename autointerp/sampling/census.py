"""Reads every activation of the selected features on the population: the score half, or a random part of it.

Imports torch. Shape suffixes: M fragments, L tokens of a fragment, S features, A active tokens.
"""

import numpy as np
import torch
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
    """Collects the activations of one dictionary's selected features on the population, batch by batch."""

    def __init__(self, text: PopulationText) -> None:
        self._text = text
        self._parts: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]] = []
        self._n_tokens = 0

    def add(self, acts_MLS: Tensor) -> None:
        """Take in the activations on the population's next fragments."""
        acts_TS = acts_MLS.flatten(0, 1)
        position_A, slot_A = acts_TS.nonzero(as_tuple=True)
        offset = self._n_tokens
        self._n_tokens += len(acts_TS)
        self._parts.append(
            (
                (position_A + offset).to(torch.int32).cpu().numpy(),
                slot_A.to(torch.int32).cpu().numpy(),
                acts_TS[position_A, slot_A].float().cpu().numpy(),
            )
        )

    def populations(self, n_features: int) -> list[Population]:
        """Return each feature's activations, by its row among the selected ones."""
        position_A, slot_A, value_A = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        order = np.argsort(slot_A, kind="stable")  # positions stay ascending within a feature
        ends = np.searchsorted(slot_A[order], np.arange(1, n_features))
        columns = (np.split(column[order], ends) for column in (position_A, value_A))
        return [Population(self._text, *pair) for pair in zip(*columns, strict=True)]
