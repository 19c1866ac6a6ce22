"""Asks each model of an API for one token before anything slow starts, and finds out what a model can do.

The questions go through the run's own client: the same keys, limits and budget, but past the cache.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from autointerp.llm import specs
from autointerp.llm.client import Client
from autointerp.llm.efforts import RequestSettings, manner_of
from autointerp.llm.faults import CallError
from autointerp.llm.retries import RetryPolicy
from autointerp.llm.types import Question, Request
from autointerp.llm.uses import Use, probe
from sae.common.errors import UserError

PROBE_RETRIES = RetryPolicy(tries=3, call_seconds=9.0, first_wait=0.3)
"""A dead server is known to be one within 10 seconds."""
OUT_OF_TOKENS = "model output limit was reached"
"""In OpenAI's refusal where a thinking model has no token left for its answer: it is alive, and was asked rightly."""
SCHEMA = '{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}'
Ability = Literal["yes", "no", "-"]


async def require_answers(client: Client, uses: Sequence[Use]) -> list[bool]:
    """Ask each model of an API for one token, as the run will ask it.

    Returns for each use whether the model answers as needed; False if it gives no log-probabilities.

    Raises UserError if a model does not answer, in one line that names the cause.
    """
    return await asyncio.gather(*(_has_what_is_needed(client, use) for use in uses))


async def _has_what_is_needed(client: Client, use: Use) -> bool:
    if specs.is_free(use.model):
        return True
    error = await _refusal(client, client.settings.prepared(probe(use)))
    if error is None:
        return True
    if use.logprobs or use.echo:
        plain = await _refusal(client, client.settings.prepared(probe(replace(use, logprobs=False, echo=False))))
        if plain is None:
            return False
        error = plain
    raise UserError(f"{error}; nothing has been asked yet (`run --no-check` leaves this check out)")


async def _refusal(client: Client, request: Question) -> CallError | None:
    """Ask, and return why there is no answer as it should be; None if there is one, or the model is only busy."""
    try:
        await client.fresh(request, PROBE_RETRIES)
    except CallError as error:
        if error.kind == "rate_limit" or OUT_OF_TOKENS in str(error):
            return None
        return error
    return None


@dataclass(frozen=True)
class Abilities:
    """Says what a model can do, learnt from its answers; "-": its API has no such thing."""

    model: str
    schema: Ability
    logprobs: Ability
    echo: Ability
    efforts: Mapping[str, Ability]
    """By level."""


async def abilities_of(client: Client, model: str) -> Abilities:
    """Ask a model of an API with each of its abilities. Raises UserError if it does not answer at all."""
    spec, use = specs.parse(model), Use(model, "judging")
    await require_answers(client, [use])
    logprobs, echo, *levels = await asyncio.gather(
        _ability(client, probe(replace(use, logprobs=True)), spec.may_have_logprobs),
        _ability(client, probe(replace(use, echo=True)), spec.may_have_prompt_logprobs),
        *(_takes_effort(client, model, level) for level in LEVELS),
    )
    schema = await _ability(client, replace(probe(use), schema=SCHEMA), spec.has_schema)
    return Abilities(model, schema, logprobs, echo, dict(zip(LEVELS, levels, strict=True)))


LEVELS: tuple[Literal["off", "low", "medium", "high"], ...] = ("off", "low", "medium", "high")


async def _ability(client: Client, request: Request, is_possible: bool) -> Ability:
    if not is_possible:
        return "-"
    refusal = await _refusal(client, client.settings.prepared(request))
    return "yes" if refusal is None and client.takes_schema(request) else "no"


async def _takes_effort(client: Client, model: str, level: Literal["off", "low", "medium", "high"]) -> Ability:
    try:
        manner_of(model, level, "judging")
    except UserError:
        return "-"
    request = RequestSettings({"judging": level}, client.settings.extra_body).prepared(probe(Use(model, "judging")))
    return "yes" if await _refusal(client, request) is None else "no"
