"""Writes token blocks to a folder of .npy files as they come, and opens it memory-mapped. Needs no torch.

The arrays are read from the disk where they are used, so that a corpus of any size takes little memory.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from sae.data.blocks import Blocks
from sae.data.deduplication import group_near_duplicates

GROUPS = "group_N.npy"
WRITTEN = ("ids_NC.npy", "length_N.npy", "document_N.npy")
"""What is written while the text is read: the groups are known only at its end."""
TYPE = np.dtype("<i4")


def write_grouped(parts: Iterable[Blocks], context: int, folder: Path) -> None:
    """Write blocks, then the groups of near-duplicate documents, into an empty folder. Raises OSError."""
    with ExitStack() as files:
        arrays = [_Growing(files.enter_context((folder / name).open("wb"))) for name in WRITTEN]
        arrays[0].add(np.zeros((0, context), TYPE))
        for part in parts:
            for array, rows in zip(arrays, (part.ids_NC, part.length_N, part.document_N), strict=True):
                array.add(rows)
        for array in arrays:
            array.finish()
    np.save(folder / GROUPS, group_near_duplicates(_opened(folder, WRITTEN[-1])).group_N, allow_pickle=False)


def open_blocks(folder: Path) -> Blocks:
    """Return what `write_grouped` wrote, as memory-mapped arrays, read only."""
    return _opened(folder, GROUPS)


def _opened(folder: Path, groups: str) -> Blocks:
    return Blocks(*(np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in (*WRITTEN, groups)))


class _Growing:
    """Writes a .npy file whose number of rows is known at the end; numpy leaves room for it in the header."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._n_rows, self._row_shape = 0, tuple[int, ...]()

    def add(self, rows: NDArray[np.int32]) -> None:
        if not self._file.tell():
            self._row_shape = rows.shape[1:]
            self._header()
        self._n_rows += len(rows)
        self._file.write(np.ascontiguousarray(rows, TYPE).data)

    def finish(self) -> None:
        if not self._file.tell():
            self._header()
        self._file.seek(0)
        self._header()

    def _header(self) -> None:
        header = {"shape": (self._n_rows, *self._row_shape), "fortran_order": False, "descr": TYPE.str}
        np.lib.format.write_array_header_1_0(self._file, header)
