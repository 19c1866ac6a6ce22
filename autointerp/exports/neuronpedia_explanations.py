"""Writes explanations as CSV, with the columns of Neuronpedia's own exports; `--explanations` reads it back.

The columns are those that Neuronpedia gives out: `exportExplanations` in apps/webapp/lib/db/explanation.ts of
hijohnnylin/neuronpedia at commit ebb8426 (20 August 2026), without the database's own `id`. typeName and
explanationModelName must be names that Neuronpedia knows where rows go into its database.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from autointerp.exports import EXPORTS, Export
from autointerp.exports.content import Content, counted
from autointerp.exports.neuronpedia import Neuronpedia, model_id, sources

COLUMNS = ("modelId", "layer", "index", "description", "typeName", "explanationModelName")


class NeuronpediaExplanations(Export):
    """Writes a row per explanation; explanationModelName is the run's name of the explainer unless one is given."""

    about = "a CSV of explanations with the columns of Neuronpedia's exports"
    suffixes = (".csv",)
    options = Neuronpedia.options

    def write(self, content: Content, path: Path) -> Sequence[str]:
        """Write the explanations by dictionary and feature; return how many features have none."""
        model, empty = model_id(content, self.given), 0
        with path.open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(COLUMNS)
            for dictionary, source in sources(content, self.given).items():
                for feature in content.features_of(dictionary):
                    results = [one for one in content.results.get(feature.id, ()) if one.explanation]
                    empty += not results
                    for result in results:
                        text = result.explanation.text if result.explanation else ""
                        names = self.given.get("method_name", ""), self.given.get("model_name", result.explainer)
                        table.writerow((model, source, feature.id.index, text, *names))
        return counted(empty, "features are left out", "they have no explanation")


EXPORTS.register("neuronpedia_explanations", NeuronpediaExplanations)
