"""Builds a run's dictionaries: loads the user's, trains or fits the others once and keeps them; measures all."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from autointerp.peer_faults import PCA_TRANSPOSED
from sae import formats
from sae.baselines.registry import BASELINES, Baseline, base_and_k
from sae.baselines.top_k import top_k
from sae.common.errors import UserError
from sae.common.files import sha256_of, write_atomic
from sae.common.progress import Report
from sae.common.seeds import derive_seed
from sae.data.activation_stream import ActivationStream
from sae.data.blocks import Blocks
from sae.data.split import Split
from sae.data.token_source import Shuffled
from sae.dictionary import Dictionary
from sae.measuring import metrics
from sae.measuring.evaluate import move_to_subject
from sae.measuring.misfit import misfit
from sae.measuring.weights import weights_hash
from sae.models.entries import make_missing, make_one
from sae.models.subject import Subject
from sae.training.loop import finished, learn

if TYPE_CHECKING:
    from autointerp.runs.plan import Plan, PlannedDictionary

log = logging.getLogger(__name__)
MEASURED_VECTORS = 32_768
MEASURED_BLOCKS = 256
FITTING, MEASURING = "fitting activations", "measuring activations"
"""What vectors are drawn for: each has a seed of its own."""


@dataclass(frozen=True)
class Measured:
    """Holds a dictionary with what was measured of it on held-out text."""

    dictionary: Dictionary
    metrics: dict[str, Any]
    """l0, fvu, dead share, CE recovered; None where a measure does not exist."""
    key: str
    """Names its random choices: the same whatever other dictionaries and hook points the run has."""


class DictionaryBuilder:
    """Builds a run's dictionaries. `key` hashes everything a fitted dictionary depends on, except its recipe."""

    def __init__(self, plan: Plan, cache: Path, report: Report, subject: Subject, at: Activations, key: str) -> None:
        self._plan, self._config = plan, plan.config
        self._cache, self._report, self._key = cache, report, key
        self._subject, self._at = subject, at

    def measured(self) -> tuple[Measured, ...]:
        """Return the user's dictionaries, then those trained here, then the baselines in the config's order.

        At several hook points the names of those made here end in `@HOOK_POINT`.
        """
        return self._with_those_made([self._loaded(planned) for planned in self._plan.dictionaries])

    def reloaded(self) -> tuple[Dictionary, ...]:
        """Return the same dictionaries in the same order; the user's are not measured."""
        moved = [self._moved(planned) for planned in self._plan.dictionaries]
        all_of_them = self._with_those_made([Measured(one, {}, one.name) for one in moved])
        return tuple(one.dictionary for one in all_of_them)

    def _with_those_made(self, sparse: list[Measured]) -> tuple[Measured, ...]:
        """Return the user's dictionaries and, after them, those of the run."""
        hook_points = self._config.subject.hook_points
        for hook_point in hook_points:
            sparse += [self._named(one, hook_point) for one in self._trained(hook_point)]
        fitted: list[Measured] = []
        for hook_point in hook_points:
            fitted += [self._named(one, hook_point) for one in self._baselines(hook_point, sparse)]
        return (*sparse, *fitted)

    def _named(self, measured: Measured, hook_point: str) -> Measured:
        if len(self._config.subject.hook_points) == 1:
            return measured
        name = f"{measured.dictionary.name}@{hook_point}"
        return replace(measured, dictionary=replace(measured.dictionary, name=name))

    def _moved(self, planned: PlannedDictionary) -> Dictionary:
        read = formats.load(planned.path)
        return move_to_subject(read, self._subject, planned.reads[0])  # the one that the user gives, if it may be given

    def _loaded(self, planned: PlannedDictionary) -> Measured:
        dictionary = self._moved(planned)
        stored = self._cache / "metrics" / f"{self._digest([planned.content, planned.reads])}.json"
        make_one(stored, lambda: write_atomic(stored, json.dumps(self._measure(dictionary))))
        metrics = json.loads(stored.read_text("utf-8"))
        if unfit := misfit(dictionary.name, dictionary.kind, metrics["fvu"], str(planned.path)):
            log.warning(unfit)
        return Measured(dictionary, metrics, dictionary.name)

    def _trained(self, hook_point: str) -> list[Measured]:
        """Return all autoencoders of the config; those not in the cache are trained together on one stream."""
        settings, seed = self._config.dictionaries, self._config.seed
        recipes = [one.model_copy(update={"name": one.label, "seed": seed + one.seed}) for one in settings.train]
        schedule = [settings.steps, settings.batch]
        folders = [self._folder([hook_point, *schedule, recipe.model_dump(mode="json")]) for recipe in recipes]

        def make(missing: Sequence[Path]) -> None:
            batches = self._at.training(hook_point).batches(settings.batch)
            missing_recipes = [recipe for recipe, folder in zip(recipes, folders, strict=True) if folder in missing]
            learners = learn(missing_recipes, settings.steps, batches, self._subject.device, self._report)
            for learner, folder in zip(learners, missing, strict=True):
                self._save(finished(learner).dictionary(hook_point, self._subject.name, {}), hook_point, folder)

        make_missing(folders, make)
        return [self._open(folder) for folder in folders]

    def _baselines(self, hook_point: str, sparse: list[Measured]) -> list[Measured]:
        made: list[Measured] = []
        for baseline in self._config.dictionaries.baselines:
            if BASELINES.get(base_and_k(baseline)[0]).matched:
                targets = [one.dictionary for one in sparse if one.dictionary.reads == (hook_point,)]
                made += [self._matched(baseline, target, hook_point) for target in targets]
            else:
                made.append(self._fitted(baseline, hook_point))
        return made

    def _fitted(self, baseline: str, hook_point: str) -> Measured:
        """Return a baseline from the cache, or fitted; a top-k version is made of its base, which is fitted once."""
        base, k = base_and_k(baseline)
        recipe = [hook_point, baseline, self._config.dictionaries.fit_vectors]
        recipe += [PCA_TRANSPOSED] if self._is_transposed(base) else []
        if k:
            return self._kept(recipe, hook_point, lambda: top_k(self._fitted(base, hook_point).dictionary, k))
        return self._kept(recipe, hook_point, lambda: self._fit(BASELINES.get(base), hook_point))

    def _is_transposed(self, baseline: str) -> bool:
        return baseline == "pca" and PCA_TRANSPOSED in self._config.peer_faults

    def _fit(self, baseline: Baseline, hook_point: str) -> Dictionary:
        if self._is_transposed(baseline.name):
            return baseline.fit(self._at.fit_BD(hook_point), self._config.seed, transposed=True)
        if not baseline.reports_convergence:
            return baseline.fit(self._at.fit_BD(hook_point), self._config.seed)
        with self._report(f"fitting {baseline.name}") as progress:
            fitted = baseline.fit(self._at.fit_BD(hook_point), self._config.seed)
            progress.update(1, 1, None if fitted.metadata["converged"] else "stopped before it converged")
        return fitted

    def _matched(self, baseline: str, target: Dictionary, hook_point: str) -> Measured:
        target = replace(target, name=target.name.removesuffix(f"@{hook_point}"))

        def make() -> Dictionary:
            fit_BD = self._at.fit_BD(hook_point)
            density_F = metrics.density(target, self._at.encoded_BD(target, fitting=True))
            return BASELINES.get(baseline).fit(fit_BD, self._config.seed, target, density_F)

        fit_vectors = self._config.dictionaries.fit_vectors
        return self._kept([baseline, target.name, weights_hash(target), hook_point, fit_vectors], hook_point, make)

    def _kept(self, recipe: Any, hook_point: str, make: Callable[[], Dictionary]) -> Measured:
        folder = self._folder(recipe)
        return self._open(make_one(folder, lambda: self._save(make(), hook_point, folder)))

    def _save(self, dictionary: Dictionary, hook_point: str, folder: Path) -> None:
        here = replace(dictionary.to(self._subject.device), reads=(hook_point,), writes=(hook_point,))
        about = {"metrics": self._measure(here), "prepend_bos": self._subject.prepend_bos}
        formats.save(replace(here, model=self._subject.name, metadata=dict(here.metadata) | about), folder)

    def _open(self, folder: Path) -> Measured:
        dictionary = formats.load(folder).to(self._subject.device)
        return Measured(dictionary, dict(dictionary.metadata["metrics"]), dictionary.name)

    def _measure(self, dictionary: Dictionary) -> dict[str, Any]:
        """Measure L0 and the dead share on what it reads, FVU and CE recovered on what it writes.

        One layer of a cross-layer transcoder has no reconstruction: the last two are None.
        """
        x_BD = self._at.encoded_BD(dictionary)
        same = dictionary.reads == dictionary.writes and dictionary.context is None
        y_BE = x_BD if same else self._at.measured_BD(dictionary.writes)
        measured = metrics.reconstruction(dictionary, x_BD, y_BE=y_BE)
        if measured.fvu is not None and not math.isfinite(measured.fvu):
            raise UserError(f"dictionary {dictionary.name}: its reconstructions are not all finite; is it damaged?")
        losses = None
        if not dictionary.is_part:
            losses = metrics.cross_entropy(dictionary, self._at.ablations(dictionary.writes))
        return {
            "l0": measured.l0,
            "fvu": measured.fvu,
            "dead": measured.dead,
            "ce_recovered": losses.recovered if losses else None,
        }

    def _folder(self, recipe: Any) -> Path:
        return self._cache / "dictionaries" / self._digest(recipe)

    def _digest(self, content: Any) -> str:
        return sha256_of([self._key.encode(), json.dumps(content, sort_keys=True).encode()])[:16]


class Activations(Protocol):
    """Says where the activations come from that dictionaries learn from and are measured on."""

    def training(self, hook_point: str) -> ActivationStream:
        """Return the endless stream that autoencoders are trained on."""

    def fit_BD(self, hook_point: str) -> Tensor:
        """Return the vectors that baselines are fitted on."""

    def measured_BD(self, hook_points: tuple[str, ...]) -> Tensor:
        """Return held-out vectors, those of several hook points side by side."""

    def encoded_BD(self, dictionary: Dictionary, fitting: bool = False) -> Tensor:
        """Return `measured_BD` of what a dictionary reads, or `fit_BD`, as it encodes them: in their context."""

    def ablations(self, hook_points: tuple[str, ...]) -> metrics.Ablations:
        """Return losses on held-out blocks with what is at these hook points replaced."""


@dataclass(frozen=True)
class _InContext:
    """Gives a dictionary's inputs in place of the activations that it reads."""

    subject: Subject
    dictionary: Dictionary

    @property
    def device(self) -> str:
        return self.subject.device

    def activations(self, ids_NC: Tensor, hook_point: str) -> Tensor:
        """Return what the dictionary encodes of whole blocks, [N, C, 2 D]."""
        return self.dictionary.in_context(self.subject.activations(ids_NC, hook_point))


class ActivationsOf:
    """Computes them, each once.

    The order of the text is the same at every hook point, so that vectors of several can be joined token by token.
    """

    def __init__(self, plan: Plan, subject: Subject, split: Split) -> None:
        self._config, self._subject, self._split = plan.config, subject, split
        self._vectors: dict[tuple[str, str], Tensor] = {}
        self._ablations: dict[tuple[str, ...], metrics.Ablations] = {}

    def training(self, hook_point: str) -> ActivationStream:
        """Return the endless stream that autoencoders are trained on."""
        return self._stream(self._split.train, "training activations", hook_point)

    def fit_BD(self, hook_point: str) -> Tensor:
        """Return the vectors that baselines are fitted on."""
        n_vectors = self._config.dictionaries.fit_vectors
        return self._sample(self._split.train, FITTING, hook_point, n_vectors)

    def measured_BD(self, hook_points: tuple[str, ...]) -> Tensor:
        """Return held-out vectors, those of several hook points side by side."""
        parts = [self._sample(self._split.held_out, MEASURING, name, MEASURED_VECTORS) for name in hook_points]
        return torch.cat(parts, dim=1)

    def encoded_BD(self, dictionary: Dictionary, fitting: bool = False) -> Tensor:
        """Return `measured_BD` of what a dictionary reads, or `fit_BD`, as it encodes them: in their context."""
        if dictionary.context is None:
            return self.fit_BD(dictionary.reads[0]) if fitting else self.measured_BD(dictionary.reads)
        blocks, purpose = (self._split.train, FITTING) if fitting else (self._split.held_out, MEASURING)
        stream = self._stream(blocks, purpose, dictionary.reads[0])
        n_vectors = self._config.dictionaries.fit_vectors if fitting else MEASURED_VECTORS
        return replace(stream, subject=_InContext(self._subject, dictionary)).sample(n_vectors)

    def ablations(self, hook_points: tuple[str, ...]) -> metrics.Ablations:
        """Return losses on held-out blocks spread evenly over the documents."""
        if hook_points not in self._ablations:
            self._ablations[hook_points] = metrics.ablations(self._subject, hook_points, self._loss_ids_NC)
        return self._ablations[hook_points]

    @cached_property
    def _loss_ids_NC(self) -> Tensor:
        ids_NC = torch.from_numpy(self._split.held_out.full().ids_NC).long()
        step = max(1, len(ids_NC) // MEASURED_BLOCKS)
        return ids_NC[::step][:MEASURED_BLOCKS].to(self._subject.device)

    def _sample(self, blocks: Blocks, purpose: str, hook_point: str, n_vectors: int) -> Tensor:
        key = (purpose, hook_point)
        if key not in self._vectors:
            self._vectors[key] = self._stream(blocks, purpose, hook_point).sample(n_vectors)
        return self._vectors[key]

    def _stream(self, blocks: Blocks, purpose: str, hook_point: str) -> ActivationStream:
        seed = derive_seed(self._config.seed, purpose)
        return ActivationStream(
            self._subject, hook_point, Shuffled(blocks, seed), seed, self._config.runtime.batch_blocks
        )
