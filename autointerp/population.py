"""Holds the population that scores are about: every token of the score half, with a feature's activation at each.

Shape suffixes: M fragments, L tokens of a fragment, A active tokens, V different tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PopulationText:
    """Holds the fragments of the score half, or a random part of them, as token ids of a vocabulary of its own."""

    vocabulary: tuple[str, ...]
    """Every different token of the text, once."""
    ids_ML: NDArray[np.int32]
    document_M: NDArray[np.int32]
    """Index of each fragment's document in the corpus."""

    @cached_property
    def id_of(self) -> dict[str, int]:
        """Look up a token's id."""
        return {token: index for index, token in enumerate(self.vocabulary)}

    @cached_property
    def documents(self) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        """List the documents, ascending and each once, with every fragment's index among them."""
        document_D, index_M = np.unique(self.document_M.astype(np.int64), return_inverse=True)
        return document_D, index_M

    @cached_property
    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sort the pairs of neighbouring tokens: their codes (first id * V + second id), and the second's positions."""
        first_T, second_T = self.ids_ML[:, :-1].ravel().astype(np.int64), self.ids_ML[:, 1:].ravel()
        position_T = np.arange(self.ids_ML.size).reshape(self.ids_ML.shape)[:, 1:].ravel()
        code_T = first_T * len(self.vocabulary) + second_T
        order = np.argsort(code_T, kind="stable")
        return code_T[order], position_T[order]

    def tokens(self, fragment: int) -> tuple[str, ...]:
        """Return a fragment's tokens."""
        return tuple(self.vocabulary[index] for index in self.ids_ML[fragment].tolist())


@dataclass(frozen=True, eq=False)
class Population:
    """Holds one feature's activations on a text; tokens that are not listed have activation 0."""

    text: PopulationText
    position_A: NDArray[np.int32]
    """Fragment * L + position in it, ascending."""
    value_A: Floats

    @property
    def acts_ML(self) -> Floats:
        """Spell out the activation of every token."""
        acts_T = np.zeros(self.text.ids_ML.size, np.float32)
        acts_T[self.position_A] = self.value_A
        return acts_T.reshape(self.text.ids_ML.shape)
