"""Shares what scorers that ask a judge of many items have in common: two classes of items, and how answers are scored.

Detection and fuzzing (delphi; Paulo et al. 2024) show texts; the judge says of each whether the explanation fits it.
The score is balanced accuracy, (TPR + TNR) / 2, with precision, recall and F1 beside it, and AUROC where
probabilities are asked for. NAME/population is the balanced accuracy on the whole text, estimated from the weighted
records: each counts as many times as the fragments it stands for; NAME/population_precision is the precision at the
text's own base rate.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Generic, TypeVar

from pydantic import Field

from autointerp import judges
from autointerp.judges import Verdict, YesNo
from autointerp.llm.types import LLMTask
from autointerp.parts import I
from autointerp.peer_faults import UNCHECKED_NEGATIVES
from autointerp.records import Explanation, FeatureRecord, FeatureResult, Judgement
from autointerp.scorers import Scored, Scorer
from autointerp.scorers.agreement import auroc, confusion_scores
from autointerp.scorers.fragments import Labelled, MarkedText, generator, labelled, labelled_weighted
from autointerp.scorers.influences import confusion_influences
from sae.common.settings import Section

if TYPE_CHECKING:
    from autointerp.config import Config
    from autointerp.statistics.clusters import Influence

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


PUBLISHED = ("", "/precision", "/recall", "/f1")
POPULATION = ("/population", "/population_precision")


@dataclass(frozen=True)
class Classes(Generic[T]):
    """Holds items of two classes by their index: those to which the true explanation says yes, and the others."""

    yes: Mapping[int, T]
    no: Mapping[int, T]
    weights: Mapping[int, float] | None = None
    """How much each item counts; None: all alike."""
    details: tuple[str, ...] = PUBLISHED
    """What its scores are called: balanced accuracy, precision, recall and F1, or the first of them."""

    @property
    def items(self) -> dict[int, T]:
        """All items; none if a class is empty, since nothing is defined then."""
        return {**self.yes, **self.no} if self.yes and self.no else {}


class YesNoScorer(Scorer, YesNo[T]):
    """Asks the judge about the items of a feature in random order; scores how well it tells the two classes apart.

    Args:
        per_request: items that a language model is asked about at once.
        graded: whether to report AUROC.
    """

    bounds = (0.0, 1.0)
    stream: ClassVar[str]
    """Name of its random stream."""

    def __init__(self, config: Config, per_request: int, graded: bool) -> None:
        super().__init__(config)
        self.per_request, self.graded = per_request, graded
        self._judge = judges.make(config, self)
        self.prompts, self.models = self._judge.prompts, self._judge.models
        self.chances = self.levels(self.rate()) | ({f"{self.name}/auroc": 0.5} if graded else {})

    def rate(self) -> float:
        """Return the share of items whose right answer is yes, as the config asks for them; by default half."""
        return 0.5

    def levels(self, rate: float) -> dict[str, float | None]:
        """Return the chance levels of its published scores where this share of the right answers is yes."""
        always = 2 * rate / (1 + rate)  # F1 of answering "yes" to everything
        levels: Sequence[float | None] = (0.5, rate, None, always)
        return {self.name + detail: level for detail, level in zip(PUBLISHED, levels, strict=True)}

    def chances_of(self, feature: FeatureRecord) -> Mapping[str, float | None]:
        """Return the chance levels at the feature's own share: a dense one can lack silent texts that are asked for."""
        published = self.samples(feature)[0]
        own = self.levels(len(published.yes) / len(published.items)) if published.items else {}
        return {**self.chances, **own}

    @abstractmethod
    def samples(self, feature: FeatureRecord) -> Sequence[Classes[T]]:
        """Return the items to ask about: the sample of the main score, and perhaps others."""

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        """Score by the judge's answers; of a sample that lacks a class nothing is asked, and nothing defined."""
        samples = self.samples(feature)
        items = {index: item for sample in samples for index, item in sample.items.items()}
        if not items:
            return Scored(dict.fromkeys(self.chances))
        order = generator(self.config.seed, self.stream, feature.id).permutation(list(items)).tolist()
        verdicts = yield from self._judge.fits(self, explanation.text, [items[index] for index in order])
        return self._scored(samples, dict(zip(order, verdicts, strict=True)))

    def rescore(self, feature: FeatureRecord, result: FeatureResult) -> Scored | None:
        """Count the answers once more; None if they are not those of the feature's items."""
        samples = self.samples(feature)
        verdicts = self._verdicts(samples, result)
        if verdicts is None:
            return None
        return self._scored(samples, verdicts) if verdicts else Scored(dict.fromkeys(self.chances))

    def _verdicts(self, samples: Sequence[Classes[T]], result: FeatureResult) -> dict[int, Verdict] | None:
        """Return the answers that a result keeps, by item; None if they are not those of all items."""
        verdicts = {one.record: Verdict(one.answer, one.probability) for one in result.judgements.get(self.name, ())}
        return verdicts if set(verdicts) == {index for sample in samples for index in sample.items} else None

    def influences(self, feature: FeatureRecord, result: FeatureResult) -> dict[str, Influence]:
        """Return how much each document moves the shares that are counted; the AUROC is none, and has no such parts."""
        samples = self.samples(feature)
        if not self.judges_records or not (verdicts := self._verdicts(samples, result)):
            return {}
        documents = [record.document for record in feature.score]
        parts = [self._influences(sample, verdicts, documents) for sample in samples]
        return {name: part for each in parts for name, part in each.items() if result.scores.get(name) is not None}

    def _influences(
        self, sample: Classes[T], verdicts: Mapping[int, Verdict], documents: Sequence[int]
    ) -> dict[str, Influence]:
        """Return the documents' influences on the scores of one sample.

        Args:
            documents: each score record's.
        """
        items = sample.items
        if not items:
            return {}
        weights = None if sample.weights is None else [sample.weights[index] for index in items]
        is_yes, called = [index in sample.yes for index in items], [bool(verdicts[index].answer) for index in items]
        parts = confusion_influences([documents[index] for index in items], is_yes, called, weights)
        return {self.name + detail: part for detail, part in zip(sample.details, parts, strict=False) if part}

    def _scored(self, samples: Sequence[Classes[T]], by_index: Mapping[int, Verdict]) -> Scored:
        scores = dict.fromkeys(self.chances) | self._graded(samples[0], by_index)
        for sample in samples:
            scores |= self._scores(sample, by_index)
        judgements = tuple(Judgement(index, v.answer, v.probability) for index, v in by_index.items())
        return Scored(scores, judgements=judgements)

    def _scores(self, sample: Classes[T], verdicts: Mapping[int, Verdict]) -> dict[str, float | None]:
        if not sample.items:
            return {}
        yes, no = ([verdicts[index].answer for index in side] for side in (sample.yes, sample.no))
        weights = None if sample.weights is None else [sample.weights[index] for index in sample.items]
        measures = confusion_scores(yes, no, weights)
        return {self.name + detail: value for detail, value in zip(sample.details, measures, strict=False)}

    def _graded(self, sample: Classes[T], verdicts: Mapping[int, Verdict]) -> dict[str, float | None]:
        """Return the AUROC; None where a probability does not exist."""
        if not self.graded or not sample.items:
            return {}
        sides = [[verdicts[index].probability for index in side] for side in (sample.yes, sample.no)]
        positive, negative = [[p for p in side if p is not None] for side in sides]
        known = len(positive) + len(negative) == len(sample.items)
        return {f"{self.name}/auroc": auroc(positive, negative) if known else None}


class TextScorer(YesNoScorer[MarkedText]):
    """Asks about the active and the silent fragments of a feature."""

    own: ClassVar[type[TextsSettings]]
    """Its own section."""

    def __init__(self, config: Config) -> None:
        settings = config.section(self.own)
        super().__init__(config, settings.texts, settings.logprobs)
        if config.sampling.score.weighted:
            levels = zip(POPULATION, (0.5, None), strict=True)
            self.chances = {**self.chances, **{self.name + detail: level for detail, level in levels}}

    def rate(self) -> float:
        """Return the share of active texts."""
        records = self.config.sampling.score
        return records.n_active / (records.n_active + records.inactive)

    @abstractmethod
    def texts(self, shown: Labelled) -> Mapping[int, MarkedText]:
        """Return what the judge may see of every active and silent fragment, by its index among the records."""

    def samples(self, feature: FeatureRecord) -> Sequence[Classes[MarkedText]]:
        """Return the active fragments, whose right answer is yes, and the silent ones; then the weighted ones' two."""
        published = self.classes(labelled(feature.score, UNCHECKED_NEGATIVES in self.config.peer_faults))
        if not self.config.sampling.score.weighted:
            return [published]
        weights = {index: record.weight for index, record in enumerate(feature.score)}
        weighted = self.classes(labelled_weighted(feature.score))
        return [published, replace(weighted, weights=weights, details=POPULATION)]

    def classes(self, shown: Labelled) -> Classes[MarkedText]:
        """Return the texts to which the right answer is yes, and the others; none if either kind is missing."""
        if not shown.active or not shown.silent:
            return Classes({}, {})
        texts = self.texts(shown)
        active, silent = ({index: texts[index] for index in side} for side in (shown.active, shown.silent))
        return Classes(active, silent)
