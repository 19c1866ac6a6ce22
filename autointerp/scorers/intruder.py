"""Scores by intruder detection (Paulo & Belrose 2025, arXiv 2507.08473): which of n texts does not belong?

The judge sees n - 1 active texts of one quantile of the activations, their active tokens marked, and one silent text
marked where some active text is active. No explanation is involved: the score is the feature's, not a sentence's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from autointerp.llm.ask import ask, together
from autointerp.llm.types import Completion, LLMTask, Request
from autointerp.parts import I
from autointerp.prompting import parse, templates
from autointerp.records import Explanation, FeatureRecord, Judgement
from autointerp.scorers import SCORERS, Needs, Scored, Scorer
from autointerp.scorers.fragments import Labelled, generator, labelled, marked, marked_like, spread
from autointerp.scorers.judging import JudgementSettings, judge_of
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


class Intruder(Scorer):
    """Scores the share of questions in which the judge names the intruder."""

    name, colour, bounds = "intruder", "#d1495b", (0.0, 1.0)
    settings: ClassVar = {"intruder": IntruderSettings, "judgement": JudgementSettings}
    needs = Needs(explanation=False, active=("score",), inactive=("score",), judge=True)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._judge = judge_of(config)
        self._settings, self._judgement = config.section(IntruderSettings), config.section(JudgementSettings)
        self._prompt = templates.load("scorer/intruder")
        self.prompts = (self._prompt, templates.load("again"))
        self.models = (self._judge.text,)
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
        questions = [self._question(shown, group, fellows, rng) for group in spread_groups]
        judgements = yield from together(questions)
        score = sum(judgement.answer for judgement in judgements) / len(judgements)
        return Scored({self.name: score}, judgements=tuple(judgements))

    def _question(
        self, shown: Labelled, group: Sequence[int], fellows: int, rng: np.random.Generator
    ) -> LLMTask[Judgement]:
        """Make all random choices at once, so that they do not depend on the order of answers."""
        drawn = [int(index) for index in rng.choice(group, fellows, replace=False)]
        intruder = int(rng.choice(shown.silent))
        # Marked like an active text that is not shown, if there is one: then no two texts have marks in common.
        others = [index for index in shown.active if index not in drawn] or drawn
        like = shown.records[int(rng.choice(others))]
        texts = [marked(shown.records[index]) for index in drawn]
        position = int(rng.integers(self._settings.texts))
        texts.insert(position, marked_like(shown.records[intruder], like))
        return self._ask(texts, intruder, position)

    def _ask(self, texts: Sequence[str], intruder: int, position: int) -> LLMTask[Judgement]:
        numbers = list(range(1, len(texts) + 1))
        schema = {
            "type": "object",
            "properties": {"intruder": {"type": "integer", "enum": numbers}},
            "required": ["intruder"],
            "additionalProperties": False,
        }
        request = Request(
            model=self._judge.text,
            messages=self._prompt.conversation([], {"texts": texts}),
            max_tokens=50 + self._judgement.reasoning_tokens,
            temperature=self._judgement.temperature,
            schema=json.dumps(schema) if self._judge.has_schema else None,
            static=1,
            stage=self.name,
            example=Completion('{"intruder": 1}'),
        )
        answer = yield from ask(request, lambda completion: parse.one_of(completion.text, len(texts)), templates.again)
        return Judgement(intruder, int(answer == position))


def _groups(shown: Labelled, fellows: int) -> list[list[int]]:
    """Group active texts of like strength: as many equal groups, by maximum, as have `fellows` texts each."""
    ranked = sorted(shown.active, key=lambda index: -max(shown.records[index].activations))
    count = len(ranked) // fellows
    bounds = [len(ranked) * number // count for number in range(count + 1)]
    return [ranked[start:end] for start, end in pairwise(bounds)]


SCORERS.register("intruder", Intruder)
