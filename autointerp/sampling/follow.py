"""Runs a shard of the text through the model and all dictionaries, and keeps what selection and records need of it.

Imports torch. Shape suffixes: N blocks, C tokens of context, D the width of what a dictionary reads, M fragments of
some blocks, L tokens of a fragment, S followed features, F all features of a dictionary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autointerp.config import Config
from autointerp.sampling.census import CensusPart
from autointerp.sampling.fragments import SIDES, is_on
from autointerp.sampling.shards import Shard
from autointerp.sampling.tally import Tallied, Tally
from sae.dictionary import Dictionary
from sae.models.subject import Subject

ELEMENTS = {"cpu": 2**21, "cuda": 2**26}
"""Activations computed at once, by kind of device: on a CPU as many as its caches hold."""


@dataclass(frozen=True)
class Pass:
    """Says what one pass over the text follows."""

    features: Mapping[int, NDArray[np.int64]]
    """The features to follow, by the dictionary's index among the prepared ones."""
    counted: frozenset[int] = frozenset()
    """The dictionaries of which all features' active fragments are counted as well."""


@dataclass(frozen=True)
class Followed:
    """Holds what one pass over some text says of a dictionary; that of another text can be merged with it."""

    tally: Tallied
    census: tuple[CensusPart, ...]
    """What the text has of the population, in its order."""
    active_fragments_F2: NDArray[np.int64] | None
    """How many fragments of each side every feature is active on; None if that is not counted."""

    def merged(self, other: "Followed") -> "Followed":
        """Return what two texts together say: associative and commutative."""
        counts = self.active_fragments_F2
        if counts is not None and other.active_fragments_F2 is not None:
            counts = counts + other.active_fragments_F2
        census = sorted((*self.census, *other.census), key=lambda part: part.first)
        return Followed(self.tally.merged(other.tally), tuple(census), counts)


def merged(one: Mapping[int, Followed], other: Mapping[int, Followed]) -> dict[int, Followed]:
    """Merge what two texts say of the same dictionaries."""
    return {i: followed.merged(other[i]) for i, followed in one.items()}


Done = Callable[[int, Callable[[], dict[int, Followed]]], None]


@dataclass(frozen=True)
class Reader:
    """Reads shards: holds the model, the dictionaries and how to sample."""

    subject: Subject
    dictionaries: Sequence[Dictionary]
    config: Config

    @torch.no_grad()
    def read(self, shard: Shard, one: Pass, done: Done) -> dict[int, Followed]:
        """Run the model over the shard's blocks, and return what they say, by the dictionary's index.

        Args:
            done: receives the number of blocks that have been read, batch after batch, and a function that returns what
                they say; it has to be used before the next batch.
        """
        device, at_once, fragments = self.subject.device, self.config.runtime.batch_blocks, shard.fragments
        hook_points = tuple(dict.fromkeys(name for dictionary in self.dictionaries for name in dictionary.reads))
        followers = {
            i: Follower(shard, self.dictionaries[i], features_S, i in one.counted, self.config, device)
            for i, features_S in one.features.items()
        }

        def now() -> dict[int, Followed]:
            return {i: follower.followed() for i, follower in followers.items()}

        for start in range(0, len(shard.ids_NC), at_once):
            part_NC = torch.from_numpy(shard.ids_NC[start : start + at_once].astype(np.int64)).to(device)
            number_M = torch.arange(start * fragments.per_block, (start + len(part_NC)) * fragments.per_block)
            acts = {
                name: acts_NCD.reshape(-1, fragments.length, acts_NCD.shape[-1])
                for name, acts_NCD in self.subject.activations_at(part_NC, hook_points).items()
            }
            for follower in followers.values():
                follower.add(acts, number_M)
            done(start + len(part_NC), now)
        return now()


class Follower:
    """Follows some features of a dictionary on a shard, and may count the active fragments of all of them."""

    def __init__(
        self,
        shard: Shard,
        dictionary: Dictionary,
        features_S: NDArray[np.int64],
        counted: bool,
        config: Config,
        device: str,
    ) -> None:
        self._tally = Tally(features_S, config, device)
        self._census: list[CensusPart] = []
        self._next_population_token = shard.first_population_token
        self._active_fragments_F2: Tensor | None = None
        if counted:
            self._active_fragments_F2 = torch.zeros((dictionary.n_features, 2), dtype=torch.int64, device=device)
        self._shard, self._fragments, self._dictionary = shard, shard.fragments, dictionary
        self._takes_all = counted and dictionary.encodes_jointly
        self._encode = dictionary.encode if self._takes_all else dictionary.encoder(self._tally.features_S)
        self._width = dictionary.n_features if dictionary.encodes_jointly else len(features_S)

    def add(self, acts: Mapping[str, Tensor], number_M: Tensor) -> None:
        """Take in whole blocks, some at a time, in the shard's order.

        Args:
            acts: by hook point, [M, L, D].
            number_M: the numbers of all fragments of the blocks, ascending.
        """
        parts = [acts[hook_point] for hook_point in self._dictionary.reads]
        acts_MLD = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        per_block, length = self._fragments.per_block, self._fragments.length
        n_blocks = _at_once(acts_MLD, per_block * length * self._width)
        for part_MLD, part_M in zip(
            acts_MLD.split(n_blocks * per_block), number_M.split(n_blocks * per_block), strict=True
        ):
            usable_M = self._fragments.usable_M[part_M]
            if usable_M.any():
                blocks_NCD = part_MLD.unflatten(0, (-1, per_block)).flatten(1, 2)
                encoded_MLD = self._dictionary.in_context(blocks_NCD).reshape(len(part_MLD), length, -1)
                self._take(encoded_MLD[usable_M], part_M[usable_M])

    def followed(self) -> Followed:
        """Return what the blocks seen so far say, numbered as in the whole text; more blocks change its arrays."""
        first = self._shard.first_block * self._fragments.per_block
        tallied = self._tally.tallied().moved(first, first * self._fragments.length)
        counts = None if self._active_fragments_F2 is None else self._active_fragments_F2.cpu().numpy()
        return Followed(tallied, tuple(self._census), counts)

    def _take(self, acts_MLD: Tensor, number_M: Tensor) -> None:
        acts_MLS = self._encode(acts_MLD.flatten(0, 1)).unflatten(0, acts_MLD.shape[:2])
        if self._active_fragments_F2 is not None:
            side_M = self._fragments.side_M[number_M]
            counts_F2 = count_active(acts_MLS, side_M) if self._takes_all else self._counts(acts_MLD, side_M)
            self._active_fragments_F2 += counts_F2
        if self._takes_all:
            acts_MLS = acts_MLS[:, :, self._tally.features_S]
        self._tally.add(acts_MLS, number_M, self._fragments)
        is_population_M = self._shard.is_population_M[number_M]
        if is_population_M.any():
            part = CensusPart.of(acts_MLS[is_population_M], self._next_population_token)
            self._census.append(part)
            self._next_population_token += part.n_tokens

    def _counts(self, acts_MLD: Tensor, side_M: Tensor) -> Tensor:
        """Count the active fragments of all features, [F, 2], which do not depend on each other: some at a time."""
        x_BD, features_F = acts_MLD.flatten(0, 1), torch.arange(self._dictionary.n_features, device=acts_MLD.device)
        encoders = map(self._dictionary.encoder, features_F.split(_at_once(acts_MLD, len(x_BD))))
        return torch.cat([count_active(encode(x_BD).unflatten(0, acts_MLD.shape[:2]), side_M) for encode in encoders])


def _at_once(like: Tensor, elements: int) -> int:
    """Return how many times so many activations are computed at once, at least once."""
    return max(1, ELEMENTS.get(like.device.type, ELEMENTS["cpu"]) // elements)


def count_active(acts_MLF: Tensor, side_M: Tensor) -> Tensor:
    """Count the fragments of each side on which each feature is active, [F, 2]."""
    is_active_MF = acts_MLF.amax(1) > 0
    return torch.stack([is_active_MF[is_on(side_M, side)].sum(0) for side in range(len(SIDES))], 1)
