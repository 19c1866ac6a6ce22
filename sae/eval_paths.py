"""What `sae eval` does: dictionaries on disk are placed at their models' hook points, and measured on one text.

Dictionaries of one model share its loading, those of one hook point its passes. Mistakes that can be seen without
the model (paths, names, formats) are raised before it is loaded. Knows nothing about printing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sae import corpus, formats
from sae.compare import Comparison, Studied, compare, refuse_other_tokenizer
from sae.corpus import Blocks
from sae.errors import UserError
from sae.evaluate import Evaluation, evaluate_all
from sae.files import write_atomic
from sae.formats.header import Header
from sae.progress import Progress, Report
from sae.subject import Subject, boot, choose_device

FORMAT_VERSION = 1
"""Of the JSON file: changes when a key changes its meaning."""
CONTEXT = 128
"""Tokens of a block unless asked for, or fewer where a model sees fewer."""


@dataclass(frozen=True)
class Request:
    """What to measure, on which text.

    paths: dictionaries in any known format. model, hook_point: instead of what they say of themselves.
    tokens: about so many from the corpus' beginning (whole blocks), or all it has. context: tokens of a block.
    against: another dictionary that each of them is compared with; `against_model` and `against_hook_point` are
        instead of what it says of itself, `model` and `hook_point` where it says nothing.
    seed: chooses the blocks of the cross-entropy.
    """

    paths: tuple[str, ...]
    model: str | None = None
    hook_point: str | None = None
    corpus: str = "stdlib"
    tokens: int = 1_000_000
    context: int | None = None
    against: str | None = None
    against_model: str | None = None
    against_hook_point: str | None = None
    device: str = "auto"
    seed: int = 0
    allow_pickle: bool = False


@dataclass(frozen=True)
class Place:
    """Where a dictionary is to be studied: its own account, and the model and hook point that were settled on."""

    path: str
    header: Header
    model: str
    hook_point: str

    @property
    def subject_key(self) -> str:
        """The same for places whose model is loaded in the same way."""
        folder = Path(self.model).expanduser()
        model = str(folder.resolve()) if folder.is_dir() else self.model
        return json.dumps([model, self.header.prepend_bos, dict(self.header.processing)], sort_keys=True)


@dataclass(frozen=True)
class Text:
    """What was read: the corpus' spec, the tokens of a block, how many tokens in all; the device, and why that one."""

    corpus: str
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

    def to_json(self) -> dict[str, Any]:
        """The content of the JSON file; what does not exist is None."""
        return {
            "format_version": FORMAT_VERSION,
            "path": self.place.path,
            "model": self.place.model,
            "prepend_bos": self.prepend_bos,
            "processing": dict(self.place.header.processing),
            "corpus": self.text.corpus,
            "context": self.text.context,
            "seed": self.text.seed,
            "device": self.text.device,
            **self.evaluation.to_json(),
            "comparison": self.comparison.to_json() if self.comparison else None,
        }

    def write(self, path: Path) -> None:
        """Put the JSON file there, whole. Raises UserError if that cannot be."""
        write_atomic(path, json.dumps(self.to_json(), indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def eval_paths(request: Request, report: Report = Progress) -> list[Outcome]:
    """Measure every dictionary of a request, in its order.

    Raises UserError: an unreadable dictionary, one that names no model or hook point and is given none, one of another
    width, models of different tokenizers to compare, a corpus without text, a context the model cannot see.
    """
    places = [_place(path, request) for path in request.paths]
    other = _place_against(request.against, request) if request.against else None
    return _Bench(request, places, other, report).outcomes()


class _Bench:
    """The models of a request, each loaded once, and the text in the tokens of each."""

    def __init__(self, request: Request, places: Sequence[Place], other: Place | None, report: Report) -> None:
        self._request, self._places, self._report = request, places, report
        self._device, self._reason = _device(request.device)
        self._subjects: dict[str, Subject] = {}
        self._studied = [self._study(place) for place in places]
        self._against = self._study(other) if other else None
        if self._against:
            for one in self._studied:
                refuse_other_tokenizer(one.subject, self._against.subject)
        self._context = _context(request.context, list(self._subjects.values()))
        self._blocks = {key: self._read(key) for key in {place.subject_key for place in places}}

    def outcomes(self) -> list[Outcome]:
        evaluations = self._evaluations()
        return [
            Outcome(place, one.subject.prepend_bos, self._text(place), evaluation, self._comparison(place, one))
            for place, one, evaluation in zip(self._places, self._studied, evaluations, strict=True)
        ]

    def _study(self, place: Place) -> Studied:
        """The dictionary and its model, checked to fit each other before anything slow."""
        key, header = place.subject_key, place.header
        if key not in self._subjects:
            self._subjects[key] = boot(place.model, self._device, header.prepend_bos, header.processing)
        dictionary = formats.load(place.path, self._request.allow_pickle)
        return Studied(dictionary, self._subjects[key], place.hook_point).placed()

    def _read(self, key: str) -> Blocks:
        return read_blocks(self._subjects[key], self._request.corpus, self._request.tokens, self._context)

    def _evaluations(self) -> list[Evaluation]:
        """In the order of the places; those of one model and hook point in one pass."""
        sites = [(place.subject_key, place.hook_point) for place in self._places]
        found: dict[int, Evaluation] = {}
        for key, hook_point in dict.fromkeys(sites):
            members = [number for number, site in enumerate(sites) if site == (key, hook_point)]
            dictionaries = [self._studied[number].dictionary for number in members]
            blocks, seed = self._blocks[key], self._request.seed
            measured = evaluate_all(dictionaries, self._subjects[key], hook_point, blocks, self._report, seed)
            found |= dict(zip(members, measured, strict=True))
        return [found[number] for number in range(len(sites))]

    def _comparison(self, place: Place, one: Studied) -> Comparison | None:
        if self._against is None:
            return None
        return compare(one, self._against, self._blocks[place.subject_key], self._report)

    def _text(self, place: Place) -> Text:
        tokens = self._blocks[place.subject_key].n_tokens
        return Text(self._request.corpus, self._context, tokens, self._request.seed, self._device, self._reason)


def _device(wanted: str) -> tuple[str, str]:
    """`choose_device`. Raises UserError for one that is not here, or cannot sum in double precision (mps)."""
    chosen, reason = choose_device(wanted)
    try:
        torch.zeros(1, dtype=torch.float64, device=chosen)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise UserError(
            f"cannot measure on device {chosen}: {str(error).splitlines()[0]}; give --device cpu"
        ) from error
    return chosen, reason


def _place(path: str, request: Request) -> Place:
    header = formats.peek(path, request.allow_pickle)
    return Place(
        path,
        header,
        _settled(path, "model", request.model or header.model, "--model NAME|DIR"),
        _settled(path, "hook point", request.hook_point or header.hook_point, "--hook NAME"),
    )


def _place_against(path: str, request: Request) -> Place:
    """Here the request's model and hook point only stand in for what the dictionary does not say."""
    header = formats.peek(path, request.allow_pickle)
    model = request.against_model or header.model or request.model
    hook_point = request.against_hook_point or header.hook_point or request.hook_point
    return Place(
        path,
        header,
        _settled(path, "model", model, "--against-model NAME|DIR"),
        _settled(path, "hook point", hook_point, "--against-hook NAME"),
    )


def _settled(path: str, what: str, value: str | None, flag: str) -> str:
    if not value:
        raise UserError(f"dictionary {path} names no {what}; give {flag}")
    return value


def _context(wanted: int | None, subjects: Sequence[Subject]) -> int:
    """Tokens of a block. Raises UserError if some model sees fewer than asked for."""
    narrowest = min(subjects, key=lambda subject: subject.max_context)
    if wanted and wanted > narrowest.max_context:
        raise UserError(
            f"--context is {wanted}, but {narrowest.name} sees at most {narrowest.max_context} tokens; give fewer"
        )
    return wanted or min(CONTEXT, narrowest.max_context)


def read_blocks(subject: Subject, spec: str, tokens: int, context: int) -> Blocks:
    """The first blocks of a corpus in a subject's tokens, until they have so many.

    Raises UserError if it has no text.
    """
    texts = (document.text for document in corpus.documents(spec))
    blocks = corpus.to_blocks(corpus.token_ids(texts, subject.token_ids), context, tokens)
    if not blocks.n_tokens:
        raise UserError(f"corpus {spec} has no text; give a file or folder with text in it")
    before_N = blocks.length_N.cumsum() - blocks.length_N
    return blocks.take(before_N < tokens)
