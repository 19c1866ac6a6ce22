"""Decides what a request says beyond its prompt: how much the model may think, its temperature, fields of the user's.

Explainers, simulators and scorers leave these open; they are filled in before a request is looked up in the cache, so
that its key holds them. What a model family takes is data: efforts.yaml beside this file.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from autointerp.llm import specs
from autointerp.llm.types import Question, Request
from sae.common.errors import UserError

Purpose = Literal["explaining", "simulating", "judging"]
Effort = Literal["default", "off", "low", "medium", "high"]
When = Literal["always", "while_off", "never"]
PURPOSES: dict[str, Purpose] = {"explain": "explaining", "simulate": "simulating"}
"""By a request's stage; all other stages judge."""
TABLE = Path(__file__).parent / "efforts.yaml"
SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")
"""What the name of a model's dated snapshot ends with."""


@dataclass(frozen=True)
class Family:
    """Says what models take and do; efforts.yaml explains the fields."""

    thinks: bool = False
    off: Mapping[str, Any] | None = None
    least: Mapping[str, Any] = field(default_factory=dict)
    levels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    temperature: When = "never"
    logprobs: When = "never"
    is_known: bool = True
    """Whether the table lists the model."""


IN_PROCESS = Family(off={}, temperature="always", logprobs="always")
"""A model in this process: nothing is sent, and a temperature of None means 0."""


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = yaml.safe_load(TABLE.read_text("utf-8"))
    return table


def family_of(model: str) -> Family:
    """Return the family of a model's spec."""
    spec = specs.parse(model)
    return IN_PROCESS if spec.is_free else family_named(spec.provider, spec.model)


@cache
def family_named(provider: str, model: str) -> Family:
    """Return the family of a provider's model; for one that is not in the table, what its protocol usually takes."""
    table, names = _table(), {model, SNAPSHOT.sub("", model)}
    for family in table["families"]:
        if family["provider"] == provider and names & set(family["models"]):
            return Family(**{key: value for key, value in family.items() if key not in ("provider", "models")})
    return Family(**table["unknown"].get(provider, {}), is_known=False)


@dataclass(frozen=True)
class Manner:
    """Says how one model is asked for one purpose."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    """What is added to the request's body to control thinking."""
    may_think: bool = False
    """Whether the model may think before it answers, as far as the table knows it."""
    takes_temperature: bool = False


def manner_of(model: str, effort: Effort | None, purpose: Purpose) -> Manner:
    """Return how a model is asked with an effort.

    Args:
        effort: None: off where the model can, else the least; nothing for a model that is not in the table.

    Raises:
        UserError: the model cannot stop thinking, or takes no effort.
    """
    family = family_of(model)
    if effort == "default" or (effort is None and not family.is_known):
        return Manner({}, family.thinks, _holds(family.temperature, not family.thinks))
    if effort in (None, "off"):
        if family.off is not None:
            return Manner(family.off, False, _holds(family.temperature, True))
        if effort is None:
            return Manner(family.least, True, _holds(family.temperature, False))
        raise UserError(f"{model} cannot stop thinking; set effort.{purpose}=low, or null for the least that it can")
    if effort not in family.levels:
        raise UserError(f"{model} takes no effort; set effort.{purpose}=default, or its own fields in extra_body")
    return Manner(family.levels[effort], True, _holds(family.temperature, False))


def _holds(when: When, is_off: bool) -> bool:
    return when == "always" or (when == "while_off" and is_off)


@dataclass(frozen=True)
class RequestSettings:
    """Holds what a run's config says about requests in general, and fills it into each."""

    effort: Mapping[Purpose, Effort | None] = field(default_factory=dict)
    """By purpose; absent: None."""
    extra_body: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further fields of the body, by model spec."""
    varied: frozenset[Purpose] = frozenset()
    """The purposes for which one prompt is asked several times: at temperature 0 all answers would be the same."""
    _known: dict[tuple[str, Purpose, bool], tuple[Manner, str]] = field(default_factory=dict, compare=False, repr=False)

    fills_in: bool = True
    """Whether requests are changed at all."""

    def manner(self, model: str, purpose: Purpose) -> Manner:
        """Return how a model is asked for a purpose. Raises UserError for an effort that it does not take."""
        return manner_of(model, self.effort.get(purpose), purpose)

    def prepared(self, question: Question) -> Question:
        """Return a question with what it leaves open filled in: temperature 0 where the API takes one, the fields for
        the effort, and the user's own fields. Raises UserError for an effort that the model does not take.
        """
        if not self.fills_in or not isinstance(question, Request) or specs.is_free(question.model):
            return question
        purpose, is_echo = purpose_of(question), bool(question.slots)
        key = (question.model, purpose, is_echo)
        if key not in self._known:
            manner = self.manner(question.model, purpose)
            self._known[key] = manner, self._fields(question.model, Manner() if is_echo else manner)
        manner, extra = self._known[key]
        temperature = question.temperature
        if temperature is None and manner.takes_temperature and not is_echo and purpose not in self.varied:
            temperature = 0.0
        return replace(question, temperature=temperature, extra=extra)

    def _fields(self, model: str, manner: Manner) -> str:
        """Return all further fields of the body as JSON text, the user's over the effort's; "" if there are none."""
        fields = merged(manner.fields, self.extra_body.get(model, {}))
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False) if fields else ""

    def described(self, model: str, purpose: Purpose) -> dict[str, Any]:
        """Return what is added to a model's requests for a purpose, for run.json and the run's identity."""
        manner = self.manner(model, purpose)
        default = manner.takes_temperature and purpose not in self.varied
        text = self._fields(model, manner)
        return {"default_temperature": 0.0 if default else None, "fields": json.loads(text) if text else {}}


AS_IT_IS = RequestSettings(fills_in=False)
"""Changes no request."""


def purpose_of(request: Request) -> Purpose:
    """Return what a request is for, from its stage."""
    return PURPOSES.get(request.stage, "judging")


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return two JSON objects as one; where both have an object, it is merged, and else the second's value holds."""
    return {
        name: merged(first[name], value)
        if isinstance(value, Mapping) and isinstance(first.get(name), Mapping)
        else value
        for name, value in {**first, **second}.items()
    }
