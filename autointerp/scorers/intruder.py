"""Scores by intruder detection (Paulo & Belrose 2025, arXiv 2507.08473): which of n texts does not belong?

The judge sees n - 1 active texts of one quantile of the activations, their strongly active tokens marked, and one
silent text marked where some active text is. Where there are enough texts, no two questions share one. No explanation
is involved: the score is the feature's, not a sentence's.

The judge `rules` leaves each text out in turn, learns token rules from the marks of the others, as the offline
explainer does from activations, and asks fuzzing's question of the one left out: do the rules name its marks?
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from autointerp import judges
from autointerp.explainers.rules import learn
from autointerp.judges import OddOneOut
from autointerp.llm.ask import together
from autointerp.llm.types import LLMTask
from autointerp.parts import I
from autointerp.prompting import render
from autointerp.prompting.predict_text import predict_fragments
from autointerp.prompting.rules import Rule
from autointerp.records import ActivationRecord, Explanation, FeatureRecord, FeatureResult, Judgement
from autointerp.scorers import SCORERS, Needs, Scored, Scorer
from autointerp.scorers.fragments import Labelled, MarkedText, generator, labelled, marked, marked_like, spread
from autointerp.scorers.fuzzing import share_on_marks
from sae.common.settings import Section

if TYPE_CHECKING:
    from autointerp.config import Config

STREAM = "intruders"


class IntruderSettings(Section):
    """Sets how many intruder questions are asked, of how many texts."""

    questions: Annotated[int, I, Field(gt=0)] = 5
    """Questions per feature, spread evenly over the quantiles of the activations."""
    texts: Annotated[int, I, Field(gt=2)] = 5
    """Texts per question, the intruder included; chance is 1 / texts."""


class Intruder(Scorer, OddOneOut[MarkedText]):
    """Scores the share of questions in which the judge names the intruder."""

    name, colour, bounds = "intruder", "#d1495b", (0.0, 1.0)
    settings: ClassVar = {"intruder": IntruderSettings}
    needs = Needs(explanation=False, active=("score",), inactive=("score",), judge=True)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._settings, self._judge = config.section(IntruderSettings), judges.make(config, self)
        self.prompts, self.models = self._judge.prompts, self._judge.models
        self.chances = {self.name: 1 / self._settings.texts}

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        """Score one feature; undefined if its active texts are too few for one question.

        Fewer texts per question would be another chance level.
        """
        shown = labelled(feature.score)
        fellows = self._settings.texts - 1
        if len(shown.active) < fellows or not shown.silent:
            return Scored({self.name: None})
        rng = generator(self.config.seed, STREAM, feature.id)
        groups = _groups(shown, fellows)
        spread_groups = [groups[index] for index in spread(self._settings.questions, len(groups))]
        silent = rng.permutation(shown.silent).tolist()
        intruders = [silent[number % len(silent)] for number in range(self._settings.questions)]
        questions = [
            self._question(shown, group, fellows, intruder, rng)
            for group, intruder in zip(spread_groups, intruders, strict=True)
        ]
        judgements = yield from together(questions)
        return self._scored(judgements)

    def rescore(self, feature: FeatureRecord, result: FeatureResult) -> Scored:
        """Count the answers once more."""
        judgements = result.judgements.get(self.name, ())
        return self._scored(judgements) if judgements else Scored({self.name: None})

    def _scored(self, judgements: Sequence[Judgement]) -> Scored:
        score = sum(judgement.answer for judgement in judgements) / len(judgements)
        return Scored({self.name: score}, judgements=tuple(judgements))

    def _question(
        self, shown: Labelled, group: Sequence[int], fellows: int, intruder: int, rng: np.random.Generator
    ) -> LLMTask[Judgement]:
        """Make all random choices at once, so that they do not depend on the order of answers."""
        drawn = [int(index) for index in rng.choice(group, fellows, replace=False)]
        # Marked like an active text that is not shown, if there is one: then no two texts have marks in common.
        others = [index for index in shown.active if index not in drawn] or drawn
        like = shown.records[int(rng.choice(others))]
        texts = [marked(shown.records[index]) for index in drawn]
        position = int(rng.integers(self._settings.texts))
        texts.insert(position, marked_like(shown.records[intruder], like))
        return self._judged(texts, intruder, position)

    def _judged(self, texts: Sequence[MarkedText], intruder: int, position: int) -> LLMTask[Judgement]:
        answer = yield from self._judge.odd_one(self, texts)
        return Judgement(intruder, int(answer == position))

    def written(self, item: MarkedText) -> str:
        """Write text with its marks."""
        return render.marked(item.tokens, item.marked)

    def by_rules(self, items: Sequence[MarkedText]) -> int:
        """Name the text whose marks the rules of the others fit least; of equally bad ones the first.

        The intruder's position is uniformly random, so that the first of n is the intruder in one of n cases.
        """
        fits = []
        for index, item in enumerate(items):
            (predicted,) = predict_fragments(_rules_of([*items[:index], *items[index + 1 :]]), [item.tokens])
            fits.append(share_on_marks(predicted, item))
        return fits.index(min(fits))


def _rules_of(texts: Sequence[MarkedText]) -> tuple[Rule, ...]:
    """Learn rules from texts, taking a mark for activation 1 and everything else for 0."""
    return learn(tuple(map(_as_record, texts)))


def _as_record(text: MarkedText) -> ActivationRecord:
    marks = set(text.marked)
    values = tuple(float(position in marks) for position in range(len(text.tokens)))
    return ActivationRecord(text.tokens, values, document=0, source="top")


def _groups(shown: Labelled, fellows: int) -> list[list[int]]:
    """Group active texts of like strength: as many equal groups, by maximum, as have `fellows` texts each."""
    ranked = sorted(shown.active, key=lambda index: -max(shown.records[index].activations))
    count = len(ranked) // fellows
    bounds = [len(ranked) * number // count for number in range(count + 1)]
    return [ranked[start:end] for start, end in pairwise(bounds)]


SCORERS.register("intruder", Intruder)
