"""Simulators: from an explanation alone to the activation of every token of a text. `make` finds one by its spec."""

from collections.abc import Sequence
from typing import Protocol

from autointerp.records import Explanation
from sae.errors import UserError


class Simulator(Protocol):
    """Sees the explanation's text and the tokens, never an activation."""

    name: str

    def simulate(self, explanation: Explanation, fragments: Sequence[tuple[str, ...]]) -> list[tuple[float, ...]]:
        """Predicted activation (0-10) of each token of each fragment.

        Raises AnswerError if the explanation cannot be read.
        """
        ...


def make(spec: str) -> Simulator:
    """`rules`. Raises UserError otherwise."""
    from autointerp.simulators.rules import RulesSimulator

    if spec == "rules":
        return RulesSimulator()
    raise UserError(f"unknown simulator {spec!r}; known: rules")
