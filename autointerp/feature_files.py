"""Writes and reads a run's features.parquet: a row per feature, without its records and its population."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet

from autointerp.parquet_files import list_arrays, read_table
from autointerp.record_files import Sides
from autointerp.records import Effect, FeatureId, FeatureRecord

FIELDS = (
    "density", "max_activation", "histogram", "decoder_norm", "decoder_max_cosine", "promoted", "unpromoted",
)  # fmt: skip
LATER_FIELDS = ("promoted_logits", "suppressed", "suppressed_logits", "writes")
DIRECTION = "direction"
"""Fields of a feature that earlier versions did not keep; the last is an array."""
EFFECT = "effect"
"""A field that is there only where it was measured."""


def write(path: Path, features: Sequence[FeatureRecord]) -> None:
    """Write the file."""
    with_effects = any(feature.effect for feature in features)
    table = pyarrow.Table.from_pylist([_row(feature, with_effects) for feature in features])
    parquet.write_table(table, path)


def read(path: Path, sides: Sides) -> list[FeatureRecord]:
    """Read all features, and give them their records, in the order in which they were written.

    Raises UserError naming the file if it cannot be read.
    """
    table = read_table(path, ("dictionary", "feature", *FIELDS), (*LATER_FIELDS, EFFECT, DIRECTION))
    rows = table.select([name for name in table.column_names if name != DIRECTION]).to_pylist()
    features = [_feature(row, sides) for row in rows]
    if not features or DIRECTION not in table.column_names:
        return features
    rows_FD = list_arrays(table[DIRECTION])
    return [replace(feature, direction=row_D) for feature, row_D in zip(features, rows_FD, strict=True)]


def _row(feature: FeatureRecord, with_effects: bool) -> dict[str, Any]:
    values = {name: getattr(feature, name) for name in (*FIELDS, *LATER_FIELDS)}
    values |= {} if feature.direction is None else {DIRECTION: feature.direction}
    values |= {EFFECT: feature.effect and vars(feature.effect)} if with_effects else {}
    return {"dictionary": feature.id.dictionary, "feature": feature.id.index} | values


def _feature(row: Mapping[str, Any], sides: Sides) -> FeatureRecord:
    feature = FeatureId(row["dictionary"], row["feature"])
    values = _with_tuples({name: row[name] for name in (*FIELDS, *LATER_FIELDS) if name in row})
    effect = row.get(EFFECT)
    values |= {EFFECT: Effect(**_with_tuples(effect))} if effect else {}
    explain, score = (tuple(sides.get((feature, split), ())) for split in ("explain", "score"))
    return FeatureRecord(feature, explain, score, **values)


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
