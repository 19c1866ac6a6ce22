"""Scores an explanation on held-out records, and a mismatched explanation as the control: the method on one screen.

Everything here is pure: it yields requests and returns results. Who answers, and where results go, is not decided here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autointerp import explainers, scorers
from autointerp.config import Config
from autointerp.explainers import Explainer
from autointerp.llm.ask import attempt, metered, together
from autointerp.llm.types import LLMTask, Usage
from autointerp.parts import Part
from autointerp.prompting.templates import Prompt
from autointerp.records import AnswerError, Explanation, FeatureRecord, FeatureResult, Judgement, Simulation, Status
from autointerp.scorers import Scored, Scorer

NO_EXPLANATION = "the other feature has no explanation"


@dataclass(frozen=True)
class Method:
    """Holds a run's explainers and scorers; the first of each is the main one."""

    explainers: tuple[Explainer, ...]
    scorers: tuple[Scorer, ...]

    @staticmethod
    def of(config: Config) -> "Method":
        """Make all parts of a run. Raises UserError for an unknown one, or one that cannot do what is asked."""
        return Method(
            tuple(explainers.make(spec, config) for spec in config.explainers),
            tuple(scorers.make(name, config) for name in config.scorers),
        )

    @property
    def prompts(self) -> dict[str, Prompt]:
        """Every prompt in use, by its label."""
        return {prompt.label: prompt for part in self._parts for prompt in part.prompts}

    @property
    def models(self) -> list[str]:
        """Every model that is called, by its spec, each once."""
        return list(dict.fromkeys(model for part in self._parts for model in part.models))

    @property
    def _parts(self) -> list[Part]:
        return [*self.explainers, *self.scorers]

    @property
    def chances(self) -> dict[str, float | None]:
        """Every score's name with its chance level, main score first."""
        return {name: chance for scorer in self.scorers for name, chance in scorer.chances.items()}

    def scorers_for(self, explainer: str) -> tuple[Scorer, ...]:
        """Return an explainer's scorers: those that need no explanation run for the main explainer only."""
        main = explainer == self.explainers[0].name
        return tuple(scorer for scorer in self.scorers if scorer.needs.explanation or main)


@dataclass(frozen=True)
class Explained:
    """Holds a feature's explanation, or why there is none, and what it cost."""

    outcome: Explanation | AnswerError
    usage: Usage


def explain(feature: FeatureRecord, explainer: Explainer) -> LLMTask[Explained]:
    """Explain a feature; a failure is an outcome, not an exception."""
    outcome, usage = yield from metered(attempt(explainer.explain(feature)))
    return Explained(outcome, usage)


@dataclass(frozen=True)
class Case:
    """Holds a feature with its explanation, and a mismatched one for its control (None: no control)."""

    feature: FeatureRecord
    explainer: str
    explained: Explained
    mismatched: Explanation | AnswerError | None
    scorers: tuple[Scorer, ...]


def evaluate(case: Case) -> LLMTask[FeatureResult]:
    """Score a feature's explanation, and as its control the mismatched one, on the feature's score records."""
    explanation, mismatched = case.explained.outcome, case.mismatched
    own = {s.name: s.score(case.feature, explanation) for s in case.scorers if isinstance(explanation, Explanation)}
    if isinstance(explanation, AnswerError):
        nothing = Explanation("", "", "")
        own = {s.name: s.score(case.feature, nothing) for s in case.scorers if not s.needs.explanation}
    control = {
        s.name: s.score(case.feature, mismatched)
        for s in case.scorers
        if s.needs.explanation and isinstance(mismatched, Explanation)
    }
    values, usage = yield from metered(together(attempt(task) for task in (*own.values(), *control.values())))
    outcomes = dict(zip(own, values[: len(own)], strict=True))
    controls = dict(zip(control, values[len(own) :], strict=True))
    return _result(case, outcomes, controls, case.explained.usage + usage)


def _result(
    case: Case, outcomes: Mapping[str, Scored | AnswerError], controls: Mapping[str, Scored | AnswerError], usage: Usage
) -> FeatureResult:
    """Put values and failures apart."""
    explanation = case.explained.outcome
    errors = {name: str(error) for name, error in outcomes.items() if isinstance(error, AnswerError)}
    if isinstance(explanation, AnswerError):
        errors |= {s.name: f"no explanation: {explanation}" for s in case.scorers if s.needs.explanation}
    control_errors = {name: str(error) for name, error in controls.items() if isinstance(error, AnswerError)}
    if isinstance(case.mismatched, AnswerError):
        control_errors = {s.name: NO_EXPLANATION for s in case.scorers if s.needs.explanation}
    main = case.scorers[0]
    return FeatureResult(
        case.feature.id,
        case.explainer,
        _status(outcomes.get(main.name), next(iter(main.chances))),
        None if isinstance(explanation, AnswerError) else explanation,
        _simulations(outcomes.values()),
        _scores(outcomes.values()),
        _scores(controls.values()),
        errors.get(main.name),
        vars(usage),
        errors,
        control_errors,
        _judgements(outcomes),
        _intervals(outcomes.values()),
        _failed(outcomes.values()),
        _failed(controls.values()),
    )


def _status(outcome: Scored | AnswerError | None, score: str) -> Status:
    """Say what became of the main score; without an explanation there is no outcome."""
    if not isinstance(outcome, Scored):
        return "error"
    if score in outcome.failed:
        return "failed"
    return "undefined" if outcome.scores[score] is None else "ok"


def _scores(outcomes: Iterable[Scored | AnswerError]) -> dict[str, float | None]:
    return {name: value for item in outcomes if isinstance(item, Scored) for name, value in item.scores.items()}


def _intervals(outcomes: Iterable[Scored | AnswerError]) -> dict[str, tuple[float, float]]:
    return {name: ends for item in outcomes if isinstance(item, Scored) for name, ends in item.intervals.items()}


def _failed(outcomes: Iterable[Scored | AnswerError]) -> tuple[str, ...]:
    return tuple(name for item in outcomes if isinstance(item, Scored) for name in item.failed)


def _simulations(outcomes: Iterable[Scored | AnswerError]) -> tuple[Simulation, ...]:
    return tuple(simulation for item in outcomes if isinstance(item, Scored) for simulation in item.simulations)


def _judgements(outcomes: Mapping[str, Scored | AnswerError]) -> dict[str, tuple[Judgement, ...]]:
    return {name: item.judgements for name, item in outcomes.items() if isinstance(item, Scored) and item.judgements}
