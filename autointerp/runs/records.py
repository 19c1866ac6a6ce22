"""Gives a run its records: its own, those of an earlier run that sampled the same, else newly sampled ones.

Records depend on subject, text, dictionaries and the sampling settings alone: another explainer, judge or scorer needs
no pass of the model. What has been sampled, and into which run folder, is written down in the cache.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from autointerp import stability_files
from autointerp.llm.ask import attempt, embed
from autointerp.llm.types import EmbeddingRequest
from autointerp.records import AnswerError, FeatureRecord
from autointerp.runs.plan import Plan
from autointerp.runs.requests import embedder_of
from autointerp.runs.work import Resolver
from autointerp.sampling import Embed, sample
from autointerp.scorers.embedding import unit
from autointerp.store import RECORD_FILES, RunFolder
from sae.common.errors import UserError
from sae.common.files import sha256_of_path, write_atomic, write_atomic_with
from sae.common.progress import Report
from sae.common.settings import cache_folder

COPIED = (stability_files.OF_RUN, *RECORD_FILES)
"""What a run of the same records takes from an earlier one, as far as it is there, in this order."""
TEXTS_PER_REQUEST = 256
"""Texts that are embedded, and kept in the cache, together."""


class Earlier(BaseModel):
    """Names the run folder that was sampled into, with the hashes of its files and what run.json says of them."""

    folder: Path
    hashes: dict[str, str]
    sampling: dict[str, Any]
    dictionaries: list[dict[str, Any]]


def records_of(folder: RunFolder, plan: Plan, report: Report) -> Sequence[FeatureRecord]:
    """Read the records, copy or draw them; the run folder is made only once they exist.

    Raises UserError as `sample` does, and if the run folder has lost its population.
    """
    if not folder.is_sampled and not _copied(folder, plan, report):
        with _embedder(plan, report) as embedder:
            drawn = sample(plan, cache_folder("autointerp"), report, embedder)
        about = {"sampling": drawn.facts, "dictionaries": [asdict(summary) for summary in drawn.dictionaries]}
        folder.begin(plan.about | about)
        stability_files.write(folder.path, drawn.stability)
        folder.write_features(drawn.features)
        _remember(folder, plan, about)
        return drawn.features
    features = folder.read_features()
    if plan.config.sampling.population and any(feature.population is None for feature in features):
        raise UserError(f"{folder.path} lacks its population; the same command with another --out starts over")
    return features


@contextmanager
def _embedder(plan: Plan, report: Report) -> Iterator[Embed | None]:
    """Open the model that hard records are drawn by; None if they are not. Vectors are kept with all other answers.

    Raises UserError if the model or its package cannot be loaded.
    """
    spec = embedder_of(plan.config)
    if spec is None:
        yield None
        return
    from autointerp.llm.resolver import LiveResolver

    with LiveResolver([spec], plan.config.runtime, cache_folder("autointerp")) as resolver:
        yield lambda texts: _embedded(texts, spec, resolver, report)


def _embedded(texts: Sequence[str], spec: str, resolver: Resolver, report: Report) -> NDArray[np.float64]:
    """Embed texts, some in a request; returns vectors of length 1, [texts, D]. Raises UserError if some have none."""
    parts = [tuple(texts[start : start + TEXTS_PER_REQUEST]) for start in range(0, len(texts), TEXTS_PER_REQUEST)]
    answers: dict[int, Sequence[Sequence[float]] | AnswerError] = {}
    tasks = [attempt(embed(EmbeddingRequest(spec, part, "hard"))) for part in parts]
    with report("embedding texts") as progress:
        resolver.resolve(tasks, answers.__setitem__, lambda: progress.update(len(answers), len(parts), resolver.note()))
    vectors: list[Sequence[float]] = []
    for index in range(len(parts)):
        answer = answers[index]
        if isinstance(answer, AnswerError):
            raise UserError(f"cannot draw hard records: {spec} did not embed the texts ({answer})")
        vectors += answer
    return unit(vectors)


def _copied(folder: RunFolder, plan: Plan, report: Report) -> bool:
    """Copy the records of an earlier run, if there is one and its files are as they were."""
    try:
        earlier = Earlier.model_validate_json(_note(plan).read_bytes())
        if _hashes(earlier.folder) != earlier.hashes:
            return False
    except (OSError, ValidationError):
        return False
    folder.begin(plan.about | {"sampling": earlier.sampling, "dictionaries": earlier.dictionaries})
    with report("records") as progress:
        progress.say(f"records: those of {earlier.folder}, which has the same subject, text, dictionaries and sampling")
        for name in earlier.hashes:  # features.parquet comes last: with it, all are complete
            write_atomic_with(folder.path / name, partial(shutil.copyfile, earlier.folder / name))
    return True


def _remember(folder: RunFolder, plan: Plan, about: dict[str, Any]) -> None:
    path = folder.path.resolve()
    write_atomic(_note(plan), Earlier(folder=path, hashes=_hashes(path), **about).model_dump_json())


def _hashes(folder: Path) -> dict[str, str]:
    return {name: sha256_of_path(folder / name) for name in COPIED if (folder / name).is_file()}


def _note(plan: Plan) -> Path:
    return cache_folder("autointerp") / "records" / f"{plan.records_identity[:16]}.json"
