"""Scorers: from a feature's score records, and mostly an explanation, to numbers that may not exist. One idea per file.

`make` finds one by its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from autointerp.config import Config
from autointerp.llm import specs
from autointerp.llm.types import LLMTask
from autointerp.prompting.templates import Prompt
from autointerp.records import Explanation, FeatureRecord, Judgement, Simulation
from sae.common.errors import UserError


@dataclass(frozen=True)
class Scored:
    """scores: by name, None where a score does not exist; and what they were computed from."""

    scores: Mapping[str, float | None]
    simulations: tuple[Simulation, ...] = ()
    judgements: tuple[Judgement, ...] = field(default=())


class Scorer(Protocol):
    """name: the scorer's. chances: of each of its scores, what knowing nothing gets on average; None if nothing does.

    explained: whether it needs an explanation; one that does not is run once per feature. prompts: its wordings.
    """

    @property
    def name(self) -> str: ...
    @property
    def chances(self) -> Mapping[str, float | None]: ...
    @property
    def explained(self) -> bool: ...
    @property
    def prompts(self) -> tuple[Prompt, ...]: ...

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        """Raises AnswerError if an answer is missing or cannot be read."""
        ...


def make(name: str, config: Config) -> Scorer:
    """The scorer of a run. Raises UserError if the config lacks what it needs."""
    from autointerp import simulators
    from autointerp.scorers.embeddings import EmbeddingScorer, ExampleEmbeddingScorer
    from autointerp.scorers.intruder import IntruderScorer
    from autointerp.scorers.judged import JudgedScorer
    from autointerp.scorers.simulation import SimulationScorer

    _check_records(name, config)
    if name == "simulation":
        return SimulationScorer(simulators.make(config.simulator, config.simulating))
    if name == "embedding":
        return EmbeddingScorer(config.judging.embedder)
    if name == "example_embedding":
        return ExampleEmbeddingScorer(config.judging.embedder)
    if not specs.is_spec(config.simulator):
        raise UserError(f"{name} asks a language model; give --simulator {specs.forms()}")
    judge = specs.parse(config.simulator)
    specs.refuse_temperature(judge, config.judging.temperature, "judging.temperature")
    if name == "intruder":
        return IntruderScorer(judge, config.judging, config.seed)
    if config.judging.logprobs and not judge.may_have_logprobs:
        raise UserError(f"{config.simulator} gives no log-probabilities; set judging.logprobs=false")
    return JudgedScorer(name, judge, config.judging, config.seed, _base_rate(config))


def _check_records(name: str, config: Config) -> None:
    """Scorers that tell active from inactive texts need both."""
    sides = {"simulation": (), "example_embedding": ("explain", "score")}.get(name, ("score",))
    for side in sides:
        records = getattr(config.sampling, side)
        if not records.inactive:
            raise UserError(f"{name} needs texts on which features are silent; set sampling.{side}.inactive=10")
        if not records.top + records.quantile + records.importance:
            raise UserError(f"{name} needs texts on which features are active; set sampling.{side}.quantile=10")


def _base_rate(config: Config) -> float:
    """Share of active texts among those judged."""
    records = config.sampling.score
    active = records.top + records.quantile + records.importance
    return active / (active + records.inactive)
