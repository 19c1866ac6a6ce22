"""Runs the text once through the model and all dictionaries, and keeps what the selection and the records need of it.

Imports torch. Shape suffixes: N blocks, C tokens of context, D the width of what a dictionary reads, M fragments of
some blocks, P those of the population, L tokens of a fragment, S followed features, F all features of a dictionary.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autointerp.config import Config
from autointerp.population import PopulationText
from autointerp.sampling.census import Census, population_fragments, population_text
from autointerp.sampling.fragments import SIDES, Fragments
from autointerp.sampling.prepare import Prepared
from autointerp.sampling.tally import Tally
from sae.common.progress import Report
from sae.dictionary import Dictionary

ELEMENTS = {"cpu": 2**21, "cuda": 2**26}
"""Activations computed at once, by kind of device: on a CPU as many as its caches hold."""


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


class Followed:
    """Follows some features of a dictionary, and may count the active fragments of all of them."""

    def __init__(
        self, text: SampledText, dictionary: Dictionary, features_S: Tensor, counted: bool, config: Config
    ) -> None:
        device = text.prepared.subject.device
        self.tally = Tally(features_S, config, device)
        self.census = Census(text.population) if text.population else None
        self.active_fragments_F2: Tensor | None = None
        """How many fragments of each side every feature is active on; None if that is not counted."""
        if counted:
            self.active_fragments_F2 = torch.zeros((dictionary.n_features, 2), dtype=torch.int64, device=device)
        self._fragments, self._dictionary = text.fragments, dictionary
        self._is_population_M = torch.zeros(len(text.fragments.usable_M), dtype=torch.bool)
        self._is_population_M[torch.from_numpy(text.number_P)] = True
        self._encode = dictionary.encode if counted else dictionary.encoder(self.tally.features_S)
        self._width = dictionary.n_features if counted or dictionary.encodes_jointly else len(features_S)

    def add(self, acts: Mapping[str, Tensor], number_M: Tensor) -> None:
        """Take in whole blocks, some at a time.

        Args:
            acts: by hook point, [M, L, D].
            number_M: the numbers of all fragments of the blocks, ascending.
        """
        parts = [acts[hook_point] for hook_point in self._dictionary.reads]
        acts_MLD = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        per_block, length = self._fragments.per_block, self._fragments.length
        elements = ELEMENTS.get(acts_MLD.device.type, ELEMENTS["cpu"])
        n_blocks = max(1, elements // (per_block * length * self._width))
        for part_MLD, part_M in zip(
            acts_MLD.split(n_blocks * per_block), number_M.split(n_blocks * per_block), strict=True
        ):
            usable_M = self._fragments.usable_M[part_M]
            if usable_M.any():
                self._take(part_MLD[usable_M], part_M[usable_M])

    def _take(self, acts_MLD: Tensor, number_M: Tensor) -> None:
        acts_MLS = self._encode(acts_MLD.flatten(0, 1)).unflatten(0, acts_MLD.shape[:2])
        if self.active_fragments_F2 is not None:
            is_active_MF = acts_MLS.amax(1) > 0
            for side in range(len(SIDES)):
                self.active_fragments_F2[:, side] += is_active_MF[self._fragments.side_M[number_M] == side].sum(0)
            acts_MLS = acts_MLS[:, :, self.tally.features_S]
        self.tally.add(acts_MLS, number_M, self._fragments)
        is_population_M = self._is_population_M[number_M]
        if self.census and is_population_M.any():
            self.census.add(acts_MLS[is_population_M])


@torch.no_grad()
def follow(
    text: SampledText, features: Mapping[int, Tensor], counted: frozenset[int], config: Config, report: Report
) -> dict[int, Followed]:
    """Run the model once over all blocks.

    Args:
        features: the features to follow, by the dictionary's index among the prepared ones.
        counted: the dictionaries of which all features' active fragments are counted as well.
    """
    prepared, fragments = text.prepared, text.fragments
    subject, ids_NC = prepared.subject, torch.from_numpy(prepared.text.ids_NC)
    followed = {
        i: Followed(text, prepared.dictionaries[i].dictionary, features_S, i in counted, config)
        for i, features_S in features.items()
    }
    with report(f"sampling {len(followed)} dictionaries (tokens)") as progress:
        for start in range(0, len(ids_NC), config.runtime.batch_blocks):
            part_NC = ids_NC[start : start + config.runtime.batch_blocks].long().to(subject.device)
            number_M = torch.arange(start * fragments.per_block, (start + len(part_NC)) * fragments.per_block)
            acts = {
                name: acts_NCD.reshape(-1, fragments.length, acts_NCD.shape[-1])
                for name, acts_NCD in subject.activations_at(part_NC, prepared.hook_points).items()
            }
            for one in followed.values():
                one.add(acts, number_M)
            progress.update((start + len(part_NC)) * ids_NC.shape[1], ids_NC.numel())
    return followed
