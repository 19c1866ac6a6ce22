"""Divides the text of a run into shards: consecutive blocks with all that sampling needs to know of their fragments.

A shard is read like a text of its own; what was kept of it is then numbered as in the whole text. Imports torch.

Shape suffixes: N blocks, C tokens of context, M fragments, P those of the population.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autointerp.config import Config
from autointerp.population import PopulationText
from autointerp.sampling.census import population_fragments, population_text
from autointerp.sampling.fragments import Fragments
from autointerp.sampling.prepare import Prepared


@dataclass(frozen=True)
class Shard:
    """Holds some consecutive blocks of a text."""

    first_block: int
    ids_NC: NDArray[np.int32]
    fragments: Fragments
    """The fragments of these blocks alone, numbered from 0."""
    is_population_M: Tensor
    """Which of them belong to the population."""
    first_population_token: int
    """Tokens of the population that come before this shard."""


@dataclass(frozen=True)
class SampledText:
    """Holds the text of a run as sampling reads it, the same in every pass."""

    prepared: Prepared
    fragments: Fragments
    number_P: NDArray[np.int64]
    """The fragments of the population, ascending."""
    population: PopulationText | None

    @classmethod
    def of(cls, prepared: Prepared, fragments: Fragments, config: Config) -> "SampledText":
        """Choose the population."""
        number_P = population_fragments(fragments, config.sampling.population)
        population = population_text(prepared, fragments, number_P) if len(number_P) else None
        return cls(prepared, fragments, number_P, population)

    @property
    def n_blocks(self) -> int:
        """Return how many blocks the text has."""
        return len(self.prepared.text.ids_NC)

    def shard(self, start: int, stop: int) -> Shard:
        """Return the blocks from `start` to `stop`."""
        per_block = self.fragments.per_block
        first, end = np.searchsorted(self.number_P, (start * per_block, stop * per_block)).tolist()
        is_population_M = torch.zeros((stop - start) * per_block, dtype=torch.bool)
        is_population_M[torch.from_numpy(self.number_P[first:end]) - start * per_block] = True
        ids_NC, fragments = np.asarray(self.prepared.text.ids_NC[start:stop]), self.fragments.of_blocks(start, stop)
        return Shard(start, ids_NC, fragments, is_population_M, first * self.fragments.length)


def boundaries(n_blocks: int, at_once: int, n_shards: int) -> list[tuple[int, int]]:
    """Return where each of at most `n_shards` shards begins and ends, in blocks.

    Each begins with a batch of `at_once` blocks: the model then computes the same batches as for the undivided text,
    and the same activations to the last bit.
    """
    n_batches = -(-n_blocks // at_once)
    n_shards = max(1, min(n_shards, n_batches))
    cuts = [min(n_batches * i // n_shards * at_once, n_blocks) for i in range(n_shards + 1)]
    return list(pairwise(cuts))
