"""Scores by examples (Paulo & Belrose 2025): are active texts nearer to known active texts than to known silent ones?

No explanation is involved. The score is the AUROC, active against silent score records, of each marked text's mean
cosine to the active explain records minus that to the silent ones.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from autointerp.llm.ask import embed
from autointerp.llm.types import EmbeddingRequest, LLMTask
from autointerp.prompting import render
from autointerp.records import Explanation, FeatureRecord
from autointerp.scorers import SCORERS, Needs, Scored, Scorer
from autointerp.scorers.agreement import auroc
from autointerp.scorers.embedding import EmbeddingSettings, unit
from autointerp.scorers.fragments import labelled, marked_texts

if TYPE_CHECKING:
    from autointerp.config import Config


class ExampleEmbedding(Scorer):
    """Scores the AUROC of nearness to texts the feature is active on. Explain and score records share no document."""

    name, colour, chance, bounds = "example_embedding", "#8d6a9f", 0.5, (0.0, 1.0)
    settings: ClassVar = {"embedding": EmbeddingSettings}
    needs = Needs(explanation=False, active=("explain", "score"), inactive=("explain", "score"), embedder=True)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.models = (config.section(EmbeddingSettings).spec,)

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        """Score one feature; undefined if either side lacks active or silent fragments."""
        known, asked = labelled(feature.explain), labelled(feature.score)
        if not all((known.active, known.silent, asked.active, asked.silent)):
            return Scored({self.name: None})
        shown = chain(marked_texts(known).values(), marked_texts(asked).values())
        texts = tuple(render.marked(text.tokens, text.marked) for text in shown)
        vectors = yield from embed(EmbeddingRequest(self.models[0], texts, self.name))
        ends = np.cumsum([len(known.active), len(known.silent), len(asked.active)])
        active_AD, silent_SD, positive_PD, negative_ND = np.split(unit(vectors), ends)
        nearness_D = active_AD.mean(0) - silent_SD.mean(0)
        return Scored({self.name: auroc((positive_PD @ nearness_D).tolist(), (negative_ND @ nearness_D).tolist())})


SCORERS.register("example_embedding", ExampleEmbedding)
