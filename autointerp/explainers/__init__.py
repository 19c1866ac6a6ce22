"""Explains features: from a feature's records to a sentence about it.

Every file here is one explainer that registers itself in EXPLAINERS; other packages add theirs through the entry-point
group `autointerp.explainers`. A config writes an explainer as NAME, as NAME-ARGUMENT (`rules-5`), or, for the one
called `language_model`, as the spec of a model. Importing this loads nothing heavy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from autointerp.llm import specs
from autointerp.parts import Part
from sae.common.errors import UserError
from sae.common.registry import Registry

if TYPE_CHECKING:
    from autointerp.config import Config
    from autointerp.llm.types import LLMTask
    from autointerp.records import Explanation, FeatureRecord

LANGUAGE_MODEL = "language_model"


class Explainer(Part, ABC):
    """Defines an explainer: it sees a feature's explain records (and what its decoder promotes) and nothing else.

    name: as results call it; no two explainers of a run may have the same.
    """

    name: str
    forms: ClassVar[str]
    """How a config writes it, for errors."""
    learns: ClassVar[bool] = True
    """Whether it sees the records, so that one may ask what it makes of permuted ones."""
    candidates: Mapping[str, tuple[int, ...]] = {}
    """The features that it can explain, by dictionary (see `entry_of`); empty: all."""

    @classmethod
    def of(cls, spec: str, config: Config) -> Explainer:
        """Make the explainer that a config's spec means. Raises UserError if the spec does not have its form.

        This one is for explainers whose only form is their name.
        """
        if spec != cls.forms:
            raise unknown(spec)
        return cls()

    @abstractmethod
    def explain(self, feature: FeatureRecord) -> LLMTask[Explanation]:
        """Explain a feature. Raises AnswerError if there is no explanation that can be read."""


EXPLAINERS: Registry[type[Explainer]] = Registry(
    "explainer",
    "autointerp.explainers",
    order=("rules", "token_table", "file", LANGUAGE_MODEL),
    shared=("best_of", "readers", "settings"),
)


def make(spec: str, config: Config) -> Explainer:
    """Make a run's explainer from its spec. Raises UserError if the spec has no known form."""
    if spec.partition(":")[0] == "file":
        return EXPLAINERS.get("file").of(spec, config)
    if specs.is_spec(spec):
        return EXPLAINERS.get(LANGUAGE_MODEL).of(spec, config)
    for name in (spec, spec.replace("-", "_"), spec.partition("-")[0]):
        if name in EXPLAINERS:
            return EXPLAINERS.get(name).of(spec, config)
    raise unknown(spec)


def unknown(spec: str) -> UserError:
    """Return the error for a spec that is none: it lists the forms of all explainers."""
    forms = ", ".join(part.forms for part in EXPLAINERS.all().values())
    return UserError(f"unknown explainer {spec!r}; known: {forms}")
