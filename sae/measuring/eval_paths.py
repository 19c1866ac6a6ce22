"""Does what `sae eval` does: loads dictionaries and their language models, and measures them on text.

Dictionaries of one model share its loading; those of one hook point and text share the model's passes. A dictionary
that names its training text is measured on what the training held out of it. Mistakes that show without the model
(paths, names, formats, weights) are raised before it is loaded.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sae import formats
from sae.common.files import write_atomic
from sae.common.progress import Progress, Report
from sae.common.settings import cache_folder
from sae.data import corpus
from sae.data.blocks import Blocks
from sae.dictionary import Dictionary
from sae.measuring.compare import Comparison, Studied, compare, refuse_other_tokenizer
from sae.measuring.diagnosis import Diagnosis, diagnose
from sae.measuring.eval_request import Request, Target, target_against, target_of
from sae.measuring.eval_text import Source, source_of
from sae.measuring.evaluate import Evaluation, evaluate_all
from sae.measuring.misfit import misfit
from sae.measuring.weights import refuse_non_finite
from sae.models.cache import ArtifactCache
from sae.models.device import device_with_doubles
from sae.models.loading import tokenizer_of
from sae.models.subject import Subject, boot, hub_name, refuse_longer_context

FORMAT_VERSION = 1
"""Version of the JSON file; it changes when a key changes its meaning."""


@dataclass(frozen=True)
class Text:
    """Describes the text that was read, and the device that read it."""

    corpus: str
    part: str
    """Which part of the corpus, in words."""
    context: int
    """Tokens of a block."""
    tokens: int
    seed: int
    device: str
    device_reason: str


@dataclass(frozen=True)
class Outcome:
    """Holds the measurements of one dictionary, and everything they depend on."""

    target: Target
    prepend_bos: bool
    text: Text
    evaluation: Evaluation
    comparison: Comparison | None
    diagnosis: Diagnosis | None = None
    """None: not asked for."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of the dictionary's format has to add, and whether the dictionary does not fit."""
        measured = self.evaluation
        unfit = None if self.diagnosis else misfit(measured.name, measured.kind, measured.fvu, self.target.path)
        return (*self.target.header.notes, *([unfit] if unfit else []))

    def to_json(self) -> dict[str, Any]:
        """Return the content of the JSON file; what does not exist is None."""
        return {
            "format_version": FORMAT_VERSION,
            "path": self.target.path,
            "model": self.target.model,
            "prepend_bos": self.prepend_bos,
            "processing": self.target.processing,
            "notes": list(self.notes),
            "corpus": self.text.corpus,
            "corpus_part": self.text.part,
            "context": self.text.context,
            "seed": self.text.seed,
            "device": self.text.device,
            **self.evaluation.to_json(),
            "comparison": self.comparison.to_json() if self.comparison else None,
            "diagnosis": self.diagnosis.to_json() if self.diagnosis else None,
        }

    def write(self, path: Path) -> None:
        """Write the JSON file, complete or not at all. Raises UserError if it cannot be written."""
        write_atomic(path, json.dumps(self.to_json(), indent=1, allow_nan=False, ensure_ascii=False) + "\n")


Notify = Callable[[Outcome], object]
"""Called with each outcome as soon as it is measured."""


def eval_paths(request: Request, report: Report = Progress, notify: Notify = lambda outcome: None) -> list[Outcome]:
    """Measure every dictionary of a request and return the outcomes in its order.

    Args:
        notify: called when a dictionary is measured; with `against`, again when it is compared.

    Raises UserError: an unreadable dictionary; one without a model or hook point, in its metadata or in the request;
    one of another width than its hook point; models with different tokenizers to compare; a corpus without text; a
    context that the model cannot see.
    """
    targets = [target_of(path, request) for path in request.paths]
    other = target_against(request.against, request) if request.against else None
    return _EvaluationSession(request, targets, other, report).outcomes(notify)


class _EvaluationSession:
    """Measures the dictionaries of a request; loads each model once and reads the text in each model's tokens."""

    def __init__(self, request: Request, targets: Sequence[Target], other: Target | None, report: Report) -> None:
        self._request, self._targets, self._report = request, targets, report
        self._device, self._reason = device_with_doubles(request.device, "measure", "give --device cpu")
        everyone = [*targets, other] if other else list(targets)
        loaded = [_loaded(target, request.allow_pickle) for target in everyone]
        self._sources = [source_of(one.metadata, request.corpus) for one in loaded[: len(targets)]]
        for source in self._sources:
            corpus.documents(source.corpus)  # refuses a path that does not exist
        for target in everyone if request.context else ():
            refuse_longer_context(target.model, request.context or 0, "--context")
        self._subjects: dict[str, Subject] = {}
        studied = [self._study(target, dictionary) for target, dictionary in zip(everyone, loaded, strict=True)]
        self._studied, self._against = studied[: len(targets)], studied[-1] if other else None
        if self._against:
            for one in self._studied:
                refuse_other_tokenizer(one.subject, self._against.subject)
        texts = dict.fromkeys(zip((target.subject_key for target in targets), self._sources, strict=True))
        self._blocks = {text: self._read(*text) for text in texts}

    def outcomes(self, notify: Notify) -> list[Outcome]:
        """Measure dictionaries of one model, hook point and text together, then compare each with `against`."""
        outcomes: dict[int, Outcome] = {}
        groups = [
            (target.subject_key, source, target.hook_point, target.written)
            for target, source in zip(self._targets, self._sources, strict=True)
        ]
        for group in dict.fromkeys(groups):
            members = [number for number, other in enumerate(groups) if other == group]
            for number, evaluation in zip(members, self._evaluations(members), strict=True):
                outcomes[number] = self._outcome(number, evaluation)
                notify(outcomes[number])
        for number in outcomes if self._request.diagnose else ():
            outcomes[number] = replace(outcomes[number], diagnosis=self._diagnosis(number))
            notify(outcomes[number])
        if self._against:
            for number, one in enumerate(self._studied):
                comparison = compare(one, self._against, self._blocks_of(number), self._report)
                outcomes[number] = replace(outcomes[number], comparison=comparison)
                notify(outcomes[number])
        return [outcomes[number] for number in range(len(groups))]

    def _study(self, target: Target, dictionary: Dictionary) -> Studied:
        """Return the dictionary with its model; whether they fit each other is checked before anything slow."""
        key = target.subject_key
        if key not in self._subjects:
            self._subjects[key] = boot(
                target.model, self._device, target.prepend_bos, target.processing, target.hook_points
            )
        return Studied(dictionary, self._subjects[key], target.hook_point).on_device()

    def _read(self, key: str, source: Source) -> Blocks:
        context = source.context_for(self._request.context, list(self._subjects.values()))
        artifacts = ArtifactCache(cache_folder("sae"), self._report, self._device)
        return source.read(self._subjects[key], artifacts, self._request.tokens, context)

    def _evaluations(self, members: Sequence[int]) -> list[Evaluation]:
        """Measure dictionaries of one model, hook point and text."""
        first, dictionaries = self._studied[members[0]], [self._studied[number].dictionary for number in members]
        blocks, seed, cosines = self._blocks_of(members[0]), self._request.seed, self._request.cosines
        return evaluate_all(dictionaries, first.subject, first.hook_point, blocks, self._report, seed, cosines=cosines)

    def _diagnosis(self, number: int) -> Diagnosis:
        target, studied = self._targets[number], self._studied[number]
        subject, location = studied.subject, hub_name(target.model)

        def again(processing: Mapping[str, Any]) -> Subject:
            return boot(target.model, self._device, subject.prepend_bos, processing)

        has_bos = tokenizer_of(target.model, location).bos_token_id is not None
        blocks = self._blocks_of(number)
        return diagnose(studied.dictionary, subject, blocks, again, target.processing, has_bos, self._report)

    def _blocks_of(self, number: int) -> Blocks:
        return self._blocks[self._targets[number].subject_key, self._sources[number]]

    def _outcome(self, number: int, evaluation: Evaluation) -> Outcome:
        source, blocks = self._sources[number], self._blocks_of(number)
        context, seed = blocks.ids_NC.shape[1], self._request.seed
        text = Text(source.corpus, source.part, context, blocks.n_tokens, seed, self._device, self._reason)
        return Outcome(self._targets[number], self._studied[number].subject.prepend_bos, text, evaluation, None)


def _loaded(target: Target, allow_pickle: bool) -> Dictionary:
    dictionary = formats.load(target.path, allow_pickle)
    refuse_non_finite(dictionary)
    return dictionary
