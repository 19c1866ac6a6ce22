"""Holds many activation records of one length in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from autointerp.records import ActivationRecord, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class RecordArrays(Sequence[ActivationRecord]):
    """Holds records of one length in arrays, in a sixth of the memory, and makes each again whenever one is read.

    Shape suffixes: R records, L tokens of a record.
    """

    vocabulary: Sequence[str]
    """The text of every token id."""
    ids_RL: NDArray[np.int32]
    activations_RL: NDArray[np.float32]
    document_R: NDArray[np.int32]
    sources: tuple[Source, ...]

    def __len__(self) -> int:
        return len(self.sources)

    @overload
    def __getitem__(self, index: int) -> ActivationRecord: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[ActivationRecord, ...]: ...

    def __getitem__(self, index: int | slice) -> ActivationRecord | tuple[ActivationRecord, ...]:
        if isinstance(index, slice):
            return tuple(self[each] for each in range(*index.indices(len(self))))
        return ActivationRecord(
            tokens=tuple(map(self.vocabulary.__getitem__, self.ids_RL[index].tolist())),
            activations=tuple(self.activations_RL[index].tolist()),
            document=int(self.document_R[index]),
            source=self.sources[index],
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))
