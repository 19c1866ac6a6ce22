"""The method: an explanation of a feature, scores of it on held-out records, and the same of a stranger's explanation.

`evaluate` is the method on one screen. Pure: it yields questions and returns results; who answers, and where results
go, is not known here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autointerp import explainers, scorers
from autointerp.calibration import controls
from autointerp.config import Config
from autointerp.explainers import Explainer
from autointerp.llm import specs
from autointerp.llm.ask import attempt, metered, together
from autointerp.llm.types import LLMTask, Usage
from autointerp.prompting.templates import Prompt
from autointerp.records import AnswerError, Explanation, FeatureRecord, FeatureResult, Judgement, Simulation, Status
from autointerp.scorers import Scored, Scorer

CONTROL_STREAM = 201
NO_STRANGER = "the other feature has no explanation"


@dataclass(frozen=True)
class Method:
    """A run's explainers and scorers; the first of each is the main one."""

    explainers: tuple[Explainer, ...]
    scorers: tuple[Scorer, ...]

    @staticmethod
    def of(config: Config) -> "Method":
        """Raises UserError for an unknown judge or one that cannot do what is asked, before anything slow starts."""
        return Method(
            tuple(explainers.make(spec, config) for spec in config.explainers),
            tuple(scorers.make(name, config) for name in config.scorers),
        )

    @property
    def prompts(self) -> dict[str, Prompt]:
        """Every wording in use, by its label."""
        users: list[Explainer | Scorer] = [*self.explainers, *self.scorers]
        return {prompt.label: prompt for user in users for prompt in user.prompts}

    @property
    def chances(self) -> dict[str, float | None]:
        """Every score's name with its chance, main score first."""
        return {name: chance for scorer in self.scorers for name, chance in scorer.chances.items()}

    def scorers_for(self, explainer: str) -> tuple[Scorer, ...]:
        """Scorers that need no explanation belong to the main explainer: once per feature is enough."""
        main = explainer == self.explainers[0].name
        return tuple(scorer for scorer in self.scorers if scorer.explained or main)


def judges(config: Config) -> list[str]:
    """The models a run asks, by spec."""
    asked = [spec for spec in (*config.explainers, config.simulator) if specs.is_spec(spec)]
    if {"embedding", "example_embedding"} & set(config.scorers):
        asked.append(f"embedding/{config.judging.embedder}")
    return list(dict.fromkeys(asked))


@dataclass(frozen=True)
class Explained:
    """What explaining a feature brought, and what it took."""

    outcome: Explanation | AnswerError
    usage: Usage


def explain(feature: FeatureRecord, explainer: Explainer) -> LLMTask[Explained]:
    """One explanation."""
    outcome, usage = yield from metered(attempt(explainer.explain(feature)))
    return Explained(outcome, usage)


@dataclass(frozen=True)
class Case:
    """What is evaluated: a feature with its explanation, and a stranger's for its control (None: no control)."""

    feature: FeatureRecord
    explainer: str
    explained: Explained
    stranger: Explanation | AnswerError | None
    scorers: tuple[Scorer, ...]


def evaluate(case: Case) -> LLMTask[FeatureResult]:
    """Score a feature's explanation on its score records; then, as its control, the stranger's on the same records."""
    explanation, stranger = case.explained.outcome, case.stranger
    own = {s.name: s.score(case.feature, explanation) for s in case.scorers if isinstance(explanation, Explanation)}
    if isinstance(explanation, AnswerError):
        nothing = Explanation("", "", "")
        own = {s.name: s.score(case.feature, nothing) for s in case.scorers if not s.explained}
    control = {
        s.name: s.score(case.feature, stranger)
        for s in case.scorers
        if s.explained and isinstance(stranger, Explanation)
    }
    outcomes, usage = yield from metered(together(attempt(task) for task in (*own.values(), *control.values())))
    found = dict(zip(own, outcomes[: len(own)], strict=True))
    controls = dict(zip(control, outcomes[len(own) :], strict=True))
    return _result(case, found, controls, case.explained.usage + usage)


def _result(
    case: Case, found: Mapping[str, Scored | AnswerError], controls: Mapping[str, Scored | AnswerError], usage: Usage
) -> FeatureResult:
    """Values and failures apart."""
    explanation = case.explained.outcome
    errors = {name: str(error) for name, error in found.items() if isinstance(error, AnswerError)}
    if isinstance(explanation, AnswerError):
        errors |= {s.name: f"no explanation: {explanation}" for s in case.scorers if s.explained}
    control_errors = {name: str(error) for name, error in controls.items() if isinstance(error, AnswerError)}
    if isinstance(case.stranger, AnswerError):
        control_errors = {s.name: NO_STRANGER for s in case.scorers if s.explained}
    scores = _scores(found.values())
    return FeatureResult(
        case.feature.id,
        case.explainer,
        _status(case.scorers[0], scores, errors),
        None if isinstance(explanation, AnswerError) else explanation,
        _simulations(found.values()),
        scores,
        _scores(controls.values()),
        errors.get(case.scorers[0].name),
        vars(usage),
        errors,
        control_errors,
        _judgements(found),
    )


def _status(main: Scorer, scores: Mapping[str, float | None], errors: Mapping[str, str]) -> Status:
    if main.name in errors:
        return "error"
    return "undefined" if scores[next(iter(main.chances))] is None else "ok"


def _scores(outcomes: Iterable[Scored | AnswerError]) -> dict[str, float | None]:
    return {name: value for item in outcomes if isinstance(item, Scored) for name, value in item.scores.items()}


def _simulations(outcomes: Iterable[Scored | AnswerError]) -> tuple[Simulation, ...]:
    return tuple(simulation for item in outcomes if isinstance(item, Scored) for simulation in item.simulations)


def _judgements(found: Mapping[str, Scored | AnswerError]) -> dict[str, tuple[Judgement, ...]]:
    return {name: item.judgements for name, item in found.items() if isinstance(item, Scored) and item.judgements}


def partners(features: Sequence[FeatureRecord], seed: int, share: float) -> list[int | None]:
    """For `share` of each dictionary's features the place of another one of it, whose explanation is the control."""
    found: list[int | None] = [None] * len(features)
    for dictionary in dict.fromkeys(feature.id.dictionary for feature in features):
        places = [i for i, feature in enumerate(features) if feature.id.dictionary == dictionary]
        rng = np.random.default_rng([seed, CONTROL_STREAM])
        strangers = controls.derangement(len(places), rng)
        chosen = rng.permutation(len(places))[: round(share * len(places))]
        for number in chosen.tolist():
            stranger = strangers[number]
            found[places[number]] = None if stranger is None else places[stranger]
    return found
