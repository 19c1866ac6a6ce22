"""Judges: from an explanation and items (texts, tokens) to an answer about each, as scorers ask for them.

Every file here is one judge that registers itself in JUDGES; other packages add theirs through the entry-point group
`autointerp.judges`. A judge sees what a question shows it and never an activation. Importing this loads nothing heavy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from autointerp.llm import specs
from autointerp.parts import Part
from sae.common.errors import UserError
from sae.common.registry import Registry

if TYPE_CHECKING:
    from autointerp.config import Config
    from autointerp.llm.types import LLMTask
    from autointerp.prompting.rules import Rule

T = TypeVar("T")
LANGUAGE_MODEL = "language_model"


@dataclass(frozen=True)
class Verdict:
    """Holds a judge's answer about one item."""

    answer: int
    """1 for yes, 0 for no."""
    probability: float | None = None
    """How likely yes is, from 0 to 1; None where the judge does not say."""


class Question(ABC, Generic[T]):
    """Defines what a scorer asks about items of one type, which hold all that a judge may know of them."""

    name: ClassVar[str]
    """Its prompt is prompts/scorer/NAME.yaml."""
    graded: bool = False
    """Whether answers must come with probabilities."""

    @abstractmethod
    def written(self, item: T) -> str:
        """Write an item on one line, as a language model reads it."""


class YesNo(Question[T]):
    """Asks of each item whether an explanation fits it."""

    per_request: int
    """Items that a language model is asked about at once."""

    @abstractmethod
    def by_rules(self, rules: Sequence[Rule], items: Sequence[T]) -> list[Verdict]:
        """Answer as the rules of an explanation have it, without a language model."""


class OddOneOut(Question[T]):
    """Asks which one of several items does not belong. No explanation is involved."""

    @abstractmethod
    def by_rules(self, items: Sequence[T]) -> int:
        """Return the index of the item that rules learnt from the others fit least, without a language model."""


class Judge(Part, ABC):
    """Defines a judge. `Judge(spec, config, question)` makes one for a scorer's question.

    It raises UserError if it cannot answer as the settings ask.
    """

    reads_prose: ClassVar[bool] = True
    """Whether it understands any sentence, not only those that `rules` and `token-table` write."""

    @abstractmethod
    def __init__(self, spec: str, config: Config, question: Question[Any]) -> None: ...

    @abstractmethod
    def fits(self, question: YesNo[T], explanation: str, items: Sequence[T]) -> LLMTask[list[Verdict]]:
        """Answer for each item, in order. Raises AnswerError if the explanation or an answer cannot be read."""

    @abstractmethod
    def odd_one(self, question: OddOneOut[T], items: Sequence[T]) -> LLMTask[int]:
        """Return the index of the item that does not belong. Raises AnswerError if an answer cannot be read."""


JUDGES: Registry[type[Judge]] = Registry("judge", "autointerp.judges", order=("rules", LANGUAGE_MODEL))


def make(config: Config, question: Question[Any]) -> Judge:
    """Make a run's judge for one question. Raises UserError if there is none, or if it cannot do what is asked."""
    spec = spec_of(config)
    return part_of(spec)(spec, config, question)


def spec_of(config: Config) -> str:
    """Return the config's `judge`, or its simulator if no judge is given."""
    return config.judge or config.simulator


def part_of(spec: str) -> type[Judge]:
    """Return the registered class of a judge: that of a name, or of a model's spec. Raises UserError if there is none.

    A name that looks like a spec but is not a whole one is an error too.
    """
    if specs.is_spec(spec):
        specs.parse(spec)
        return JUDGES.get(LANGUAGE_MODEL)
    names = [name for name in JUDGES.names if name != LANGUAGE_MODEL]
    if spec not in names:
        raise UserError(f"unknown judge {spec!r}; give --judge {', '.join([specs.forms(), *names])}")
    return JUDGES.get(spec)
