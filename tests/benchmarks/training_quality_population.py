"""Scores what `training_quality.py --pareto` trained by how well a few token rules predict its features: offline.

Every dictionary, a peer's too, is kept as a `sae.Dictionary` for activations as they are, and `autointerp.run` scores a
random sample of the features of all of them in one run: explainer `rules-5`, simulator `rules`, the `population`
score, exact over the score half of the text that none of them was trained on. A feature that is never active there has
no score, and one that the rules miss altogether has 0.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import sae
from sae.data.split import VERSION as SPLIT_VERSION
from sae.dictionary import Dictionary
from sae.formats.changes import scaled
from sae.training import config
from tests.benchmarks.training_quality_sources import Source

FEATURES, TOKENS = 100, 100_000
"""Sampled of each dictionary, and of the text that the trainings held out."""
SCORER = "simulation/population"
COLUMNS = {"population": "mean", "population_low": "ci_low", "population_high": "ci_high"}
"""What a row of the benchmark calls the mean score and its 95% interval, and what the leaderboard does."""
Score = dict[str, float]


def keep(dictionary: Dictionary, key: Mapping[str, Any], source: Source) -> str:
    """Write a dictionary into the source's folder unless it is there; return its name, which its training decides."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    name, scale = f"{key['family']}-{digest}", source.scale()
    folder = source.folder / "dictionaries" / name
    if not folder.is_dir():
        facts = source.facts()
        training = config.load("toy")
        metadata = {
            "prepend_bos": False,
            "corpus": training.corpus.model_dump(mode="json"),
            "seed": training.seed,
            "split_version": SPLIT_VERSION,
        }
        whole = scaled(dictionary, 1 / scale, 1 / scale).at(facts["hook_point"])
        sae.save(replace(whole, name=name, model=facts["subject"], metadata=metadata), folder)
    return name


def scores(names: list[str], source: Source) -> dict[str, Score]:
    """Return the mean score of each dictionary's sampled features; what was scored before is remembered.

    One without an active feature has none, and an empty entry.
    """
    path = source.folder / "population.json"
    known: dict[str, Score] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if missing := [name for name in dict.fromkeys(names) if name not in known]:
        known |= {name: {} for name in missing} | _scored(missing, source)
        path.write_text(json.dumps(known, indent=1))
    return {name: known[name] for name in names}


def _scored(names: list[str], source: Source) -> dict[str, Score]:
    import autointerp

    changes = {
        "dictionaries.load": [str(source.folder / "dictionaries" / name) for name in names],
        "dictionaries.baselines": [],
        "sampling.features": FEATURES,
        "sampling.tokens": TOKENS,
        "explainers": ["rules-5"],
        "scorers": ["simulation"],
        "controls": 0.0,
        "runtime.site": False,
        "runtime.pictures": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        table = autointerp.run("dictionary", changes, out=Path(folder) / "run").leaderboard()
    own = table[table["scorer"] == SCORER].set_index("dictionary")
    return {name: {metric: float(own.loc[name, column]) for metric, column in COLUMNS.items()} for name in own.index}
