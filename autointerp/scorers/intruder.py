"""Intruder detection (Paulo & Belrose 2025, arXiv 2507.08473): which of n texts does the feature not belong to?

n - 1 active texts of one quantile of the activations, their active tokens marked, and one silent text marked where some
active text is. No explanation is involved: the score is the feature's, not a sentence's. Chance is 1 / n.
"""

import json
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from autointerp.config import Judging
from autointerp.llm.ask import ask, together
from autointerp.llm.specs import ModelSpec
from autointerp.llm.types import Completion, LLMTask, Request
from autointerp.prompting import parse, render, templates
from autointerp.records import Explanation, FeatureRecord, Judgement
from autointerp.scorers import Scored
from autointerp.scorers.windows import Windows, active_tokens, generator, marked_like, spread, windows

STREAM = 213


class IntruderScorer:
    """Accuracy over `judging.intruders` questions, spread evenly over the quantiles."""

    name = "intruder"
    explained = False

    def __init__(self, judge: ModelSpec, settings: Judging, seed: int) -> None:
        self._judge, self._settings, self._seed = judge, settings, seed
        self.chances: dict[str, float | None] = {self.name: 1 / settings.intruder_texts}
        self._prompt = templates.load("scorer/intruder")
        self.prompts = (self._prompt, templates.load("again"))

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        """Undefined if there are too few active texts for one question: fewer texts would be another chance level."""
        shown = windows(feature.score)
        fellows = self._settings.intruder_texts - 1
        if len(shown.active) < fellows or not shown.silent:
            return Scored({self.name: None})
        rng = generator(self._seed, STREAM, feature.id)
        groups = _groups(shown, fellows)
        chosen = [groups[place] for place in spread(self._settings.intruders, len(groups))]
        questions = [self._question(shown, group, fellows, rng) for group in chosen]
        judgements = yield from together(questions)
        score = sum(judgement.answer for judgement in judgements) / len(judgements)
        return Scored({self.name: score}, judgements=tuple(judgements))

    def _question(
        self, shown: Windows, group: Sequence[int], fellows: int, rng: np.random.Generator
    ) -> LLMTask[Judgement]:
        """All random choices are made here, at once: they do not depend on the order of answers."""
        chosen = [int(place) for place in rng.choice(group, fellows, replace=False)]
        intruder = int(rng.choice(shown.silent))
        # Marked like an active text that is not shown, if there is one: no mark is where another one is.
        lender = [place for place in shown.active if place not in chosen] or chosen
        like = shown.records[int(rng.choice(lender))]
        texts = [render.marked(shown.records[place].tokens, active_tokens(shown.records[place])) for place in chosen]
        seat = int(rng.integers(self._settings.intruder_texts))
        texts.insert(seat, marked_like(shown.records[intruder], like))
        return self._ask(texts, intruder, seat)

    def _ask(self, texts: Sequence[str], intruder: int, seat: int) -> LLMTask[Judgement]:
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
            max_tokens=50 + self._settings.reasoning_tokens,
            temperature=self._settings.temperature,
            schema=json.dumps(schema) if self._judge.has_schema else None,
            static=1,
            stage=self.name,
            example=Completion('{"intruder": 1}'),
        )
        found = yield from ask(request, lambda completion: parse.one_of(completion.text, len(texts)), templates.again)
        return Judgement(intruder, int(found == seat))


def _groups(shown: Windows, fellows: int) -> list[list[int]]:
    """Active texts of like strength: as many equal groups, by their maxima, as have `fellows` texts each."""
    ranked = sorted(shown.active, key=lambda place: -max(shown.records[place].activations))
    count = len(ranked) // fellows
    bounds = [len(ranked) * number // count for number in range(count + 1)]
    return [ranked[start:end] for start, end in pairwise(bounds)]
