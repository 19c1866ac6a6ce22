"""Scores how well the explanation's own words tell the texts on which a feature is active."""

import re
from typing import Annotated, ClassVar

from autointerp.llm.types import LLMTask
from autointerp.parts import I
from autointerp.records import Explanation, FeatureRecord
from autointerp.scorers import SCORERS, Needs, Scored, Scorer
from autointerp.scorers.agreement import auroc
from autointerp.scorers.fragments import labelled
from sae.common.settings import Section


class WordOverlapSettings(Section):
    shortest: Annotated[int, I] = 4
    """Letters of the shortest word that counts."""


class WordOverlap(Scorer):
    """AUROC, active against silent fragments, of how many of the explanation's words a fragment has."""

    name, colour, chance = "word_overlap", "#7a7a7a", 0.5
    settings: ClassVar = {"word_overlap": WordOverlapSettings}
    needs = Needs(active=("score",), inactive=("score",))

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        yield from ()  # no question to a language model
        shortest = self.config.section(WordOverlapSettings).shortest
        words = {word for word in re.findall(r"\w+", explanation.text) if len(word) >= shortest}
        shown = labelled(feature.score)
        counts = [sum(token.strip() in words for token in record.tokens) for record in shown.records]
        return Scored({self.name: auroc([counts[i] for i in shown.active], [counts[i] for i in shown.silent])})


SCORERS.register("word_overlap", WordOverlap)
