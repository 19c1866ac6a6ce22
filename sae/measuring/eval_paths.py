"""What `sae eval` does: dictionaries on disk are placed at their models' hook points, and measured on text.

Dictionaries of one model share its loading, those of one hook point and text its passes. One that says what it was
trained on is measured on what was held out of that. Mistakes that can be seen without the model (paths, names, formats,
weights) are raised before it is loaded. Knows nothing about printing.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sae import formats
from sae.common.errors import UserError
from sae.common.files import write_atomic
from sae.common.progress import Progress, Report
from sae.common.settings import cache_folder
from sae.data import corpus
from sae.data.blocks import Blocks
from sae.dictionary import Dictionary
from sae.formats.header import Header
from sae.measuring.compare import Comparison, Studied, compare, refuse_other_tokenizer
from sae.measuring.eval_text import Source, source_of
from sae.measuring.evaluate import Evaluation, evaluate_all
from sae.measuring.weights import refuse_non_finite
from sae.models.cache import ArtifactCache
from sae.models.subject import Subject, boot, device_with_doubles, one_name

FORMAT_VERSION = 1
"""Of the JSON file: changes when a key changes its meaning."""


@dataclass(frozen=True)
class Request:
    """What to measure, on which text.

    paths: dictionaries in any known format. model, hook_point, prepend_bos: instead of what they say of themselves.
    corpus: instead of the one they were trained on. Of that one, only what was held out is measured on.
    tokens: about so many from the corpus' beginning (whole blocks), or all it has. context: tokens of a block.
    against: another dictionary that each of them is compared with; `against_model` and `against_hook_point` are
        instead of what it says of itself, `model` and `hook_point` where it says nothing.
    seed: chooses the blocks of the cross-entropy. cosines: of every decoder direction with every other.
    """

    paths: tuple[str, ...]
    model: str | None = None
    hook_point: str | None = None
    corpus: str | None = None
    tokens: int = 1_000_000
    context: int | None = None
    against: str | None = None
    against_model: str | None = None
    against_hook_point: str | None = None
    prepend_bos: bool | None = None
    device: str = "auto"
    seed: int = 0
    cosines: bool = True
    allow_pickle: bool = False


@dataclass(frozen=True)
class Place:
    """Where a dictionary is to be studied: its own account, and the model, hook point and BOS that were settled on."""

    path: str
    header: Header
    model: str
    hook_point: str
    prepend_bos: bool | None

    @property
    def processing(self) -> dict[str, Any]:
        """Of the model's weights; none where the dictionary does not say."""
        return dict(self.header.processing or {})

    @property
    def subject_key(self) -> str:
        """The same for places whose model is loaded in the same way."""
        return json.dumps([one_name(self.model), self.prepend_bos, self.processing], sort_keys=True)


@dataclass(frozen=True)
class Text:
    """What was read: the corpus' spec, which part, the tokens of a block and in all; the device, and why that one."""

    corpus: str
    part: str
    context: int
    tokens: int
    seed: int
    device: str
    device_reason: str


@dataclass(frozen=True)
class Outcome:
    """One dictionary's measurements and all they depend on."""

    place: Place
    prepend_bos: bool
    text: Text
    evaluation: Evaluation
    comparison: Comparison | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of its format has to say."""
        return tuple(getattr(self.place.header, "notes", ()))

    def to_json(self) -> dict[str, Any]:
        """The content of the JSON file; what does not exist is None."""
        return {
            "format_version": FORMAT_VERSION,
            "path": self.place.path,
            "model": self.place.model,
            "prepend_bos": self.prepend_bos,
            "processing": self.place.processing,
            "notes": list(self.notes),
            "corpus": self.text.corpus,
            "corpus_part": self.text.part,
            "context": self.text.context,
            "seed": self.text.seed,
            "device": self.text.device,
            **self.evaluation.to_json(),
            "comparison": self.comparison.to_json() if self.comparison else None,
        }

    def write(self, path: Path) -> None:
        """Put the JSON file there, whole. Raises UserError if that cannot be."""
        write_atomic(path, json.dumps(self.to_json(), indent=1, allow_nan=False, ensure_ascii=False) + "\n")


Tell = Callable[[Outcome], object]
"""Called with each outcome as soon as it is there."""


def eval_paths(request: Request, report: Report = Progress, tell: Tell = lambda outcome: None) -> list[Outcome]:
    """Measure every dictionary of a request, in its order.

    Args:
        tell: hears of every dictionary when it is measured; with `against`, again when it is compared.

    Raises UserError: an unreadable dictionary, one that names no model or hook point and is given none, one of another
    width, models of different tokenizers to compare, a corpus without text, a context the model cannot see.
    """
    places = [_place(path, request) for path in request.paths]
    other = _place_against(request.against, request) if request.against else None
    return _Bench(request, places, other, report).outcomes(tell)


class _Bench:
    """The dictionaries of a request, their models, each loaded once, and the texts in the tokens of each."""

    def __init__(self, request: Request, places: Sequence[Place], other: Place | None, report: Report) -> None:
        self._request, self._places, self._report = request, places, report
        self._device, self._reason = device_with_doubles(request.device, "measure", "give --device cpu")
        everyone = [*places, other] if other else list(places)
        loaded = [_loaded(place, request.allow_pickle) for place in everyone]
        self._sources = [source_of(one.metadata, request.corpus) for one in loaded[: len(places)]]
        for source in self._sources:
            corpus.documents(source.corpus)  # refuses a path that is not there
        self._subjects: dict[str, Subject] = {}
        studied = [self._study(place, dictionary) for place, dictionary in zip(everyone, loaded, strict=True)]
        self._studied, self._against = studied[: len(places)], studied[-1] if other else None
        if self._against:
            for one in self._studied:
                refuse_other_tokenizer(one.subject, self._against.subject)
        texts = dict.fromkeys(zip((place.subject_key for place in places), self._sources, strict=True))
        self._blocks = {text: self._read(*text) for text in texts}

    def outcomes(self, tell: Tell) -> list[Outcome]:
        found: dict[int, Outcome] = {}
        sites = [
            (place.subject_key, source, place.hook_point)
            for place, source in zip(self._places, self._sources, strict=True)
        ]
        for site in dict.fromkeys(sites):
            members = [number for number, at in enumerate(sites) if at == site]
            for number, evaluation in zip(members, self._evaluations(members), strict=True):
                found[number] = self._outcome(number, evaluation)
                tell(found[number])
        if self._against:
            for number, one in enumerate(self._studied):
                comparison = compare(one, self._against, self._blocks_of(number), self._report)
                found[number] = replace(found[number], comparison=comparison)
                tell(found[number])
        return [found[number] for number in range(len(sites))]

    def _study(self, place: Place, dictionary: Dictionary) -> Studied:
        """The dictionary and its model, checked to fit each other before anything slow."""
        key = place.subject_key
        if key not in self._subjects:
            self._subjects[key] = boot(place.model, self._device, place.prepend_bos, place.processing)
        return Studied(dictionary, self._subjects[key], place.hook_point).placed()

    def _read(self, key: str, source: Source) -> Blocks:
        context = source.context_for(self._request.context, list(self._subjects.values()))
        artifacts = ArtifactCache(cache_folder("sae"), self._report, self._device)
        return source.read(self._subjects[key], artifacts, self._request.tokens, context)

    def _evaluations(self, members: Sequence[int]) -> list[Evaluation]:
        """Of dictionaries of one model, hook point and text."""
        site, dictionaries = self._studied[members[0]], [self._studied[number].dictionary for number in members]
        blocks, seed, cosines = self._blocks_of(members[0]), self._request.seed, self._request.cosines
        return evaluate_all(dictionaries, site.subject, site.hook_point, blocks, self._report, seed, cosines=cosines)

    def _blocks_of(self, number: int) -> Blocks:
        return self._blocks[self._places[number].subject_key, self._sources[number]]

    def _outcome(self, number: int, evaluation: Evaluation) -> Outcome:
        source, blocks = self._sources[number], self._blocks_of(number)
        context, seed = blocks.ids_NC.shape[1], self._request.seed
        text = Text(source.corpus, source.part, context, blocks.n_tokens, seed, self._device, self._reason)
        return Outcome(self._places[number], self._studied[number].subject.prepend_bos, text, evaluation, None)


def _loaded(place: Place, allow_pickle: bool) -> Dictionary:
    dictionary = formats.load(place.path, allow_pickle)
    refuse_non_finite(dictionary)
    return dictionary


def _place(path: str, request: Request) -> Place:
    header = formats.peek(path, request.allow_pickle)
    if header.reads != header.writes or len(header.reads) > 1:
        raise UserError(
            f"dictionary {path} reads {', '.join(header.reads)} and writes {', '.join(header.writes)}; only "
            "dictionaries that read and write one hook point can be measured"
        )
    return Place(
        path,
        header,
        _settled(path, "model", request.model or header.model, "--model NAME|DIR"),
        _settled(path, "hook point", request.hook_point or header.hook_point, "--hook NAME"),
        header.prepend_bos if request.prepend_bos is None else request.prepend_bos,
    )


def _place_against(path: str, request: Request) -> Place:
    """Here the request's model, hook point and BOS only stand in for what the dictionary does not say."""
    header = formats.peek(path, request.allow_pickle)
    model = request.against_model or header.model or request.model
    hook_point = request.against_hook_point or header.hook_point or request.hook_point
    return Place(
        path,
        header,
        _settled(path, "model", model, "--against-model NAME|DIR"),
        _settled(path, "hook point", hook_point, "--against-hook NAME"),
        request.prepend_bos if header.prepend_bos is None else header.prepend_bos,
    )


def _settled(path: str, what: str, value: str | None, flag: str) -> str:
    if not value:
        raise UserError(f"dictionary {path} names no {what}; give {flag}")
    return value
