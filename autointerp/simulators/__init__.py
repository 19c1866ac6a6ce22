"""Simulators: from an explanation alone to the activation of every token of a text. `make` finds one by its spec."""

from collections.abc import Sequence
from typing import Protocol

from autointerp.config import Simulating
from autointerp.llm import specs
from autointerp.llm.types import LLMTask
from autointerp.prompting.templates import Prompt
from autointerp.records import Explanation
from sae.common.errors import UserError

Predicted = tuple[float | None, ...]
"""Activations (0-10) of a fragment's tokens; None where the judge's answer has no number."""


class Simulator(Protocol):
    """Sees the explanation's text and the tokens, never an activation. prompts: the wordings it uses."""

    @property
    def name(self) -> str: ...
    @property
    def prompts(self) -> tuple[Prompt, ...]: ...

    def simulate(self, explanation: Explanation, fragments: Sequence[tuple[str, ...]]) -> LLMTask[list[Predicted]]:
        """Predicted activation of each token of each fragment.

        Raises AnswerError if the explanation or an answer cannot be read.
        """
        ...


def make(spec: str, settings: Simulating) -> Simulator:
    """`rules`, or a language model judge. Raises UserError otherwise."""
    from autointerp.simulators.all_at_once import AllAtOnceSimulator
    from autointerp.simulators.generated import GeneratedSimulator
    from autointerp.simulators.rules import RulesSimulator

    if spec == "rules":
        return RulesSimulator()
    if not specs.is_spec(spec):
        raise UserError(f"unknown simulator {spec!r}; write {specs.forms()}, or rules (no language model)")
    judge = specs.parse(spec)
    specs.refuse_temperature(judge, settings.temperature, "simulating.temperature")
    method = settings.method if settings.method != "auto" else _best(judge)
    if method == "all_at_once":
        _check(judge.may_have_prompt_logprobs, spec, method, "hf/... or http://... with echo")
        return AllAtOnceSimulator(spec, settings)
    if method == "logprobs":
        _check(judge.may_have_logprobs, spec, method, "any judge but anthropic/...")
    return GeneratedSimulator(spec, settings, method == "logprobs", judge.has_schema)


def _best(judge: specs.ModelSpec) -> str:
    """The most exact method a judge is sure to have."""
    if judge.has_prompt_logprobs:
        return "all_at_once"
    return "logprobs" if judge.has_logprobs else "text"


def _check(possible: bool, spec: str, method: str, needed: str) -> None:
    if not possible:
        raise UserError(f"{spec} cannot simulate by {method}, which needs {needed}; set simulating.method=text")
