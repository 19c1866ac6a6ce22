"""Decides which fragments are kept: every scheme is "the largest keys", so one streaming top-n serves them all.

A key is a non-negative float per (feature, fragment); 0 means not eligible. Keys depend on the activation's maximum
and on a hash of seed, feature, document and position, never on batches or order. Imports torch, nothing else of ours.

Shape suffixes: S features, N fragments of a batch, K kept, P entries that may be kept, W of them of one feature, X kept
and new ones (or those of two texts) together, R entries that are replaced, L tokens of a record.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autointerp.records import Source
from sae.common.seeds import derive_seed

_RANK_BITS = 32
_LARGEST_RANK = 2**_RANK_BITS - 1


def mix(x: Tensor) -> Tensor:
    """Apply the splitmix64 finaliser to int64 (Steele et al. 2014): a bijection whose every output bit looks random."""
    x = (x ^ _shift(x, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ _shift(x, 27)) * (0x94D049BB133111EB - 2**64)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift int64 to the right, logically (not arithmetically)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def fragment_hash(seed: int, document_N: Tensor, position_N: Tensor) -> Tensor:
    """Return a hash of seed, document and position in it, int64 [N]."""
    start = torch.tensor(derive_seed(seed, "fragments"), dtype=torch.int64, device=document_N.device)
    return mix(mix(start ^ document_N.long()) ^ position_N.long())


def uniform(hash_N: Tensor, feature_S: Tensor, salt: int) -> Tensor:
    """Return numbers in (0, 1], float32 [S, N], independent between features, fragments and salts."""
    mixed_SN = mix(hash_N[None, :] ^ mix(feature_S.long() * 16 + salt + 1)[:, None])
    return (_shift(mixed_SN, 40) + 1).float() / 2**24


def key_top(max_SN: Tensor, uniform_SN: Tensor) -> Tensor:
    """Return the largest maxima."""
    return max_SN


def key_active(max_SN: Tensor, uniform_SN: Tensor) -> Tensor:
    """Return a uniform sample of the active fragments: the reservoir that quantiles are cut from."""
    return uniform_SN * (max_SN > 0)


def key_importance(max_SN: Tensor, uniform_SN: Tensor) -> Tensor:
    """Return a sample without replacement, weights the squared maxima (Efraimidis & Spirakis 2006)."""
    exponential_SN = (-uniform_SN.double().log()).clamp_min(1e-9)
    return (max_SN.double().square() / exponential_SN).float()


def key_random(max_SN: Tensor, uniform_SN: Tensor) -> Tensor:
    """Return a uniform sample of all fragments, active or not."""
    return uniform_SN


def key_inactive(max_SN: Tensor, uniform_SN: Tensor) -> Tensor:
    """Return a uniform sample of the fragments on which the feature is silent at every token."""
    return uniform_SN * (max_SN == 0)


KEYS: dict[Source, Callable[[Tensor, Tensor], Tensor]] = {
    "top": key_top,
    "quantile": key_active,
    "importance": key_importance,
    "random": key_random,
    "inactive": key_inactive,
}
"""Key function of each source, in the order in which records are selected: a later source does not take a fragment
that an earlier one has taken."""


@dataclass(frozen=True)
class Entries:
    """Holds fragments of features, one entry per feature and fragment, in tensors of one length."""

    packed: Tensor
    """Key and rank, int64."""
    fragment: Tensor
    """The fragments' numbers."""
    highest: Tensor
    """The feature's largest activation on the fragment."""
    start: Tensor
    """Where the record begins, counted in the tokens of all blocks."""
    values: Tensor
    """The activations of the record's tokens, [..., L]; L is 0 where they are known to be zeros."""

    @classmethod
    def empty(cls, shape: tuple[int, ...], length: int, device: torch.device | str) -> "Entries":
        """Return entries whose packed key is 0: none."""
        packed, fragment, start = (torch.zeros(shape, dtype=torch.int64, device=device) for _ in range(3))
        highest, values = torch.zeros(shape, device=device), torch.zeros((*shape, length), device=device)
        return cls(packed, fragment, highest, start, values)

    def columns(self) -> tuple[Tensor, ...]:
        """Return the tensors in the fields' order."""
        return self.packed, self.fragment, self.highest, self.start, self.values


@dataclass(frozen=True)
class Kept:
    """Holds what is kept of one feature: `fragment_K` and `highest_K` from the largest key down, the rest in rows that
    are read where they are needed.
    """

    row_K: NDArray[np.int64]
    """The row of each fragment in `start_K` and `values_KL`."""
    fragment_K: NDArray[np.int64]
    highest_K: NDArray[np.float32]
    start_K: NDArray[np.int64]
    values_KL: NDArray[np.float32]


@dataclass(frozen=True)
class Largest:
    """Holds, per feature, the fragments of some text with the largest keys, in any order; fields as in `Entries`."""

    packed_SK: NDArray[np.int64]
    """Key and rank; 0: no fragment."""
    fragment_SK: NDArray[np.int64]
    highest_SK: NDArray[np.float32]
    start_SK: NDArray[np.int64]
    values_SKL: NDArray[np.float32]

    def kept(self, feature: int) -> Kept:
        """Return what is kept of one feature by its row here, largest key first."""
        packed_K = self.packed_SK[feature]
        order_K = np.argsort(-packed_K)[: np.count_nonzero(packed_K)]
        fragment_K, highest_K = self.fragment_SK[feature, order_K], self.highest_SK[feature, order_K]
        return Kept(order_K, fragment_K, highest_K, self.start_SK[feature], self.values_SKL[feature])

    def moved(self, fragments: int, tokens: int) -> "Largest":
        """Return the same with the numbers of fragments and tokens that a text has inside a longer one."""
        return replace(self, fragment_SK=self.fragment_SK + fragments, start_SK=self.start_SK + tokens)

    def merged(self, other: "Largest") -> "Largest":
        """Return the largest of two texts' fragments: associative and, but for the order, commutative."""
        keep = self.packed_SK.shape[1]
        packed_SX = np.concatenate([self.packed_SK, other.packed_SK], 1)
        stays_SX = np.zeros(packed_SX.shape, np.bool_)
        np.put_along_axis(stays_SX, np.argpartition(packed_SX, keep, 1)[:, keep:], True, 1)
        row_R, free_R = np.nonzero(~stays_SX[:, :keep])  # as many of each feature as there are winners
        winner_R, column_R = np.nonzero(stays_SX[:, keep:])
        columns = [values.copy() for values in vars(self).values()]
        for values, others in zip(columns, vars(other).values(), strict=True):
            values[row_R, free_R] = others[winner_R, column_R]
        return Largest(*columns)


Read = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From entries' features and columns in the batch, [P] each: where their records begin, [P], and the activations of
their tokens, [P, L]."""
WAITING_ENTRIES, WAITING_FRAGMENTS = 2**16, 1024
"""Before more than so many entries wait, or after so many fragments since the last merge, those that wait are merged.
Memory for them is held from the beginning: what is freed in between other tensors could not be used again."""


class StreamingTop:
    """Keeps, per feature, the fragments with the largest keys seen so far; ties go to the lower rank of their hashes.

    Key and rank share one int64 (the float's bits above, the complement of the rank below), so that the order is total
    and the result is the same whatever the batches and their order. Fragments whose key is below all keys that are kept
    cost one comparison; the others wait, with their activations, until they are merged into what is kept.
    """

    def __init__(self, n_features: int, keep: int, length: int = 0, device: torch.device | str = "cpu") -> None:
        self._kept_SK = Entries.empty((n_features, keep), length, device)
        self._waiting_P = Entries.empty((WAITING_ENTRIES,), length, device)
        self._waiting_slot_P = torch.zeros(WAITING_ENTRIES, dtype=torch.int64, device=device)
        self._least_S = torch.zeros(n_features, device=device)
        self._n_waiting = self._n_fragments = 0

    def add(self, key_SN: Tensor, max_SN: Tensor, fragment_N: Tensor, rank_N: Tensor, read: Read) -> None:
        """Take in a batch.

        Args:
            key_SN, max_SN: keys and maxima, float32 [S, N].
            fragment_N: the fragments' numbers. rank_N: distinct numbers below 2^32 that break ties, the lowest first.
            read: reads the activations of those that may be kept.
        """
        least_S1 = self._least_S.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
        entries_P2 = (key_SN >= least_S1).nonzero()
        self._n_fragments += len(fragment_N)
        for slot_P, column_P in (part_P2.unbind(1) for part_P2 in entries_P2.split(WAITING_ENTRIES)):
            if self._n_waiting + len(slot_P) > WAITING_ENTRIES or self._n_fragments > WAITING_FRAGMENTS:
                self._merge()
            bits_P = key_SN[slot_P, column_P].view(torch.int32).long() << _RANK_BITS
            packed_P = bits_P | (_LARGEST_RANK - rank_N[column_P])
            new = Entries(packed_P, fragment_N[column_P], max_SN[slot_P, column_P], *read(slot_P, column_P))
            rows = slice(self._n_waiting, self._n_waiting + len(slot_P))
            self._waiting_slot_P[rows] = slot_P
            for column, values in zip(self._waiting_P.columns(), new.columns(), strict=True):
                column[rows] = values
            self._n_waiting = rows.stop

    def largest(self) -> Largest:
        """Return what is kept of the fragments seen so far; more of them change its arrays."""
        self._merge()
        return Largest(*(values.cpu().numpy() for values in self._kept_SK.columns()))

    def _merge(self) -> None:
        """Put entries that wait in the place of those that are no longer among the largest of their feature."""
        kept, slot_P = self._kept_SK, self._waiting_slot_P[: self._n_waiting]
        self._n_waiting = self._n_fragments = 0
        if not len(slot_P):
            return
        n_features, keep = kept.packed.shape
        order_P = slot_P.argsort(stable=True)
        slot_P, count_S = slot_P[order_P], slot_P.bincount(minlength=n_features)
        first_S = count_S.cumsum(0) - count_S
        column_P = torch.arange(len(slot_P), device=slot_P.device) - first_S[slot_P]
        packed_SW = kept.packed.new_full((n_features, int(count_S.max())), -1)  # -1: no entry, below an empty one's 0
        packed_SW[slot_P, column_P] = self._waiting_P.packed[order_P]
        packed_SX = torch.cat([kept.packed, packed_SW], 1)
        largest_SK = packed_SX.topk(keep, dim=1, sorted=False).indices
        stays_SX = torch.zeros_like(packed_SX, dtype=torch.bool).scatter_(1, largest_SK, True)
        row_R, free_R = (~stays_SX[:, :keep]).nonzero(as_tuple=True)  # as many of each feature as there are winners
        winner_R, column_R = stays_SX[:, keep:].nonzero(as_tuple=True)
        taken_R = order_P[first_S[winner_R] + column_R]
        for column, values in zip(kept.columns(), self._waiting_P.columns(), strict=True):
            column[row_R, free_R] = values[taken_R]
        self._least_S = (kept.packed.amin(1) >> _RANK_BITS).int().view(torch.float32)
