"""Writes and reads a run's records.parquet: a row per activation record."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet

from autointerp.parquet_files import read_table
from autointerp.record_arrays import RecordArrays
from autointerp.records import ActivationRecord, FeatureId, FeatureRecord

SCHEMA = pyarrow.schema(
    [
        ("dictionary", pyarrow.string()),
        ("feature", pyarrow.int32()),
        ("split", pyarrow.string()),
        ("source", pyarrow.string()),
        ("weight", pyarrow.float64()),
        ("document", pyarrow.int32()),
        ("tokens", pyarrow.list_(pyarrow.string())),
        ("activations", pyarrow.list_(pyarrow.float32())),
    ]
)
ROWS_AT_ONCE = 2**16
"""Records written as one group."""
Sides = Mapping[tuple[FeatureId, str], Sequence[ActivationRecord]]
"""The records of each feature to explain and to score, by feature and "explain" or "score"."""


def write(path: Path, features: Sequence[FeatureRecord]) -> None:
    """Write the records of some features at a time, so that few are held as rows."""
    parts: list[pyarrow.Table] = []
    with parquet.ParquetWriter(path, SCHEMA) as writer:
        for number, feature in enumerate(features, start=1):
            parts += [_records_table(feature.id, "explain", feature.explain)]
            parts += [_records_table(feature.id, "score", feature.score)]
            if sum(map(len, parts)) >= ROWS_AT_ONCE or number == len(features):
                writer.write_table(pyarrow.concat_tables(parts).combine_chunks())
                parts = []


def read(path: Path) -> Sides:
    """Read all records. Raises UserError naming the file if it cannot be read."""
    sides: dict[tuple[FeatureId, str], list[ActivationRecord]] = {}
    for row in read_table(path, tuple(SCHEMA.names)).to_pylist():
        feature = FeatureId(row["dictionary"], row["feature"])
        tokens, activations = tuple(row["tokens"]), tuple(row["activations"])
        record = ActivationRecord(tokens, activations, row["document"], row["source"], row["weight"])
        sides.setdefault((feature, row["split"]), []).append(record)
    return sides


def _records_table(feature: FeatureId, split: str, records: Sequence[ActivationRecord]) -> pyarrow.Table:
    """Return the rows of one side of a feature; records that are arrays are not spelt out."""
    n = len(records)
    columns: list[Any] = [[feature.dictionary] * n, [feature.index] * n, [split] * n]
    if isinstance(records, RecordArrays):
        columns += [records.sources, [1.0] * n, records.document_R, *_list_columns(records)]
    else:
        names = ("source", "weight", "document", "tokens", "activations")
        columns += [[getattr(record, name) for record in records] for name in names]
    arrays = [
        column if isinstance(column, pyarrow.Array) else pyarrow.array(column, field.type)
        for column, field in zip(columns, SCHEMA, strict=True)
    ]
    return pyarrow.Table.from_arrays(arrays, schema=SCHEMA)


def _list_columns(records: RecordArrays) -> tuple[pyarrow.Array, pyarrow.Array]:
    """Return the columns of tokens and activations."""
    n, length = records.ids_RL.shape
    offsets = pyarrow.array(np.arange(n + 1, dtype=np.int32) * length)
    ids, index = np.unique(records.ids_RL, return_inverse=True)
    texts = pyarrow.array([records.vocabulary[token] for token in ids.tolist()], pyarrow.string())
    values = (texts.take(pyarrow.array(index.ravel())), pyarrow.array(records.activations_RL.ravel()))
    kinds = (SCHEMA.field(name).type for name in ("tokens", "activations"))
    tokens, activations = (
        pyarrow.ListArray.from_arrays(offsets, column, type=kind) for column, kind in zip(values, kinds, strict=True)
    )
    return tokens, activations
