"""Decides the model, the hook point and the BOS setting of every dictionary that `sae eval` is to measure.

What the user asks for goes before what a dictionary's metadata says, and for the dictionary to compare with after it.
"""

import json
from dataclasses import dataclass
from typing import Any

from sae import formats
from sae.common.errors import UserError
from sae.formats.header import Header
from sae.models.hook_names import names_modules
from sae.models.subject import one_name


@dataclass(frozen=True)
class Request:
    """Says what to measure, and on which text. None stands for what a dictionary's metadata says."""

    paths: tuple[str, ...]
    """Dictionaries in any known format, on this machine or on the hub."""
    model: str | None = None
    hook_point: str | None = None
    corpus: str | None = None
    """None: the training text if the metadata names it, else the standard library. Of a training text, only the part
    that was held out is read."""
    tokens: int = 1_000_000
    """Tokens to read from the beginning of the corpus, rounded up to whole blocks; or all it has."""
    context: int | None = None
    """Tokens of a block."""
    against: str | None = None
    """Another dictionary that each of them is compared with."""
    against_model: str | None = None
    """Model of `against`; None: from its metadata, else `model`."""
    against_hook_point: str | None = None
    """Hook point of `against`; None: from its metadata, else `hook_point`."""
    prepend_bos: bool | None = None
    device: str = "auto"
    seed: int = 0
    """Draws the blocks on which cross-entropy is measured."""
    cosines: bool = True
    """Compare every decoder direction with every other."""
    allow_pickle: bool = False
    diagnose: bool = False
    """Also try why a dictionary may not fit its model (`sae.measuring.diagnosis`)."""


@dataclass(frozen=True)
class Target:
    """Names a dictionary to measure, and the model, hook point and BOS setting decided on for it."""

    path: str
    header: Header
    model: str
    hook_point: str
    """What it reads, as one label."""
    prepend_bos: bool | None

    @property
    def written(self) -> tuple[str, ...]:
        """The hook points that it writes, if they are not what it reads."""
        return () if self.header.is_autoencoder else self.header.writes

    @property
    def hook_points(self) -> tuple[str, ...]:
        """All hook points that it reads or writes."""
        return (*self.hook_point.split("+"), *self.written)

    @property
    def processing(self) -> dict[str, Any]:
        """The processing of the model's weights; none where the metadata names none."""
        return dict(self.header.processing or {})

    @property
    def subject_key(self) -> str:
        """A text that is equal for targets whose model is loaded in the same way."""
        parts = [one_name(self.model), self.prepend_bos, self.processing, names_modules(self.hook_points)]
        return json.dumps(parts, sort_keys=True)


def target_of(path: str, request: Request) -> Target:
    path = formats.pin(path)
    header = formats.peek(path, request.allow_pickle)
    hook_point = (request.hook_point if header.is_autoencoder else None) or header.hook_point
    return Target(
        path,
        header,
        _require(path, "model", request.model or header.model, "--model NAME|DIR"),
        _require(path, "hook point", hook_point, "--hook NAME"),
        header.prepend_bos if request.prepend_bos is None else request.prepend_bos,
    )


def target_against(path: str, request: Request) -> Target:
    """Return the dictionary to compare with; its metadata go before the request's model, hook point and BOS."""
    path = formats.pin(path)
    header = formats.peek(path, request.allow_pickle)
    model = request.against_model or header.model or request.model
    given = request.against_hook_point if header.is_autoencoder else None
    hook_point = given or header.hook_point or request.hook_point
    return Target(
        path,
        header,
        _require(path, "model", model, "--against-model NAME|DIR"),
        _require(path, "hook point", hook_point, "--against-hook NAME"),
        request.prepend_bos if header.prepend_bos is None else header.prepend_bos,
    )


def _require(path: str, what: str, value: str | None, flag: str) -> str:
    """Return a value. Raises UserError with the flag that gives it if there is none."""
    if not value:
        raise UserError(f"dictionary {path} names no {what}; give {flag}")
    return value
