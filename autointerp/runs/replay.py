"""Finds what language models were asked about a run's explanations, and answered, in the cache of answers.

The run's parts write their requests again, and the cache answers them: no call is made and no key is read. Nothing is
there where a prompt's wording has changed since, or of a model in this process, whose answers are kept by its weights.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from autointerp.config import Config
from autointerp.evaluate import NO_TEXT, Method
from autointerp.llm import keys, specs
from autointerp.llm.ask import answered_by, attempt
from autointerp.llm.cache import AnswerCache, canonical, key_of
from autointerp.llm.reading import without_thinking
from autointerp.llm.types import Answer, Completion, Failure, Question, Request
from autointerp.records import FeatureId, FeatureRecord, FeatureResult
from autointerp.runs.opening import config_of
from autointerp.runs.requests import request_settings
from autointerp.store import RunFolder
from sae.common.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exchange:
    """Holds one question to a language model, without the examples that all of its kind share, and its raw answer."""

    stage: str
    question: str
    answer: str


Asked = Mapping[tuple[FeatureId, str], Sequence[Exchange]]
"""Exchanges by feature and explainer."""


def asked(folder: RunFolder, features: Iterable[FeatureRecord], results: Iterable[FeatureResult], cache: Path) -> Asked:
    """Find what was asked about every explanation; nothing if no language model was, or a part of the run is gone."""
    by_id = {feature.id: feature for feature in features}
    try:
        config = config_of(folder)
        method = Method.of(config)
        if not method.models:
            return {}
        with closing(AnswerCache(cache)) as answers:
            return {
                (result.feature, result.explainer): _Replay(answers, config).exchanges(
                    method, by_id[result.feature], result
                )
                for result in results
            }
    except UserError as error:
        log.info("the questions to language models cannot be shown: %s", error)
        return {}


class _Replay:
    """Answers requests from the cache, and notes what it answered."""

    def __init__(self, cache: AnswerCache, config: Config) -> None:
        self._cache, self._settings = cache, request_settings(config)
        self._exchanges: list[Exchange] = []

    def exchanges(self, method: Method, feature: FeatureRecord, result: FeatureResult) -> list[Exchange]:
        """List what was asked to explain a feature and to score the explanation, as far as the cache holds it."""
        for explainer in method.explainers:
            if explainer.name == result.explainer:
                answered_by(attempt(explainer.explain(feature)), self._answer)
        for scorer in method.scorers_for(result.explainer) if result.explanation else ():
            answered_by(attempt(scorer.score(feature, result.explanation or NO_TEXT)), self._answer)
        return self._exchanges

    def _answer(self, question: Question) -> Answer:
        question = self._settings.prepared(question)
        if not isinstance(question, Request) or specs.is_free(question.model):
            return Failure("not kept")
        key = key_of(canonical(question, keys.fingerprint(specs.parse(question.model))))
        answer = self._cache.get(key)
        if not isinstance(answer, Completion):
            return Failure("not kept")
        self._exchanges.append(Exchange(question.stage, question.messages[-1].content, answer.text))
        return without_thinking(answer)
