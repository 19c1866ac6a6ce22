"""Finds out why a dictionary does not fit its model: measures its FVU again, with each likely cause taken away.

FVU above 1 is worse than predicting the mean. The causes, each tried by itself: the BOS token, the scale of the
activations, the layer, and the processing of the model's weights (a folded layer norm, centred weights).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np

from sae.common.errors import UserError
from sae.common.progress import Report, Silent
from sae.data.blocks import Blocks
from sae.dictionary import Dictionary, Normalisation
from sae.formats.changes import NONE, can_be_scaled, flags_of, scaled
from sae.measuring.evaluate import batches_of, inputs, side_by_side
from sae.measuring.metrics import Fidelity, Spread
from sae.models.hook_names import names_modules
from sae.models.subject import Subject

TOKENS = 16_384
"""Tokens on which every cause is tried."""
LESS = 0.5
"""A cause is named if the FVU without it is at most this share of the FVU as given, and below 1."""
EQUAL = 1.01
"""FVUs within this factor of each other count as equal: of two ways to the same activations, the simpler is named."""
PROCESSINGS: dict[str, tuple[str, ...]] = {
    "its weights as they are": (),
    "a folded layer norm": ("fold_ln",),
    "centred weights": ("center_writing_weights",),
    "a folded layer norm and centred weights": ("fold_ln", "center_writing_weights"),
}
"""Ways of loading a model that dictionaries are often trained under."""
MOST = 11
"""Trials, if all can be made."""
Boot = Callable[[Mapping[str, Any]], Subject]
"""Boots the same model under another processing of its weights."""


@dataclass(frozen=True)
class Trial:
    """Holds the FVU with one cause taken away."""

    cause: str
    tried: str
    """What was done otherwise, in words."""
    fvu: float | None
    """None: it could not be tried; `tried` says why."""
    options: str = ""
    """What to give to `command`."""
    command: Literal["eval", "convert"] = "convert"


@dataclass(frozen=True)
class Diagnosis:
    """Holds the FVU as given and that of every trial."""

    name: str
    fvu: float
    trials: tuple[Trial, ...]
    tokens: int

    @property
    def best(self) -> Trial | None:
        """The first trial whose FVU is about the lowest, if it names a cause."""
        lowest = min((trial.fvu for trial in self.trials if trial.fvu is not None), default=np.inf)
        if lowest >= min(1.0, LESS * self.fvu):
            return None
        return next(trial for trial in self.trials if trial.fvu is not None and trial.fvu <= EQUAL * lowest)

    def command(self, path: str) -> str | None:
        """Return the command that takes the best trial's cause away; None if there is none."""
        best = self.best
        if best is None or not best.options:
            return None
        out = ["OUT"] if best.command == "convert" else []
        return f"{shlex.join(['sae', best.command, path, *out])} {best.options}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON object."""
        return asdict(self) | {"best": asdict(self.best) if self.best else None}


class Norms(NamedTuple):
    """Holds the mean of |x| of what is read and of |y| of what is written."""

    read: float
    written: float


def diagnose(
    dictionary: Dictionary,
    subject: Subject,
    blocks: Blocks,
    boot: Boot,
    processing: Mapping[str, Any],
    has_bos: bool,
    report: Report = Silent,
) -> Diagnosis:
    """Try every cause.

    Args:
        dictionary: on the subject's device, with its hook points.
        blocks: the text; its first `TOKENS` tokens are read.
        boot: boots the same model under another processing of its weights than the subject's, `processing`.
        has_bos: the model's own tokenizer has a BOS token.

    Raises UserError if the dictionary has no reconstruction, or the activations do not vary.
    """
    if dictionary.is_part:
        raise UserError(
            f"{dictionary.name} is one layer of a cross-layer transcoder, which has no FVU; give its folder"
        )
    text = _first(blocks, subject.max_context - 1)
    given, norms = _measured(dictionary, subject, text)
    if given is None:
        raise UserError(f"the activations at {'+'.join(dictionary.writes)} do not vary on this text; give more text")
    trials: list[Trial] = []
    with report(f"trying causes of {dictionary.name}") as progress:
        for trial in chain(
            _bos(dictionary, subject, text, has_bos),
            _scales(dictionary, subject, text, norms),
            _layers(dictionary, subject, text),
            _processings(dictionary, text, boot, processing),
        ):
            trials.append(trial)
            progress.update(len(trials), MOST)
    return Diagnosis(dictionary.name, given, tuple(trials), text.n_tokens)


def _bos(dictionary: Dictionary, subject: Subject, text: Blocks, has_bos: bool) -> Iterator[Trial]:
    if not has_bos:
        yield Trial("BOS token", "the tokenizer has no BOS token", None)
        return
    other = replace(subject, prepend_bos=not subject.prepend_bos)
    tried, flag = ("with a BOS token", "--bos") if other.prepend_bos else ("without a BOS token", "--no-bos")
    yield Trial("BOS token", tried, _measured(dictionary, other, text)[0], flag, "eval")


def _scales(dictionary: Dictionary, subject: Subject, text: Blocks, norms: Norms) -> Iterator[Trial]:
    """Scale what is read by one factor, and what is written by one; or an autoencoder's vectors, each by its own."""
    if not can_be_scaled(dictionary):
        yield Trial("scale", "it normalises each vector itself, or no scale can be folded into it", None)
        return
    transcodes = dictionary.reads != dictionary.writes
    root_in, root_out = dictionary.d_in**0.5 / norms.read, dictionary.d_out**0.5 / norms.written
    factors = {
        "activations scaled to norm sqrt(d) on average": (root_in, root_out),
        "activations scaled to norm 1 on average": (1 / norms.read, 1 / norms.written),
        "the opposite of scaling to norm sqrt(d)": (1 / root_in, 1 / root_out),
    }
    for tried, (read, written) in factors.items():
        options = f"--input-scale {read:.4g}" + (f" --output-scale {written:.4g}" if transcodes else "")
        yield Trial("scale", tried, _measured(scaled(dictionary, read, written), subject, text)[0], options)
    kinds: dict[str, Normalisation] = {
        "every vector scaled to norm sqrt(d)": "constant_norm_rescale",
        "every vector to mean 0 and deviation 1": "layer_norm",
    }
    for tried, kind in kinds.items() if not transcodes else ():
        each = replace(dictionary, normalisation=kind)
        yield Trial("scale", tried, _measured(each, subject, text)[0], f"--normalisation {kind}")


def _layers(dictionary: Dictionary, subject: Subject, text: Blocks) -> Iterator[Trial]:
    for step, tried in ((-1, "one layer earlier"), (1, "one layer later")):
        reads, writes = (tuple(_moved(name, step) for name in names) for names in (dictionary.reads, dictionary.writes))
        if reads == dictionary.reads or not {*reads, *writes} <= set(subject.hook_points):
            yield Trial("layer", f"{tried}: there is none", None)
            continue
        moved = replace(dictionary, reads=reads, writes=writes)
        fvu, options = _measured(moved, subject, text)[0], f"--hook {reads[0]}" if dictionary.is_autoencoder else ""
        yield Trial("layer", f"{tried}, {'+'.join(reads)}", fvu, options, "eval")


def _processings(dictionary: Dictionary, text: Blocks, boot: Boot, processing: Mapping[str, Any]) -> Iterator[Trial]:
    if names_modules((*dictionary.reads, *dictionary.writes)):
        yield Trial("processing", "transformers' modules are read, whose weights nothing processes", None)
        return
    now = {name for name, value in processing.items() if value}
    for tried, names in PROCESSINGS.items():
        if {*names} == now:
            continue
        subject = boot(flags_of(names))
        options = " ".join(f"--processing {name}" for name in names or [NONE])
        yield Trial("processing", f"the model with {tried}", _measured(dictionary, subject, text)[0], options)


def _measured(dictionary: Dictionary, subject: Subject, text: Blocks) -> tuple[float | None, Norms]:
    """Return the FVU and the norms of what is read and written; None if that does not vary, or overflows."""
    spread, fidelity, read, written = Spread(), Fidelity(dictionary), 0.0, 0.0
    for batch in batches_of(text, subject.device):
        acts = subject.activations_at(batch.ids_NC, (*dictionary.reads, *dictionary.writes))
        x_BD, y_BE = (side_by_side(acts, names, batch) for names in (dictionary.reads, dictionary.writes))
        spread.add(y_BE)
        fidelity.add(inputs(dictionary, acts, batch), y_BE)
        read, written = read + float(x_BD.norm(dim=1).sum()), written + float(y_BE.norm(dim=1).sum())
    norms = Norms(read / spread.tokens, written / spread.tokens)
    fvu = fidelity.reconstruction(spread).fvu
    return fvu if fvu is None or np.isfinite(fvu) else None, norms


def _first(blocks: Blocks, context: int) -> Blocks:
    """Return blocks of at most `TOKENS` tokens, each short enough for a BOS token in front."""
    shorter = replace(blocks, ids_NC=blocks.ids_NC[:, :context], length_N=np.minimum(blocks.length_N, context))
    return shorter.take(shorter.length_N.cumsum() - shorter.length_N < TOKENS)


def _moved(hook_point: str, step: int) -> str:
    """Return the same hook point, or module, of another layer: its name's first number is the layer's."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", lambda number: str(int(number[0]) + step), hook_point, count=1)
