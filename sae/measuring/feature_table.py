"""What was measured of every single feature, as a table in a parquet file beside the JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.files import write_atomic_with

if TYPE_CHECKING:
    from torch import Tensor

    from sae.measuring.eval_paths import Outcome
    from sae.measuring.similarity import Nearest

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
"""What is always there, then what is there if it was measured. A feature without a similarity has null."""


def place_beside(metrics: Path) -> Path:
    """`words.metrics.json` -> `words.features.parquet`."""
    name = metrics.name.removesuffix(".json").removesuffix(".metrics")
    return metrics.with_name(f"{name}{SUFFIX}")


def columns(outcome: Outcome) -> dict[str, Any]:
    """Column -> a value for every feature, None where it has none."""
    found, compared = outcome.evaluation, outcome.comparison
    table: dict[str, Any] = {
        "feature": list(range(found.n_features)),
        "density": _values(found.density.density_F),
        "decoder_norm": _values(found.directions.norm_F),
        "encoder_decoder_cosine": _values(found.directions.paired.similarity_F),
    }
    if found.directions.nearest:
        table |= _matched("nearest_cosine", "nearest_feature", found.directions.nearest)
    if compared:
        table |= _matched("correlation", "correlation_feature", compared.universality.a_to_b)
        if compared.mmcs:
            table |= _matched("against_cosine", "against_cosine_feature", compared.mmcs.a_to_b)
    return table


def write(outcome: Outcome, path: Path) -> None:
    """Put the table there, whole. Raises UserError if that cannot be."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(columns(outcome))
    write_atomic_with(path, lambda temporary: parquet.write_table(table, temporary))


def _matched(value: str, feature: str, found: Nearest) -> dict[str, list[Any]]:
    matches = [None if match < 0 else match for match in found.match_F.tolist()]
    return {value: _values(found.similarity_F), feature: matches}


def _values(values_F: Tensor) -> list[float | None]:
    """NaN becomes None."""
    return [None if value != value else value for value in values_F.tolist()]
