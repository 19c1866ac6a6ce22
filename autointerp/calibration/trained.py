"""Runs the harness as a user would: a model, a corpus and dictionaries on disk, sampled by the model itself.

The exact model shows that its records agree with the labels. The superposed one gives a dictionary that is trained, so
that a feature's purity is not planted: does the score rank features by it?

Shape suffixes: M blocks of text, L tokens of a block, F features, C concepts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from autointerp import config as configs
from autointerp.calibration import subject
from autointerp.calibration.catalogue import Catalogue
from autointerp.calibration.cells import Activations
from autointerp.calibration.concepts import Concept, single
from autointerp.calibration.grammar import CATEGORIES
from autointerp.calibration.harness import given
from autointerp.calibration.language import LENGTH, Ids, PlantedText, category_ids, generate, vocabulary
from autointerp.calibration.measure import ALL_TOKENS, Session, make_session
from autointerp.calibration.purity import COVERED, FeaturePurity, matthews
from autointerp.config import Config
from autointerp.records import Explanation, FeatureRecord
from autointerp.runs.plan import make_plan
from autointerp.sampling import sample
from sae.common.progress import Report

WIDTH = 64
"""Dimensions of the superposed model's residual stream."""
RECIPE = {
    "architecture": "topk", "name": "trained", "expansion": 4, "encoder_start": 1.0, "k": 3, "lr": 3e-3, "warmup": 0.05,
    "decay": 0.4, "dead_after": 50_000,
}  # fmt: skip
STEPS, BATCH = 600, 1024
IN_REACH = 1e-3
"""A concept is in reach of a dictionary if it is at least so dense."""
AGREEMENT_TOKENS = 16_000
"""Tokens that the exact model, which is wide, reads."""
COPIES = 4
"""Concepts of each family that are read from the exact model."""


@dataclass(frozen=True)
class Trained:
    """Holds what was measured of a model, a corpus and dictionaries on disk."""

    features: tuple[FeaturePurity, ...] = ()
    coverage: float | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class Everything:
    """Holds every fragment that a run could draw, with the activations of all its features there."""

    text: PlantedText
    activations_MLF: Activations
    names: tuple[str, ...]
    """The features' names."""


def train_and_measure(session: Session, n_tokens: int) -> Trained:
    """Train a dictionary on the superposed model, and compare the exact model's records with the labels."""
    agreement = measure_agreement(min(n_tokens, AGREEMENT_TOKENS), session.config, session.report)
    text = generate(n_tokens, session.config.seed, "text of the trained dictionary")
    with prepared_folder(text) as folder:
        subject.write_superposed_model(folder / "superposed", WIDTH, session.config.seed)
        changes = {
            "subject.model": str(folder / "superposed"),
            "subject.hook_points": [subject.HOOK_POINT],
            "dictionaries.train": [RECIPE],
            "dictionaries.steps": STEPS,
            "dictionaries.batch": BATCH,
            "sampling.features": round(WIDTH * float(str(RECIPE["expansion"]))),
        }
        everything = sample_everything(folder, text, changes, session.config, session.report)
    features, coverage = _measure(session, everything)
    return Trained(tuple(features), coverage, agreement)


@contextmanager
def prepared_folder(text: PlantedText) -> Iterator[Path]:
    """Write the corpus into a temporary folder."""
    with TemporaryDirectory(prefix="calibrate-") as name:
        subject.write_corpus(text, Path(name) / "corpus.jsonl")
        yield Path(name)


def measure_agreement(n_tokens: int, config: Config, report: Report) -> float:
    """Return the largest difference between activations that the exact model's run gives and the labels."""
    text = generate(n_tokens, config.seed, "text of the exact model")
    concepts = exact_concepts(text, config.seed)
    with prepared_folder(text) as folder:
        subject.write_exact_model(folder / "exact")
        subject.write_exact_dictionary(folder / "planted", concepts)
        changes = {
            "subject.model": str(folder / "exact"),
            "dictionaries.load": [str(folder / "planted")],
            "sampling.features": len(concepts),
        }
        sampled = sample_everything(folder, text, changes, config, report)
    order = [int(name.split("/")[1]) for name in sampled.names]
    labels_MLF = np.stack([concepts[index].holds(sampled.text) for index in order], axis=-1)
    return float(np.abs(sampled.activations_MLF - labels_MLF).max())


def exact_concepts(text: PlantedText, seed: int) -> list[Concept]:
    """Choose tokens, sets and pairs that the exact model holds."""
    catalogue = Catalogue(text, seed)
    return [
        concept for family in ("token", "set", "pair") for concept in catalogue.choose(family, 1e-2, COPIES)
    ]  # fmt: skip


def sample_everything(
    folder: Path, text: PlantedText, changes: Mapping[str, Any], config: Config, report: Report
) -> Everything:
    """Sample every fragment that the run holds out, for every feature: all records are drawn at random, without end.

    Args:
        folder: holds corpus.jsonl.
        changes: the run's model and dictionaries.
    """
    every = {"random": len(text.ids_ML)}
    settings = {
        "seed": config.seed,
        "corpus.source": str(folder / "corpus.jsonl"),
        "corpus.context": LENGTH,
        "corpus.held_out": 0.5,
        "subject.prepend_bos": False,
        "dictionaries.baselines": [],
        "sampling.fragment": LENGTH,
        "sampling.explain": every,
        "sampling.score": every,
        "runtime.batch_blocks": 1024,
    }
    run = configs.load("dictionary", settings | dict(changes))
    return _collected(sample(make_plan(run), folder / "cache", report).features, text)


def _collected(features: Sequence[FeatureRecord], text: PlantedText) -> Everything:
    """Put the records of all features in one order: by document, then by their tokens."""
    rows = [sorted((*f.explain, *f.score), key=lambda record: (record.document, record.tokens)) for f in features]
    index = {token: i for i, token in enumerate(vocabulary())}
    ids_ML: Ids = np.array([[index[token] for token in record.tokens] for record in rows[0]])
    document_M: Ids = np.array([record.document for record in rows[0]])
    first = dict(zip(text.document_M.tolist(), text.domain_M.tolist(), strict=True))
    domain_M: Ids = np.array([first[document] for document in document_M.tolist()])
    values = np.array([[record.activations for record in records] for records in rows], np.float32)
    names = tuple(str(feature.id) for feature in features)
    return Everything(PlantedText(ids_ML, document_M, domain_M), np.moveaxis(values, 0, -1), names)


def concepts_in_reach(text: PlantedText) -> list[Concept]:
    """Return the tokens and the categories that are dense enough for a dictionary to learn."""
    tokens = [Concept("token", name.strip(" "), ((single("token", i),),)) for i, name in enumerate(vocabulary())]
    sets = [
        Concept("set", name, (tuple(single("token", index) for index in category_ids(name)),)) for name in CATEGORIES
    ]
    return [concept for concept in (*tokens, *sets) if concept.holds(text).mean() >= IN_REACH]


def _measure(session: Session, everything: Everything) -> tuple[list[FeaturePurity], float]:
    """Score the features' explanations, and compare with the purity of each."""
    config = session.config
    own = replace(
        make_session(everything.text, session.harness, config, session.report), carriers=session.carriers
    )  # fmt: skip
    concepts = concepts_in_reach(everything.text)
    holds_TC = np.stack([concept.holds(everything.text).ravel() for concept in concepts], axis=-1)
    fires_TF = everything.activations_MLF.reshape(-1, len(everything.names)) > 0
    purity_FC = matthews(fires_TF, holds_TC)
    records = own.records(everything.activations_MLF)
    kept = [(index, record) for index, record in enumerate(records) if record is not None]
    best = [concepts[int(purity_FC[index].argmax())] for index, _ in kept]
    explained = session.harness.explain([record for _, record in kept])
    results = session.harness.score([record for _, record in kept], explained)
    labelled = session.harness.score([record for _, record in kept], [given(concept.truth) for concept in best])
    features = []
    for (index, _), concept, one, result, label in zip(kept, best, explained, results, labelled, strict=True):
        made_ML = everything.activations_MLF[..., index]
        text = one.outcome.text if isinstance(one.outcome, Explanation) else None
        features.append(
            FeaturePurity(
                feature=everything.names[index],
                concept=concept.name,
                family=concept.family,
                purity=float(purity_FC[index].max()),
                density=float((made_ML > 0).mean()),
                explanation=text,
                scores=dict(result.scores) | {ALL_TOKENS: own.on_all(text, made_ML)},
                labelled=dict(label.scores) | {ALL_TOKENS: own.on_all(concept.truth, made_ML)},
            )
        )
    return features, float((purity_FC.max(0) > COVERED).mean())
