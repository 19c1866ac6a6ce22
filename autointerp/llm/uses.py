"""Says what a run asks a model of an API for, and makes the shortest question of that kind."""

from dataclasses import dataclass

from autointerp.llm.efforts import Purpose
from autointerp.llm.types import Message, Request

STAGES: dict[Purpose, str] = {"explaining": "explain", "simulating": "simulate", "judging": "check"}
PROMPT = "a\tunknown\n"


@dataclass(frozen=True)
class Use:
    """Says what a run asks a model for."""

    model: str
    """Its spec."""
    purpose: Purpose
    logprobs: bool = False
    """Whether it needs the log-probabilities of generated tokens."""
    echo: bool = False
    """Whether it needs the log-probabilities of the prompt."""


def probe(use: Use) -> Request:
    """Return the shortest question of a kind."""
    return Request(
        model=use.model,
        messages=(Message("user", PROMPT if use.echo else "Write 1."),),
        max_tokens=1,
        top_logprobs=1 if use.logprobs or use.echo else 0,
        slots=(PROMPT.index("unknown"),) if use.echo else (),
        stage=STAGES[use.purpose],
    )
