"""Reads the tables of a run folder; one that is missing, damaged or another table is a UserError."""

from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet

from sae.common.errors import UserError


def read_table(path: Path, columns: tuple[str, ...]) -> pyarrow.Table:
    """Read these columns of a parquet file. Raises UserError naming the file."""
    try:
        return parquet.read_table(path, columns=list(columns))
    except (OSError, pyarrow.ArrowException, ValueError) as error:
        reason = (str(error).splitlines() or ["unknown"])[0][:200]
        raise UserError(f"cannot read {path}: {reason}; the same command with another --out starts over") from error
