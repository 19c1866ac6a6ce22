"""Writes what was measured of every single feature to a parquet file beside the JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.files import write_atomic_with

if TYPE_CHECKING:
    from torch import Tensor

    from sae.measuring.eval_paths import Outcome
    from sae.measuring.nearest import Nearest

SUFFIX = ".features.parquet"
COLUMNS = {
    "feature": "its index in the dictionary",
    "density": "share of the tokens on which it is active",
    "decoder_norm": "length of its decoder direction",
    "encoder_decoder_cosine": "of its own two directions",
    "nearest_cosine": "largest cosine of its decoder direction with another one of the dictionary",
    "nearest_feature": "the one that has it",
    "correlation": "largest Pearson correlation of its activations with a feature of --against",
    "correlation_feature": "the one that has it",
    "against_cosine": "largest cosine of its decoder direction with one of --against",
    "against_cosine_feature": "the one that has it",
}
"""Columns and their meaning: first those of every table, then those of what was also measured. A feature without a
similarity has null."""


def path_beside(metrics: Path) -> Path:
    """Return the table's path for a JSON file: `words.features.parquet` for `words.metrics.json`."""
    name = metrics.name.removesuffix(".json").removesuffix(".metrics")
    return metrics.with_name(f"{name}{SUFFIX}")


def columns(outcome: Outcome) -> dict[str, Any]:
    """Return every column with one value for each feature; None where the feature has none."""
    measured, compared = outcome.evaluation, outcome.comparison
    table: dict[str, Any] = {
        "feature": list(range(measured.n_features)),
        "density": _values(measured.density.density_F),
        "decoder_norm": _values(measured.directions.norm_F),
    }
    if measured.directions.paired:
        table["encoder_decoder_cosine"] = _values(measured.directions.paired.similarity_F)
    if measured.directions.nearest:
        table |= _matched("nearest_cosine", "nearest_feature", measured.directions.nearest)
    if compared:
        table |= _matched("correlation", "correlation_feature", compared.universality.a_to_b)
        if compared.mmcs:
            table |= _matched("against_cosine", "against_cosine_feature", compared.mmcs.a_to_b)
    return table


def write(outcome: Outcome, path: Path) -> None:
    """Write the table to `path`, complete or not at all. Raises UserError if it cannot be written."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(columns(outcome))
    write_atomic_with(path, lambda temporary: parquet.write_table(table, temporary))


def _matched(value: str, feature: str, nearest: Nearest) -> dict[str, list[Any]]:
    matches = [None if match < 0 else match for match in nearest.match_F.tolist()]
    return {value: _values(nearest.similarity_F), feature: matches}


def _values(values_F: Tensor) -> list[float | None]:
    """Return the values with None for NaN."""
    return [None if value != value else value for value in values_F.tolist()]
