"""Defines the network's input and output in token ids: a prompt with positions to read, a text being generated.

Shape suffix: V vocabulary.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autointerp.llm.types import StopReason
from sae.common.seeds import torch_generator

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Prompt:
    """Holds a prompt in token ids."""

    ids: list[int]
    positions: tuple[int, ...] = ()
    """How many tokens stand before each slot; none: text is to be generated."""


@dataclass
class Draft:
    """Holds a text being generated."""

    prompt: Prompt
    max_tokens: float
    """The most tokens it may get."""
    ends: set[int | None]
    """Tokens that end it."""
    temperature: float | None
    """None or 0: the likeliest token each time."""
    top: int
    """How many log-probabilities to keep at each position, in `likely`."""
    seed: int
    """Seed of its own samples."""
    ids: list[int] = field(default_factory=list)
    likely: list[dict[int, float]] = field(default_factory=list)
    """For each token, log-probabilities by token id."""
    stop: StopReason | None = None

    def __post_init__(self) -> None:
        self._generator = torch_generator(self.seed, "tokens of the model in this process")

    def take(self, logits_V: "Tensor") -> int:
        """Choose the next token, or stop; returns the token."""
        token = self._choose(logits_V)
        if token in self.ends:
            self.stop = "stop"
            return token
        self.ids.append(token)
        if self.top:
            logprobs_V = logits_V.log_softmax(-1)
            top = logprobs_V.topk(min(self.top, len(logprobs_V)))
            likely = dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))
            self.likely.append(likely | {token: float(logprobs_V[token])})
        if len(self.ids) >= self.max_tokens:
            self.stop = "length"
        return token

    def _choose(self, logits_V: "Tensor") -> int:
        """Return the likeliest token, or a sample by the request's own generator."""
        if not self.temperature:
            return int(logits_V.argmax())
        return int((logits_V / self.temperature).softmax(-1).cpu().multinomial(1, generator=self._generator))
