"""Writes features for circuit-tracer's pages: the folder that its `--features_dir` names.

The format is what circuit_tracer/frontend of decoderesearch/circuit-tracer (formerly safety-research/circuit-tracer)
reads at commit 4bb8c0e (18 April 2026). feature_models.py says what a feature is. init-feature-examples.js looks up
`index.json.gz`: for each layer the name of a file, and where its features begin, one offset more than features; util.js
reads a feature from there: four bytes with the length, lowest first, then so much JSON compressed by zlib.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autointerp.exports import EXPORTS, Export
from autointerp.exports.content import Content, active, counted, layer_of
from autointerp.records import ActivationRecord, DictionarySummary, FeatureRecord
from sae.common.errors import UserError

if TYPE_CHECKING:
    from autointerp.population import Population

NO_DATA = {"isDead": True}
"""A feature without data: the pages say that it failed to load."""
BINS = 50


class CircuitTracer(Export):
    """Writes a file per layer, and the index. A layer can have one dictionary.

    act_min and act_max, the histogram's ends, are 0 and the largest activation. Histogram and quantile_values (the
    percentiles 1 to 99) are about the tokens of the run's population on which the feature is active.
    """

    about = "the folder of features for circuit-tracer's pages (--features_dir), with one dictionary per layer"
    is_folder = True
    onward = "circuit-tracer start-server --graph_file_dir GRAPHS --features_dir {out}"

    def write(self, content: Content, path: Path) -> Sequence[str]:
        """Write every layer's features; return what is missing."""
        index, lost = {}, Counter[str]()
        for layer, dictionary in _by_layer(content).items():
            features = {feature.id.index: feature for feature in content.features_of(dictionary)}
            blobs = [_packed(_described(features[i]) if i in features else NO_DATA)
                     for i in range(dictionary.n_features)]  # fmt: skip
            name = f"layer_{layer}.bin"
            (path / name).write_bytes(b"".join(blobs))
            index[str(layer)] = {"filename": name, "offsets": [0, *accumulate(map(len, blobs))]}
            _count_lost(dictionary, list(features.values()), lost)
        (path / "index.json.gz").write_bytes(gzip.compress(json.dumps(index).encode(), mtime=0))
        return [line for what, n in lost.items() for line in counted(n, *what.split(": ", 1))]


def _by_layer(content: Content) -> dict[int, DictionarySummary]:
    """Return each layer's dictionary. Raises UserError if one is of no layer, or a layer has two."""
    layers: dict[int, DictionarySummary] = {}
    for dictionary in content.dictionaries:
        layer = layer_of(dictionary)
        if layer is None:
            raise UserError(f"{dictionary.name} reads {dictionary.hook_point}, which is of no one layer; leave it out")
        if layer in layers:
            names = f"{layers[layer].name} and {dictionary.name}"
            raise UserError(f"circuit-tracer has one dictionary per layer, and layer {layer} has {names}; choose with "
                            f"--dictionary NAME")  # fmt: skip
        layers[layer] = dictionary
    return layers


def _count_lost(dictionary: DictionarySummary, features: Sequence[FeatureRecord], lost: Counter[str]) -> None:
    lost["features have no data: the run did not sample them"] += dictionary.n_features - len(features)
    for side, does in (("promoted", "raises"), ("suppressed", "lowers")):
        none = sum(not getattr(feature, side) for feature in features)
        lost[f"features have no tokens that their decoder {does}: the run has none"] += none
    bare = sum(feature.population is None for feature in features)
    lost["features have no histogram and percentiles: the run kept no population (sampling.population)"] += bare


def _packed(value: object) -> bytes:
    data = zlib.compress(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
    return len(data).to_bytes(4, "little") + data


def _described(feature: FeatureRecord) -> dict[str, Any]:
    histogram, percentiles = _distribution(feature.population, feature.max_activation)
    return {
        "transcoder_id": feature.id.dictionary,
        "index": feature.id.index,
        "examples_quantiles": list(_examples(feature)),
        "top_logits": list(feature.promoted),
        "bottom_logits": list(feature.suppressed),
        "act_min": 0.0,
        "act_max": feature.max_activation,
        "quantile_values": percentiles,
        "histogram": histogram,
        "activation_frequency": feature.density,
    }


def _distribution(population: Population | None, highest: float) -> tuple[list[float], list[float]]:
    """Return numbers of active tokens in even intervals up to the largest activation, and percentiles 1 to 99."""
    import numpy as np

    if population is None or not len(population.value_A):
        return [], []
    counts, _ = np.histogram(population.value_A, BINS, (0.0, highest))
    return counts.astype(float).tolist(), np.percentile(population.value_A, np.arange(1, 100)).tolist()


def _examples(feature: FeatureRecord) -> Iterator[dict[str, Any]]:
    """Yield the active texts by where they were drawn; one whose tokens were shown already is marked as repeated."""
    shown: set[tuple[str, ...]] = set()
    for side, records in (("explained from", feature.explain), ("scored on", feature.score)):
        kept = active(records)
        for source in dict.fromkeys(record.source for record in kept):
            examples = []
            for record in (one for one in kept if one.source == source):
                examples.append(_example(record, record.tokens in shown))
                shown.add(record.tokens)
            yield {"quantile_name": f"{source}, {side}", "examples": examples}


def _example(record: ActivationRecord, repeated: bool) -> dict[str, Any]:
    return {
        "tokens_acts_list": list(record.activations),
        "train_token_ind": record.activations.index(max(record.activations)),
        "is_repeated_datapoint": repeated,
        "tokens": list(record.tokens),
    }


EXPORTS.register("circuit_tracer", CircuitTracer)
