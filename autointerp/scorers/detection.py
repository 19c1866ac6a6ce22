"""Scores by detection (delphi; Paulo et al. 2024): the judge says in which texts the feature is active.

detection/hard is the balanced accuracy with hard records instead of the inactive ones: texts on which the feature
is silent and a near feature of its dictionary is active.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, ClassVar

from autointerp.judges import Verdict
from autointerp.parts import I
from autointerp.peer_faults import PLAIN_ACCURACY
from autointerp.prompting import render
from autointerp.prompting.predict_text import predict_fragments
from autointerp.prompting.rules import Rule
from autointerp.scorers import SCORERS, Needs
from autointerp.scorers.fragments import Labelled, MarkedText, labelled_hard
from autointerp.scorers.influences import mean_influence
from autointerp.scorers.judging import PUBLISHED, Classes, TextScorer, TextsSettings

if TYPE_CHECKING:
    from autointerp.config import Config
    from autointerp.records import FeatureRecord
    from autointerp.statistics.clusters import Influence

HARD, ACCURACY = "/hard", "/accuracy"
CUT_OFF = 0.5
"""Share of the strongest rule's strength from which on rules call a text active. With any activity at all, the many
weak rules of a long explanation would call every text active."""


class DetectionSettings(TextsSettings):
    """Sets how detection asks: which texts activate the feature?"""

    accuracy: Annotated[bool, I] = False
    """Make the share of right answers the main score (SAEBench), detection/accuracy. Its chance level is that of always
    giving the commoner answer."""


class Detection(TextScorer):
    """Shows plain texts."""

    name, colour, stream, own = "detection", "#30638e", "order of detection", DetectionSettings
    settings: ClassVar = {"detection": DetectionSettings}
    needs = Needs(active=("score",), inactive=("score",), judge=True)

    def __init__(self, config: Config) -> None:
        self._is_without_chance = PLAIN_ACCURACY in config.peer_faults
        self._has_accuracy = config.section(DetectionSettings).accuracy or self._is_without_chance
        super().__init__(config)
        if config.sampling.score.hard:
            self.chances = {**self.chances, self.name + HARD: 0.5}

    def levels(self, rate: float) -> dict[str, float | None]:
        """Add that of the share of right answers, which comes first: always giving the commoner answer."""
        levels = super().levels(rate)
        if not self._has_accuracy:
            return levels
        return {self.name + ACCURACY: None if self._is_without_chance else max(rate, 1 - rate), **levels}

    def samples(self, feature: FeatureRecord) -> Sequence[Classes[MarkedText]]:
        """Return what all scorers of texts ask about, and the active texts with the hard ones."""
        if not self.config.sampling.score.hard:
            return super().samples(feature)
        hard = replace(self.classes(labelled_hard(feature.score)), details=(HARD,))
        return [*super().samples(feature), hard]

    def _graded(self, sample: Classes[MarkedText], verdicts: Mapping[int, Verdict]) -> dict[str, float | None]:
        """Add the share of right answers, if that is asked for."""
        scores = super()._graded(sample, verdicts)
        if not self._has_accuracy or not sample.items:
            return scores
        right = fmean(verdicts[index].answer == (index in sample.yes) for index in sample.items)
        return {**scores, self.name + ACCURACY: right}

    def _influences(
        self, sample: Classes[MarkedText], verdicts: Mapping[int, Verdict], documents: Sequence[int]
    ) -> dict[str, Influence]:
        """Add those on the share of right answers, which is of the first sample."""
        parts = super()._influences(sample, verdicts, documents)
        if not self._has_accuracy or not sample.items or sample.details != PUBLISHED:
            return parts
        right = [float(verdicts[index].answer == (index in sample.yes)) for index in sample.items]
        return {**parts, self.name + ACCURACY: mean_influence([documents[index] for index in sample.items], right)}

    def texts(self, shown: Labelled) -> Mapping[int, MarkedText]:
        """Return the fragments without marks."""
        return {index: MarkedText(shown.records[index].tokens) for index in (*shown.active, *shown.silent)}

    def written(self, item: MarkedText) -> str:
        """Write plain text."""
        return render.plain(item.tokens)

    def by_rules(self, rules: Sequence[Rule], items: Sequence[MarkedText]) -> list[Verdict]:
        """Call a text active if its largest predicted activation is at least half the strongest rule's strength.

        That share is the probability; exactly half counts as active. Without rules nothing is.
        """
        strongest = max((rule.strength for rule in rules), default=0.0)
        largest = [max(values, default=0.0) for values in predict_fragments(rules, [item.tokens for item in items])]
        shares = [value / strongest if strongest > 0 else 0.0 for value in largest]
        return [Verdict(int(share >= CUT_OFF), share) for share in shares]


SCORERS.register("detection", Detection)
