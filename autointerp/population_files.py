"""Writes and reads a run's population: population_text.parquet, a row per fragment; population.parquet, per feature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet

from autointerp.parquet_files import list_arrays, read_table
from autointerp.population import Population, PopulationText
from autointerp.records import FeatureId, FeatureRecord
from sae.common.files import write_atomic_with

TEXT, ACTIVATIONS = "population_text.parquet", "population.parquet"
ROWS_AT_ONCE = 64
"""Features written as one group, so that few are held twice."""


def write(folder: Path, features: Sequence[FeatureRecord]) -> None:
    """Write both files; without a population, none."""
    pairs = [(feature.id, feature.population) for feature in features if feature.population]
    if not pairs:
        return
    text = _text_table(pairs[0][1].text)
    write_atomic_with(folder / TEXT, lambda path: parquet.write_table(text, path))
    table = pyarrow.table(
        {
            "dictionary": pyarrow.array([name.dictionary for name, _ in pairs]),
            "feature": pyarrow.array([name.index for name, _ in pairs], pyarrow.int32()),
            "positions": pyarrow.array([one.position_A for _, one in pairs], pyarrow.list_(pyarrow.int32())),
            "activations": pyarrow.array([one.value_A for _, one in pairs], pyarrow.list_(pyarrow.float32())),
        }
    )
    write_atomic_with(folder / ACTIVATIONS, lambda path: _write_activations(table, path))


def read(folder: Path) -> dict[FeatureId, Population]:
    """Read every feature's population; none if the run has none."""
    if not (folder / ACTIVATIONS).exists():
        return {}
    text = _text(read_table(folder / TEXT, ("document", "tokens")))
    table = read_table(folder / ACTIVATIONS, ("dictionary", "feature", "positions", "activations")).combine_chunks()
    names = zip(table["dictionary"].to_pylist(), table["feature"].to_pylist(), strict=True)
    positions, activations = (list_arrays(table[name]) for name in ("positions", "activations"))
    return {
        FeatureId(*name): Population(text, position_A, value_A)
        for name, position_A, value_A in zip(names, positions, activations, strict=True)
    }


def _write_activations(table: pyarrow.Table, path: Path) -> None:
    """Positions as differences, activations byte by byte: half the size of plain numbers."""
    encodings = {"positions.list.element": "DELTA_BINARY_PACKED", "activations.list.element": "BYTE_STREAM_SPLIT"}
    parquet.write_table(
        table, path, row_group_size=ROWS_AT_ONCE, compression="zstd", use_dictionary=["dictionary"],
        column_encoding=encodings,
    )  # fmt: skip


def _text_table(text: PopulationText) -> pyarrow.Table:
    n, length = text.ids_ML.shape
    tokens = pyarrow.DictionaryArray.from_arrays(pyarrow.array(text.ids_ML.ravel()), pyarrow.array(text.vocabulary))
    offsets = pyarrow.array(np.arange(n + 1, dtype=np.int32) * length)
    return pyarrow.table(
        {"document": pyarrow.array(text.document_M), "tokens": pyarrow.ListArray.from_arrays(offsets, tokens)}
    )


def _text(table: pyarrow.Table) -> PopulationText:
    tokens = table["tokens"].combine_chunks().flatten().cast(pyarrow.string()).dictionary_encode()
    order = np.argsort(np.array(tokens.dictionary.to_pylist(), object))
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    ids_ML = rank[tokens.indices.to_numpy()].reshape(len(table), -1)
    vocabulary = tokens.dictionary.to_pylist()
    return PopulationText(tuple(vocabulary[index] for index in order), ids_ML, table["document"].to_numpy())
