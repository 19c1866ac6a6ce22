"""Writes a table of features as CSV, JSON lines or parquet: explanations, scores with intervals, densities."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autointerp.exports import EXPORTS, Export
from autointerp.exports.content import Content
from autointerp.exports.results_table import rows
from sae.common.tables import no_formula

if TYPE_CHECKING:
    import pandas

MEASURES = ("density", "max_activation", "decoder_norm", "decoder_max_cosine", "promoted")
"""What the table has of a feature itself."""
TEXTS = ("dictionary", "explainer", "explanation", "error")
"""Columns that hold what a user or a language model wrote."""


class Features(Export):
    """Writes a row per feature and explainer; what does not exist is empty (CSV) or null."""

    about = "a table of explanations, scores and densities, by the ending of PATH: .csv, .jsonl or .parquet"
    suffixes = (".csv", ".jsonl", ".parquet")

    def write(self, content: Content, path: Path) -> Sequence[str]:
        """Write the table in the format that the name ends in; the tokens that a feature promotes are a list.

        In CSV, a text that a spreadsheet would take for a formula begins with an apostrophe; the others keep it.
        """
        import pandas

        table = pandas.DataFrame(list(_rows(content)))
        if path.suffix == ".parquet":
            _write_parquet(table, path)
        elif path.suffix == ".jsonl":
            path.write_text(table.to_json(orient="records", lines=True, double_precision=15), "utf-8")
        else:
            table["promoted"] = [json.dumps(tokens, ensure_ascii=False) for tokens in table["promoted"]]
            for name in TEXTS:
                table[name] = [no_formula(cell) if isinstance(cell, str) else cell for cell in table[name]]
            table.to_csv(path, index=False, lineterminator="\n")
        return []


def _rows(content: Content) -> Iterator[dict[str, Any]]:
    for feature in content.features:
        measured = {name: getattr(feature, name) for name in MEASURES} | {"promoted": list(feature.promoted)}
        results = content.results.get(feature.id, ())
        for result, row in zip(results, rows(results), strict=True):
            bounds = {f"{name}/{end}": bound for name, interval in result.intervals.items()
                      for end, bound in zip(("ci_low", "ci_high"), interval, strict=True)}  # fmt: skip
            yield row | bounds | measured


def _write_parquet(table: pandas.DataFrame, path: Path) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.Table.from_pandas(table, preserve_index=False), path)


EXPORTS.register("features", Features)
