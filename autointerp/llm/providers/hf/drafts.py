"""What goes into the network and what comes out of it: a prompt with places to look at, and a text under way.

Knows token ids only. Shape suffix: V vocabulary.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autointerp.llm.types import StopReason

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Prompt:
    """places: how many tokens stand before each slot; none: text is wanted."""

    ids: list[int]
    places: tuple[int, ...] = ()


@dataclass
class Draft:
    """A text under way.

    room: the most tokens it may get. ends: tokens that end it. temperature: none or 0 for the likeliest token each
    time. top: how many log-probabilities are wanted in each place; they are in `likely`, by token. seed: of its own
    samples.
    """

    prompt: Prompt
    room: float
    ends: set[int | None]
    temperature: float | None
    top: int
    seed: int
    ids: list[int] = field(default_factory=list)
    likely: list[dict[int, float]] = field(default_factory=list)
    stop: StopReason | None = None

    def __post_init__(self) -> None:
        import torch

        self._generator = torch.Generator().manual_seed(self.seed)

    def take(self, logits_V: "Tensor") -> int:
        """Choose the next token, or stop."""
        token = self._chosen(logits_V)
        if token in self.ends:
            self.stop = "stop"
            return token
        self.ids.append(token)
        if self.top:
            logprobs_V = logits_V.log_softmax(-1)
            top = logprobs_V.topk(min(self.top, len(logprobs_V)))
            likely = dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))
            self.likely.append(likely | {token: float(logprobs_V[token])})
        if len(self.ids) >= self.room:
            self.stop = "length"
        return token

    def _chosen(self, logits_V: "Tensor") -> int:
        """The likeliest token, or a sample by the request's own generator, which batch-mates do not touch."""
        if not self.temperature:
            return int(logits_V.argmax())
        return int((logits_V / self.temperature).softmax(-1).cpu().multinomial(1, generator=self._generator))
