"""Loads a finished run's model and dictionaries again, and makes none. Imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from torch import Tensor

from autointerp.sampling.dictionaries import DictionaryBuilder
from autointerp.sampling.prepare import TOY, boot_subject, fitting_key, toy_folder
from sae.common.errors import UserError
from sae.common.progress import Silent
from sae.data.activation_stream import ActivationStream
from sae.dictionary import Dictionary
from sae.measuring.metrics import Ablations
from sae.models.cache import ArtifactCache
from sae.models.device import choose_device
from sae.models.subject import Subject

if TYPE_CHECKING:
    from autointerp.runs.plan import Plan


@dataclass(frozen=True)
class Reloaded:
    """Holds a run's model and all its dictionaries."""

    subject: Subject
    dictionaries: tuple[Dictionary, ...]
    context: int
    """Tokens that the model sees at once."""


def reload(plan: Plan, cache: Path, folder: Path) -> Reloaded:
    """Load the model and the dictionaries of the run that `plan` describes.

    Raises UserError if the model cannot be loaded, or if the cache lacks what the run trained or fitted: that is not
    made again here, because it could become another one.

    Args:
        plan: the run's plan.
        cache: the folder in which trained subjects and dictionaries are kept.
        folder: the run folder, for messages.
    """
    device, _ = choose_device(plan.config.runtime.device)
    artifacts, model = ArtifactCache(cache, Silent, device), str(plan.config.subject.model)
    if model == TOY:
        toy = toy_folder(plan, artifacts)
        if not toy.is_dir():
            raise _gone("the toy model", cache, folder)
        model = str(toy)
    subject = boot_subject(plan, artifacts, model)
    kept = _NoActivations(_gone("a dictionary", cache, folder))
    builder = DictionaryBuilder(plan, cache, Silent, subject, kept, fitting_key(plan))
    return Reloaded(subject, builder.reloaded(), plan.config.corpus.context)


def _gone(what: str, cache: Path, folder: Path) -> UserError:
    return UserError(
        f"{what} of {folder} is not in the cache {cache} any more; the command that made the run, with another --out, "
        "makes it again"
    )


class _NoActivations:
    """Has no activations: whatever would be trained, fitted or measured is missing from the cache."""

    def __init__(self, error: UserError) -> None:
        self._error = error

    def training(self, hook_point: str) -> ActivationStream:
        """Raise UserError."""
        self._refuse()

    def fit_BD(self, hook_point: str) -> Tensor:
        """Raise UserError."""
        self._refuse()

    def measured_BD(self, hook_points: tuple[str, ...]) -> Tensor:
        """Raise UserError."""
        self._refuse()

    def encoded_BD(self, dictionary: Dictionary, fitting: bool = False) -> Tensor:
        """Raise UserError."""
        self._refuse()

    def ablations(self, hook_points: tuple[str, ...]) -> Ablations:
        """Raise UserError."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise self._error
