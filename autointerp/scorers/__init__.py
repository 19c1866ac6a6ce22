"""Scores features: from score records, and mostly an explanation, to numbers, which may not exist.

Every file here is one scorer that registers itself in SCORERS; other packages add theirs through the entry-point group
`autointerp.scorers`. Importing this loads nothing heavy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from autointerp.parts import Part
from sae.common.errors import UserError
from sae.common.registry import Registry

if TYPE_CHECKING:
    from autointerp.config import Config
    from autointerp.llm.types import LLMTask
    from autointerp.records import Explanation, FeatureRecord, FeatureResult, Judgement, Simulation
    from autointerp.statistics.clusters import Influence


@dataclass(frozen=True)
class Scored:
    """Holds the scores of one feature by name, None where one is undefined, and what they were computed from."""

    scores: Mapping[str, float | None]
    simulations: tuple[Simulation, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """95% intervals of scores that are estimated from a sample of the text."""
    failed: tuple[str, ...] = ()
    """Scores that are 0 because the prediction is constant and the truth is not."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """By score: why it does not exist, where an answer that it needs cannot be read. It is not in `scores` then."""


@dataclass(frozen=True)
class Needs:
    """Lists what a scorer cannot do without; a config that lacks it is refused before anything slow starts."""

    explanation: bool = True
    """An explanation. A scorer that needs none runs once per feature, not once per explainer."""
    active: tuple[Literal["explain", "score"], ...] = ()
    """The sides whose records must have fragments on which the feature is active."""
    inactive: tuple[Literal["explain", "score"], ...] = ()
    """The sides whose records must have fragments on which the feature is silent."""
    simulator: bool = False
    """The run's simulator."""
    judge: bool = False
    """The run's judge."""
    embedder: bool = False
    """A sentence embedding model."""
    effects: bool = False
    """What ablating the features does."""


class Scorer(Part, ABC):
    """Defines a scorer. `Scorer(config)` makes one and raises UserError for settings it cannot work with."""

    name: ClassVar[str]
    """Its scores are called NAME or NAME/DETAIL."""
    needs: ClassVar[Needs] = Needs()
    colour: ClassVar[str] = "#555555"
    """For plots."""
    bounds: ClassVar[tuple[float, float] | None] = None
    """The lowest and highest value that its scores can have, within which their intervals stay; None: not known."""
    chance: ClassVar[float | None] = None
    """The chance level of its score, if it has only one; None if there is no such level."""

    judges_records: ClassVar[bool] = True
    """Whether its judgements are about score records; else they are about tokens."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.chances: Mapping[str, float | None] = {self.name: self.chance}
        """The chance level of each of its scores, by name, main score first."""

    def chances_of(self, feature: FeatureRecord) -> Mapping[str, float | None]:
        """Return the chance levels of one feature's scores, which can depend on its records; by default `chances`."""
        return self.chances

    @classmethod
    def needs_of(cls, config: Config) -> Needs:
        """Return what it needs with these settings."""
        return cls.needs

    @abstractmethod
    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        """Score one feature. Raises AnswerError if an answer is missing or cannot be read."""

    def rescore(self, feature: FeatureRecord, result: FeatureResult) -> Scored | None:
        """Score once more from the answers that a result keeps; None (the default) where they are not enough."""
        return None

    def influences(self, feature: FeatureRecord, result: FeatureResult) -> Mapping[str, Influence]:
        """Return how much each document moves each score of a result, by name; a score without such parts is absent.

        Where a score has none, which is the default, its intervals are over features only.
        """
        return {}


SCORERS: Registry[type[Scorer]] = Registry(
    "scorer",
    "autointerp.scorers",
    order=(
        "simulation", "detection", "fuzzing", "intruder", "logits", "effect", "embedding", "example_embedding",
        "surprisal",
    ),
    shared=("agreement", "fragments", "influences", "judging", "population", "slices", "tokens"),
)  # fmt: skip


def make(name: str, config: Config) -> Scorer:
    """Make a run's scorer by name. Raises UserError if there is none, or if the config lacks what it needs."""
    part = SCORERS.get(name)
    _check_records(part, config)
    return part(config)


def _check_records(part: type[Scorer], config: Config) -> None:
    """Raise UserError if a side lacks fragments on which features are active, or silent, or if none is ablated."""
    needs = part.needs_of(config)
    for side in needs.inactive:
        if not getattr(config.sampling, side).inactive:
            raise UserError(f"{part.name} needs texts on which features are silent; set sampling.{side}.inactive=10")
    if needs.effects and not config.sampling.effects:
        raise UserError(f"{part.name} needs features to be ablated on held-out text; set sampling.effects=5")
    for side in needs.active:
        if not getattr(config.sampling, side).n_active:
            raise UserError(f"{part.name} needs texts on which features are active; set sampling.{side}.quantile=10")
