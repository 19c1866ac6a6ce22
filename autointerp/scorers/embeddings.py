"""Scores from sentence embeddings: cheap, and weak signals beside a judge's (Paulo & Belrose 2025).

`embedding`: cosine between the explanation and each plain text. `example_embedding`, without an explanation: of each
marked text, its mean cosine to the active explain records minus that to the silent ones. Either way the score is the
AUROC of active against silent score records.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from autointerp.llm.ask import embed
from autointerp.llm.types import EmbeddingRequest, LLMTask
from autointerp.prompting import render
from autointerp.prompting.templates import Prompt
from autointerp.records import Explanation, FeatureRecord
from autointerp.scorers import Scored
from autointerp.scorers.windows import Windows, active_tokens, auroc, lenders, marked_like, windows


class EmbeddingScorer:
    """AUROC of the cosine between explanation and text."""

    name = "embedding"
    explained = True
    chances: Mapping[str, float | None] = {"embedding": 0.5}
    prompts: tuple[Prompt, ...] = ()

    def __init__(self, model: str) -> None:
        self._model = f"embedding/{model}"

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        shown = windows(feature.score)
        if not shown.active or not shown.silent:
            return Scored({self.name: None})
        texts = [render.plain(shown.records[place].tokens) for place in (*shown.active, *shown.silent)]
        vectors = yield from embed(EmbeddingRequest(self._model, (explanation.text, *texts), self.name))
        query_D, texts_TD = _unit(vectors[:1])[0], _unit(vectors[1:])
        cosines = (texts_TD @ query_D).tolist()
        return Scored({self.name: auroc(cosines[: len(shown.active)], cosines[len(shown.active) :])})


class ExampleEmbeddingScorer:
    """AUROC of the nearness to texts the feature is active on. Explain and score records share no document."""

    name = "example_embedding"
    explained = False
    chances: Mapping[str, float | None] = {"example_embedding": 0.5}
    prompts: tuple[Prompt, ...] = ()

    def __init__(self, model: str) -> None:
        self._model = f"embedding/{model}"

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        known, asked = windows(feature.explain), windows(feature.score)
        if not all((known.active, known.silent, asked.active, asked.silent)):
            return Scored({self.name: None})
        groups = [group for shown in (known, asked) for group in _marked(shown)]
        vectors = yield from embed(EmbeddingRequest(self._model, tuple(chain(*groups)), self.name))
        ends = np.cumsum([len(group) for group in groups])[:-1]
        active_AD, silent_SD, positive_PD, negative_ND = np.split(_unit(vectors), ends)
        nearness = active_AD.mean(0) - silent_SD.mean(0)
        return Scored({self.name: auroc((positive_PD @ nearness).tolist(), (negative_ND @ nearness).tolist())})


def _marked(shown: Windows) -> tuple[list[str], list[str]]:
    """Active texts with their active tokens marked, silent ones marked like one of those."""
    active = [render.marked(shown.records[i].tokens, active_tokens(shown.records[i])) for i in shown.active]
    return active, [marked_like(shown.records[i], like) for i, like in zip(shown.silent, lenders(shown), strict=True)]


def _unit(vectors: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Rows of length one, [N, D]."""
    rows_ND = np.asarray(vectors, np.float64)
    unit_ND: NDArray[np.float64] = rows_ND / np.maximum(np.linalg.norm(rows_ND, axis=1, keepdims=True), 1e-12)
    return unit_ND
