"""A run's dictionaries: loaded from where the user says, trained or fitted once and kept in the cache, all measured."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autointerp.config import Config
from autointerp.sampling.inputs import Contents
from sae import formats
from sae.baselines.registry import BASELINES, Baseline, base_and_k
from sae.baselines.top_k import top_k
from sae.common.files import sha256_of, write_atomic
from sae.common.progress import Report
from sae.data.activation_stream import ActivationStream
from sae.data.blocks import Blocks
from sae.data.split import Split
from sae.data.token_source import Shuffled
from sae.dictionary import Dictionary
from sae.measuring import metrics
from sae.measuring.evaluate import placed
from sae.measuring.weights import weights_hash
from sae.models.subject import Subject
from sae.training.loop import finished, learn

MEASURED_VECTORS = 32_768
MEASURED_BLOCKS = 256


@dataclass(frozen=True)
class Measured:
    """A dictionary with what was measured of it on held-out text: l0, fvu, dead share, CE recovered (or None)."""

    dictionary: Dictionary
    metrics: dict[str, Any]


class DictionaryBuilder:
    """Makes the dictionaries of one run. `key` names all that a fitted dictionary depends on but its recipe."""

    def __init__(
        self, config: Config, contents: Contents, cache: Path, report: Report, subject: Subject, split: Split, key: str
    ) -> None:
        self._config, self._contents, self._cache, self._report, self._key = config, contents, cache, report, key
        self._subject, self._split = subject, split
        self._hook_point = str(config.subject.hook_point)

    def measured(self) -> tuple[Measured, ...]:
        """The user's dictionaries, then the trained ones, then the baselines in the config's order."""
        pairs = zip(self._config.dictionaries.load, self._contents["dictionaries"], strict=True)
        sparse = [self._loaded(path, content) for path, (_, content) in pairs] + self._trained()
        fitted: list[Measured] = []
        for baseline in self._config.dictionaries.baselines:
            if BASELINES.get(base_and_k(baseline)[0]).matched:
                fitted += [self._matched(baseline, target.dictionary) for target in sparse]
            else:
                fitted.append(self._fitted(baseline))
        return (*sparse, *fitted)

    def _loaded(self, path: str, content: str) -> Measured:
        dictionary = placed(formats.load(path), self._subject, self._hook_point)
        stored = self._cache / "metrics" / f"{self._digest(content)}.json"
        if not stored.is_file():
            write_atomic(stored, json.dumps(self._measure(dictionary)))
        return Measured(dictionary, json.loads(stored.read_text("utf-8")))

    def _trained(self) -> list[Measured]:
        """All autoencoders of the config; those not in the cache are trained together on one stream."""
        settings, seed = self._config.dictionaries, self._config.seed
        recipes = [one.model_copy(update={"name": one.label, "seed": seed + one.seed}) for one in settings.train]
        schedule = [settings.steps, settings.batch]
        folders = [self._folder([*schedule, recipe.model_dump(mode="json")]) for recipe in recipes]
        missing = [pair for pair in zip(recipes, folders, strict=True) if not pair[1].is_dir()]
        if missing:
            batches = self._stream(self._split.train, 1).batches(settings.batch)
            wanted = [recipe for recipe, _ in missing]
            learners = learn(wanted, settings.steps, batches, self._subject.device, self._report)
            for learner, (_, folder) in zip(learners, missing, strict=True):
                self._save(finished(learner).dictionary(self._hook_point, self._subject.name, {}), folder)
        return [self._open(folder) for folder in folders]

    def _fitted(self, baseline: str) -> Measured:
        """A baseline from the cache, or fitted; a top-k version is made of its base, which is fitted once."""
        base, k = base_and_k(baseline)
        recipe = [baseline, self._config.dictionaries.fit_vectors]
        if k:
            return self._kept(recipe, lambda: top_k(self._fitted(base).dictionary, k))
        return self._kept(recipe, lambda: self._fit(BASELINES.get(base)))

    def _fit(self, baseline: Baseline) -> Dictionary:
        if not baseline.reports_convergence:
            return baseline.fit(self._fit_BD, self._config.seed)
        with self._report(f"fitting {baseline.name}") as progress:
            fitted = baseline.fit(self._fit_BD, self._config.seed)
            progress.update(1, 1, None if fitted.metadata["converged"] else "stopped before it converged")
        return fitted

    def _matched(self, baseline: str, target: Dictionary) -> Measured:
        def make() -> Dictionary:
            density_F = metrics.density(target, self._fit_BD)
            return BASELINES.get(baseline).fit(self._fit_BD, self._config.seed, target, density_F)

        return self._kept([baseline, target.name, weights_hash(target), self._config.dictionaries.fit_vectors], make)

    def _kept(self, recipe: Any, make: Callable[[], Dictionary]) -> Measured:
        folder = self._folder(recipe)
        if not folder.is_dir():
            self._save(make(), folder)
        return self._open(folder)

    def _save(self, dictionary: Dictionary, folder: Path) -> None:
        here = self._placed(dictionary)
        about = {"metrics": self._measure(here), "prepend_bos": self._subject.prepend_bos}
        formats.save(
            replace(
                here,
                reads=(self._hook_point,),
                writes=(self._hook_point,),
                model=self._subject.name,
                metadata=dict(here.metadata) | about,
            ),
            folder,
        )

    def _open(self, folder: Path) -> Measured:
        dictionary = self._placed(formats.load(folder))
        return Measured(dictionary, dict(dictionary.metadata["metrics"]))

    def _measure(self, dictionary: Dictionary) -> dict[str, Any]:
        """l0, fvu, dead on vectors, CE on blocks, all of held-out text."""
        found = metrics.reconstruction(dictionary, self._measured_BD)
        losses = metrics.cross_entropy(dictionary, self._ablations)
        return {"l0": found.l0, "fvu": found.fvu, "dead": found.dead, "ce_recovered": losses.recovered}

    def _placed(self, dictionary: Dictionary) -> Dictionary:
        return dictionary.to(self._subject.device)

    def _folder(self, recipe: Any) -> Path:
        return self._cache / "dictionaries" / self._digest(recipe)

    def _digest(self, content: Any) -> str:
        return sha256_of([self._key.encode(), json.dumps(content, sort_keys=True).encode()])[:16]

    def _stream(self, blocks: Blocks, offset: int) -> ActivationStream:
        seed = 8 * self._config.seed + offset
        source = Shuffled(blocks, seed)
        return ActivationStream(self._subject, self._hook_point, source, seed, self._config.runtime.batch_blocks)

    @cached_property
    def _fit_BD(self) -> Tensor:
        return self._stream(self._split.train, 2).sample(self._config.dictionaries.fit_vectors)

    @cached_property
    def _measured_BD(self) -> Tensor:
        return self._stream(self._split.held_out, 3).sample(MEASURED_VECTORS)

    @cached_property
    def _ablations(self) -> metrics.Ablations:
        """Losses on held-out blocks spread evenly over the documents."""
        ids_NC = torch.from_numpy(self._split.held_out.full().ids_NC).long()
        step = max(1, len(ids_NC) // MEASURED_BLOCKS)
        return metrics.ablations(
            self._subject, self._hook_point, ids_NC[::step][:MEASURED_BLOCKS].to(self._subject.device)
        )
