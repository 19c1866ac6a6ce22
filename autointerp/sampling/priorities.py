"""Decides which fragments are kept: every scheme is "the largest keys", so one streaming top-n serves them all.

A key is a non-negative float per (feature, fragment); 0 means not eligible. Keys depend on the activation's maximum
and on a hash of seed, feature, document and position, never on batches or order. Imports torch, nothing else of ours.

Shape suffixes: S features, N fragments of a batch, K kept.
"""

from collections.abc import Callable

import torch
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


class StreamingTop:
    """Keeps, per feature, the fragments with the largest keys seen so far; ties go to the lower rank of their hashes.

    Key and rank share one int64 (the float's bits above, the complement of the rank below), so that the order is total
    and the result is the same whatever the batches and their order.
    """

    def __init__(self, n_features: int, keep: int, device: torch.device | str = "cpu") -> None:
        self._packed_SK = torch.zeros((n_features, keep), dtype=torch.int64, device=device)
        self._fragment_SK = torch.zeros((n_features, keep), dtype=torch.int64, device=device)
        self._max_SK = torch.zeros((n_features, keep), dtype=torch.float32, device=device)

    def add(self, key_SN: Tensor, max_SN: Tensor, fragment_N: Tensor, rank_N: Tensor) -> None:
        """Take in a batch.

        Args:
            key_SN, max_SN: keys and maxima, float32 [S, N].
            fragment_N: the fragments' numbers. rank_N: distinct numbers below 2^32 that break ties, the lowest first.
        """
        bits_SN = key_SN.contiguous().view(torch.int32).long() << _RANK_BITS
        packed_SN = torch.where(key_SN > 0, bits_SN | (_LARGEST_RANK - rank_N), 0)
        best = torch.cat([self._packed_SK, packed_SN], 1).topk(self._packed_SK.shape[1], dim=1)
        self._packed_SK = best.values
        self._fragment_SK = torch.cat([self._fragment_SK, fragment_N.expand_as(packed_SN)], 1).gather(1, best.indices)
        self._max_SK = torch.cat([self._max_SK, max_SN], 1).gather(1, best.indices)

    def kept(self, feature: int) -> list[tuple[int, float]]:
        """Return (fragment, its maximum) of one feature by its row here, largest key first."""
        columns = (self._packed_SK[feature], self._fragment_SK[feature], self._max_SK[feature])
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [(fragment, highest) for packed, fragment, highest in rows if packed]
