"""Shares the settings of simulators that ask a language model, and decides which of them a model is asked by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from autointerp.llm import specs
from autointerp.parts import I
from autointerp.simulators import SIMULATORS
from sae.common.errors import UserError, near
from sae.common.settings import Section

if TYPE_CHECKING:
    from autointerp.config import Config

GENERATED = ("logprobs", "text")
"""The methods whose answers are generated; `text` by the simulator of `simulation.format`."""


def _known_method(method: str) -> str:
    own = ("rules", "generated", "numbered")
    known = ["auto", *GENERATED, *(name for name in SIMULATORS.names if name not in own)]
    if method not in known:
        raise ValueError(f"unknown method {method!r}{near(method, known)}")
    return method


class SimulationSettings(Section):
    """Sets how language models simulate."""

    method: Annotated[str, I, AfterValidator(_known_method)] = "auto"
    """`all_at_once`: one pass over the prompt; `logprobs`: generated, with log-probabilities; `text`: generated, as
    text; another registered simulator; `auto`: the most exact of the three that the model is sure to have."""
    format: Annotated[Literal["numbered", "lines", "json"], I] = "numbered"
    """How answers by `text` are written. `numbered`: the active tokens by their numbers, all others are 0; `lines`:
    every token again with its activation, a line each; `json`: the same as a JSON list."""
    fragments: Annotated[int | None, I, Field(gt=0)] = None
    """Fragments per question of the format `numbered`; null: all of a feature's."""
    top_logprobs: Annotated[int, I, Field(ge=1)] = 15
    """Log-probabilities asked for at each number."""
    samples: Annotated[int, I, Field(gt=0)] = 1
    """Generated answers that are averaged."""
    reasoning_tokens: Annotated[int, I, Field(ge=0)] = 2000
    """Tokens added to the answer's limit, for models that think before they answer."""
    temperature: Annotated[float | None, I, Field(ge=0)] = None
    """Sampling temperature of generated answers; null: 0 where the API takes one, or the provider's default for
    several samples (a model in this process: 0)."""


def simulator_of(spec: str, config: Config) -> str:
    """Return the name of the simulator that asks this model. Raises UserError for a wrong spec."""
    settings, method = config.section(SimulationSettings), method_of(spec, config)
    if method == "text" and settings.format == "numbered":
        return "numbered"
    return "generated" if method in GENERATED else method


def method_of(spec: str, config: Config) -> str:
    """Return the method by which a model simulates: for `auto`, the most exact that it is sure to have."""
    method, model = config.section(SimulationSettings).method, specs.parse(spec)
    if method != "auto":
        return method
    return "all_at_once" if model.has_prompt_logprobs else "logprobs" if model.has_logprobs else "text"


def model_of(spec: str, config: Config) -> specs.ModelSpec:
    """Read the spec of a simulating model. Raises UserError if it is none, or takes no temperature but is given one."""
    model = specs.parse(spec)
    specs.refuse_temperature(model, config.section(SimulationSettings).temperature, "simulation.temperature")
    return model


def refuse_method(spec: str, method: str, needed: str) -> UserError:
    """Return the error for a model that cannot simulate by a method."""
    return UserError(f"{spec} cannot simulate by {method}, which needs {needed}; set simulation.method=text")
