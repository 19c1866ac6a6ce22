"""Explainers: from the records of a feature to a sentence about it. One idea per file; `make` finds one by its spec."""

from typing import Protocol

from autointerp.config import Config
from autointerp.llm import specs
from autointerp.llm.types import LLMTask
from autointerp.prompting.templates import Prompt
from autointerp.records import Explanation, FeatureRecord
from sae.common.errors import UserError


class Explainer(Protocol):
    """Sees a feature's explain records (and what its decoder promotes) and nothing else. prompts: its wordings."""

    @property
    def name(self) -> str: ...
    @property
    def prompts(self) -> tuple[Prompt, ...]: ...

    def explain(self, feature: FeatureRecord) -> LLMTask[Explanation]:
        """Raises AnswerError if there is no explanation that can be read."""
        ...


def make(spec: str, config: Config) -> Explainer:
    """`rules-N`, `rules-unlimited` (and `rules`, which is rules-5), `token-table`, or a language model judge.

    Raises UserError otherwise.
    """
    if specs.is_spec(spec):
        return _language_model(spec, config)
    from autointerp.explainers.rules import RulesExplainer, TokenTableExplainer

    if spec == "token-table":
        return TokenTableExplainer()
    kind, _, limit = spec.partition("-")
    if kind == "rules" and limit == "unlimited":
        return RulesExplainer(None)
    if kind == "rules" and (limit == "" or (limit.isdigit() and int(limit) > 0)):
        return RulesExplainer(int(limit or 5))
    raise UserError(
        f"unknown explainer {spec!r}; known: rules-N (N = 1, 2, ...), rules-unlimited, token-table, {specs.forms()}"
    )


def _language_model(spec: str, config: Config) -> Explainer:
    from autointerp import simulators
    from autointerp.explainers.best_of import BestOf
    from autointerp.explainers.language_model import LanguageModelExplainer

    specs.refuse_temperature(specs.parse(spec), config.explaining.temperature, "explaining.temperature")
    if config.simulator == "rules":
        raise UserError(f"explainer {spec} writes prose, which the simulator `rules` cannot read; give --simulator")
    explainer = LanguageModelExplainer(spec, config.explaining)
    if config.explaining.candidates == 1:
        return explainer
    if specs.is_free(spec) and not config.explaining.temperature:
        raise UserError("the candidates of a model in this process are all the same; set explaining.temperature=1")
    return BestOf(explainer, simulators.make(config.simulator, config.simulating), config.explaining.candidates)
