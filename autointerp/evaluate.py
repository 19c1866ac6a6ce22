"""Scores an explanation on held-out records, and uninformed ones as its controls: the method on one screen.

Everything here is pure: it yields requests and returns results. Who answers, and where results go, is not decided here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autointerp import explainers, scorers
from autointerp.config import Config
from autointerp.explainers import Explainer
from autointerp.llm.ask import attempt, metered, together
from autointerp.llm.types import LLMTask, Usage
from autointerp.parts import Part
from autointerp.peer_faults import LITERAL, LITERAL_FAILURE, OF_MEANS
from autointerp.prompting.templates import Prompt
from autointerp.records import AnswerError, Control, Explanation, FeatureId, FeatureRecord, FeatureResult, Status
from autointerp.scorers import Scored, Scorer
from autointerp.statistics.clusters import Influence
from sae.common.errors import UserError

OWN = "own"
"""The kind of the feature's own explanation."""
NO_TEXT = Explanation("", "", "")
"""What scorers that need no explanation are given."""
NO_EXPLANATION = "the control has no explanation"


@dataclass(frozen=True)
class Method:
    """Holds a run's explainers and scorers; the first of each is the main one."""

    explainers: tuple[Explainer, ...]
    scorers: tuple[Scorer, ...]

    @staticmethod
    def of(config: Config) -> "Method":
        """Make all parts of a run. Raises UserError for an unknown one, or one that cannot do what is asked."""
        _check_population(config)
        _check_means(config)
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
    def contents(self) -> dict[str, str]:
        """The hash of every file that a part reads."""
        return {name: digest for part in self._parts for name, digest in part.contents.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the parts, a line each."""
        return tuple(dict.fromkeys(note for part in self._parts for note in part.notes))

    @property
    def _parts(self) -> list[Part]:
        return [*self.explainers, *self.scorers]

    @property
    def chances(self) -> dict[str, float | None]:
        """Every score's name with its chance level, main score first."""
        return {name: chance for scorer in self.scorers for name, chance in scorer.chances.items()}

    def own_chances(self, features: Sequence[FeatureRecord]) -> dict[FeatureId, dict[str, float | None]]:
        """Return the chance levels of the features whose records give others than the config lets expect."""
        usual, own = self.chances, dict[FeatureId, dict[str, float | None]]()
        for feature in features:
            levels = {name: value for scorer in self.scorers for name, value in scorer.chances_of(feature).items()}
            if levels != usual:
                own[feature.id] = levels
        return own

    def scorers_for(self, explainer: str) -> tuple[Scorer, ...]:
        """Return an explainer's scorers: those that need no explanation run for the main explainer only."""
        main = explainer == self.explainers[0].name
        return tuple(scorer for scorer in self.scorers if scorer.needs.explanation or main)

    def influences(self, feature: FeatureRecord, result: FeatureResult) -> dict[str, Influence]:
        """Return how much each document moves each score of a result, where a score has parts by document."""
        parts = [scorer.influences(feature, result) for scorer in self.scorers_for(result.explainer)]
        return {name: part for each in parts for name, part in each.items()}


def _check_population(config: Config) -> None:
    """Raises UserError if no population is kept, but something is drawn from it, or if no fragment fits into one."""
    population, fragment = config.sampling.population, config.sampling.fragment
    if population >= fragment:
        return
    if population:
        raise UserError(f"sampling.population={population} is less than one fragment; set 0, or {fragment} and more")
    if config.sampling.score.weighted:
        raise UserError("weighted records are drawn from the population; set sampling.score.weighted=0 as well")
    if config.sampling.score.hard:
        raise UserError("hard records are drawn from the population; set sampling.score.hard=0 as well")
    if "exchanged" in config.control_kinds:
        raise UserError("control_kinds=exchanged needs the words of the population; set sampling.population=200000")


def _check_means(config: Config) -> None:
    """Raises UserError if a fault changes means by which a run in rounds decides."""
    if config.stopping.until_resolved and (on := [name for name in config.peer_faults if name in OF_MEANS]):
        raise UserError(f"--until-resolved decides by means, which the fault {on[0]} changes; leave one of them out")


@dataclass(frozen=True)
class Explained:
    """Holds a feature's explanation, or why there is none, and what it cost."""

    outcome: Explanation | AnswerError
    usage: Usage


def explain(feature: FeatureRecord, explainer: Explainer, faults: Sequence[str] = ()) -> LLMTask[Explained]:
    """Explain a feature; a failure is an outcome, not an exception.

    Args:
        faults: those of the originals that are switched on.
    """
    outcome, usage = yield from metered(attempt(explainer.explain(feature)))
    if isinstance(outcome, AnswerError) and LITERAL_FAILURE in faults:
        return Explained(Explanation(LITERAL, LITERAL_FAILURE, explainer.name), usage)
    return Explained(outcome, usage)


@dataclass(frozen=True)
class Case:
    """Holds a feature with its explanation, and uninformed ones as its controls."""

    feature: FeatureRecord
    explainer: str
    explained: Explained
    controls: dict[str, Explanation | AnswerError]
    """By kind."""
    scorers: tuple[Scorer, ...]


Outcomes = Mapping[str, Scored | AnswerError]
"""What each scorer returns, by its name."""


def evaluate(case: Case) -> LLMTask[FeatureResult]:
    """Score a feature's explanation, and its controls' explanations, on the feature's score records."""
    tasks: dict[tuple[str, str], LLMTask[Scored]] = {}
    for kind, explanation in ({OWN: case.explained.outcome} | case.controls).items():
        text = explanation if isinstance(explanation, Explanation) else None
        for scorer in case.scorers:
            if (text and scorer.needs.explanation) or (kind == OWN and not scorer.needs.explanation):
                tasks[kind, scorer.name] = scorer.score(case.feature, text or NO_TEXT)
    values, usage = yield from metered(together(attempt(task) for task in tasks.values()))
    outcomes: dict[str, dict[str, Scored | AnswerError]] = {kind: {} for kind in (OWN, *case.controls)}
    for (kind, name), value in zip(tasks, values, strict=True):
        outcomes[kind][name] = value
    return _result(case, outcomes, case.explained.usage + usage)


def _result(case: Case, outcomes: Mapping[str, Outcomes], usage: Usage) -> FeatureResult:
    """Put values and failures apart."""
    explanation, own, main = case.explained.outcome, outcomes[OWN], case.scorers[0]
    errors, main_score = _errors(own), next(iter(main.chances))
    if isinstance(explanation, AnswerError):
        errors |= {s.name: f"no explanation: {explanation}" for s in case.scorers if s.needs.explanation}
    return FeatureResult(
        feature=case.feature.id,
        explainer=case.explainer,
        status=_status(own.get(main.name), main_score),
        explanation=None if isinstance(explanation, AnswerError) else explanation,
        simulations=tuple(simulation for item in _scored(own) for simulation in item.simulations),
        scores=_scores(own),
        controls={kind: _control(case, kind, outcomes[kind]) for kind in case.controls},
        error=errors.get(main.name) or errors.get(main_score),
        usage=vars(usage),
        errors=errors,
        judgements={
            name: item.judgements for name, item in own.items() if isinstance(item, Scored) and item.judgements
        },
        intervals={name: ends for item in _scored(own) for name, ends in item.intervals.items()},
        failed=tuple(name for item in _scored(own) for name in item.failed),
    )


def _control(case: Case, kind: str, outcomes: Outcomes) -> Control:
    errors = _errors(outcomes)
    if isinstance(case.controls[kind], AnswerError):
        errors = {s.name: NO_EXPLANATION for s in case.scorers if s.needs.explanation}
    return Control(_scores(outcomes), errors, tuple(name for item in _scored(outcomes) for name in item.failed))


def _status(outcome: Scored | AnswerError | None, score: str) -> Status:
    """Say what became of the main score; without an explanation there is no outcome."""
    if not isinstance(outcome, Scored) or score in outcome.errors:
        return "error"
    if score in outcome.failed:
        return "failed"
    return "undefined" if outcome.scores[score] is None else "ok"


def _scored(outcomes: Outcomes) -> list[Scored]:
    return [item for item in outcomes.values() if isinstance(item, Scored)]


def _errors(outcomes: Outcomes) -> dict[str, str]:
    """Say why there are no scores, by scorer, or by score where a scorer has others."""
    errors = {name: str(error) for name, error in outcomes.items() if isinstance(error, AnswerError)}
    return errors | {name: reason for item in _scored(outcomes) for name, reason in item.errors.items()}


def _scores(outcomes: Outcomes) -> dict[str, float | None]:
    return {name: value for item in _scored(outcomes) for name, value in item.scores.items()}
