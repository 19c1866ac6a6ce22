"""Reads the tables of a run folder; one that is missing, damaged or another table is a UserError."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet

from sae.common.errors import UserError


def read_table(path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()) -> pyarrow.Table:
    """Read these columns of a parquet file, and those of the optional ones that it has. Raises UserError naming it."""
    try:
        present = set(parquet.read_schema(path).names) if optional else set()
        return parquet.read_table(path, columns=[*columns, *(name for name in optional if name in present)])
    except (OSError, pyarrow.ArrowException, ValueError) as error:
        reason = (str(error).splitlines() or ["unknown"])[0][:200]
        raise UserError(f"cannot read {path}: {reason}; the same command with another --out starts over") from error


def list_arrays(column: pyarrow.ChunkedArray) -> list[np.ndarray]:
    """Return the lists of a column as arrays that share its memory."""
    lists = pyarrow.concat_arrays(column.chunks)
    values, offsets = lists.values.to_numpy(), lists.offsets.to_numpy()
    return [values[start:end] for start, end in pairwise(offsets.tolist())]
