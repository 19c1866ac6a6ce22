"""Shares what scorers that ask a judge of many items have in common: two classes of items, and how answers are scored.

Detection and fuzzing (delphi; Paulo et al. 2024) show texts; the judge says of each whether the explanation fits it.
The score is balanced accuracy, (TPR + TNR) / 2, with precision, recall and F1 beside it, and AUROC where
probabilities are asked for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Generic, TypeVar

from pydantic import Field

from autointerp import judges
from autointerp.judges import YesNo
from autointerp.llm.types import LLMTask
from autointerp.parts import I
from autointerp.records import Explanation, FeatureRecord, Judgement
from autointerp.scorers import Scored, Scorer
from autointerp.scorers.agreement import auroc, confusion_scores
from autointerp.scorers.fragments import Labelled, MarkedText, generator, labelled
from sae.common.settings import Section

if TYPE_CHECKING:
    from autointerp.config import Config

T = TypeVar("T")


class GradedSettings(Section):
    """Sets whether answers come with probabilities."""

    logprobs: Annotated[bool, I] = False
    """Also ask for probabilities and report AUROC: a language model's log-probabilities (not anthropic/...), or how
    strongly rules predict it."""


class TextsSettings(GradedSettings):
    """Sets how texts are put to the judge."""

    texts: Annotated[int, I, Field(gt=0)] = 5
    """Texts per question."""


@dataclass(frozen=True)
class Classes(Generic[T]):
    """Holds items of two classes by their index: those to which the true explanation says yes, and the others."""

    yes: Mapping[int, T]
    no: Mapping[int, T]


class YesNoScorer(Scorer, YesNo[T]):
    """Asks the judge about the items of a feature in random order; scores how well it tells the two classes apart.

    Args:
        per_request: items that a language model is asked about at once.
        graded: whether to report AUROC.
        rate: the share of items whose right answer is yes.
    """

    bounds = (0.0, 1.0)
    stream: ClassVar[str]
    """Name of its random stream."""

    def __init__(self, config: Config, per_request: int, graded: bool, rate: float) -> None:
        super().__init__(config)
        self.per_request, self.graded = per_request, graded
        self._judge = judges.make(config, self)
        self.prompts, self.models = self._judge.prompts, self._judge.models
        always = 2 * rate / (1 + rate)  # F1 of answering "yes" to everything
        levels = {"": 0.5, "/precision": rate, "/recall": None, "/f1": always}
        levels |= {"/auroc": 0.5} if graded else {}
        self.chances = {self.name + detail: level for detail, level in levels.items()}

    @abstractmethod
    def classes(self, feature: FeatureRecord) -> Classes[T]:
        """Return the items to ask about."""

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        """Score by the judge's answers; where a class is empty nothing is asked, and nothing defined."""
        asked = self.classes(feature)
        if not asked.yes or not asked.no:
            return Scored(dict.fromkeys(self.chances))
        items = {**asked.yes, **asked.no}
        order = generator(self.config.seed, self.stream, feature.id).permutation(list(items)).tolist()
        verdicts = yield from self._judge.fits(self, explanation.text, [items[index] for index in order])
        pairs = zip(order, verdicts, strict=True)
        judgements = tuple(Judgement(index, verdict.answer, verdict.probability) for index, verdict in pairs)
        return Scored(self._scores(asked, judgements), judgements=judgements)

    def _scores(self, asked: Classes[T], judgements: Sequence[Judgement]) -> dict[str, float | None]:
        yes = [judgement for judgement in judgements if judgement.record in asked.yes]
        no = [judgement for judgement in judgements if judgement.record in asked.no]
        measures = confusion_scores([j.answer for j in yes], [j.answer for j in no])
        scores = dict(zip(self.chances, measures, strict=False))
        if self.graded:
            sides = [[judgement.probability for judgement in side] for side in (yes, no)]
            known = None not in sides[0] + sides[1]
            positive, negative = [[p for p in side if p is not None] for side in sides]
            scores[f"{self.name}/auroc"] = auroc(positive, negative) if known else None
        return scores


class TextScorer(YesNoScorer[MarkedText]):
    """Asks about the active and the silent fragments of a feature."""

    own: ClassVar[type[TextsSettings]]
    """Its own section."""

    def __init__(self, config: Config) -> None:
        settings = config.section(self.own)
        super().__init__(config, settings.texts, settings.logprobs, base_rate(config))

    @abstractmethod
    def texts(self, shown: Labelled) -> Mapping[int, MarkedText]:
        """Return what the judge may see of every active and silent fragment, by its index among the records."""

    def classes(self, feature: FeatureRecord) -> Classes[MarkedText]:
        """Return the active fragments, whose right answer is yes, and the silent ones."""
        shown = labelled(feature.score)
        texts = self.texts(shown) if shown.active and shown.silent else {}
        sides = [{index: texts[index] for index in side if index in texts} for side in (shown.active, shown.silent)]
        return Classes(*sides)


def base_rate(config: Config) -> float:
    """Return the share of active texts among those that are judged."""
    records = config.sampling.score
    return records.n_active / (records.n_active + records.inactive)
