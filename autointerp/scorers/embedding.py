"""Scores by embedding (Paulo & Belrose 2025): are active texts nearer to the explanation than silent ones? Cheap, weak.

The score is the AUROC, active against silent score records, of the cosine between the embeddings of the explanation
and of each plain text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from autointerp.llm.ask import embed
from autointerp.llm.types import EmbeddingRequest, LLMTask
from autointerp.parts import I
from autointerp.prompting import render
from autointerp.records import Explanation, FeatureRecord
from autointerp.scorers import SCORERS, Needs, Scored, Scorer
from autointerp.scorers.agreement import auroc
from autointerp.scorers.fragments import labelled
from sae.common.field_types import Text
from sae.common.settings import Section

if TYPE_CHECKING:
    from autointerp.config import Config


class EmbeddingSettings(Section):
    """Names the model that embeds texts, for embedding, example_embedding and sampling.score.hard_by=embedding."""

    model: Annotated[Text, I] = "sentence-transformers/all-MiniLM-L6-v2"
    """A sentence-transformers model, by hub name or directory."""

    @property
    def spec(self) -> str:
        """The model's spec."""
        return f"embedding/{self.model}"


class Embedding(Scorer):
    """Scores the AUROC of the cosine between explanation and text."""

    name, colour, chance, bounds = "embedding", "#c08552", 0.5, (0.0, 1.0)
    settings: ClassVar = {"embedding": EmbeddingSettings}
    needs = Needs(active=("score",), inactive=("score",), embedder=True)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.models = (config.section(EmbeddingSettings).spec,)

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        """Score one feature; undefined without active or without silent fragments."""
        shown = labelled(feature.score)
        if not shown.active or not shown.silent:
            return Scored({self.name: None})
        texts = [render.plain(shown.records[index].tokens) for index in (*shown.active, *shown.silent)]
        vectors = yield from embed(EmbeddingRequest(self.models[0], (explanation.text, *texts), self.name))
        query_D, texts_TD = unit(vectors[:1])[0], unit(vectors[1:])
        cosines = (texts_TD @ query_D).tolist()
        return Scored({self.name: auroc(cosines[: len(shown.active)], cosines[len(shown.active) :])})


def unit(vectors: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Scale vectors to length one; returns [N, D]."""
    rows_ND = np.asarray(vectors, np.float64)
    unit_ND: NDArray[np.float64] = rows_ND / np.maximum(np.linalg.norm(rows_ND, axis=1, keepdims=True), 1e-12)
    return unit_ND


SCORERS.register("embedding", Embedding)
