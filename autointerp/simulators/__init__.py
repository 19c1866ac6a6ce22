"""Simulates features: from an explanation alone to the activation of every token of a text.

Every file here is one simulator that registers itself in SIMULATORS; other packages add theirs through the entry-point
group `autointerp.simulators`. Importing this loads nothing heavy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from autointerp.llm import specs
from autointerp.parts import Part
from sae.common.errors import UserError
from sae.common.registry import Registry

if TYPE_CHECKING:
    from autointerp.config import Config
    from autointerp.llm.types import LLMTask
    from autointerp.population import Floats, PopulationText
    from autointerp.records import AnswerError, Explanation

Predicted: TypeAlias = tuple[float | None, ...]
"""Activations (0-10) of a fragment's tokens; None where the model's answer has no number."""


class Simulator(Part, ABC):
    """Defines a simulator. `Simulator(spec, config)` makes one for a run and raises UserError if it cannot work.

    name: the config's `simulator`: a registered name, or the spec of the model that simulates.
    """

    name: str
    asks_model: ClassVar[bool] = False
    """Whether it asks a language model: then a config names the model, and the simulator by `simulation.method`."""
    reads_prose: ClassVar[bool] = True
    """Whether it understands any sentence, not only those that `rules` and `token-table` write."""

    @abstractmethod
    def __init__(self, spec: str, config: Config) -> None: ...

    @abstractmethod
    def simulate(
        self, explanation: Explanation, fragments: Sequence[tuple[str, ...]]
    ) -> LLMTask[Sequence[Predicted | AnswerError]]:
        """Predict the activation of each token of each fragment from the explanation's text.

        Returns the AnswerError of a fragment about which there is no answer that can be read. Raises AnswerError if
        the explanation cannot be read.
        """

    def simulate_all(self, explanation: Explanation, text: PopulationText) -> Floats | None:
        """Predict every token of a whole text, [M, L]; None where that would have to be paid for (the default).

        Raises AnswerError if the explanation cannot be read.
        """
        return None


SIMULATORS: Registry[type[Simulator]] = Registry(
    "simulator", "autointerp.simulators", order=("rules",), shared=("samples", "settings")
)


def make(config: Config) -> Simulator:
    """Make a run's simulator: a registered name, or a language model with `simulation.method`.

    Raises UserError otherwise.
    """
    return part_of(config)(config.simulator, config)


def part_of(config: Config) -> type[Simulator]:
    """Return the registered class of a run's simulator. Raises UserError if there is none."""
    spec = config.simulator
    if specs.is_spec(spec):
        from autointerp.simulators.settings import simulator_of

        return SIMULATORS.get(simulator_of(spec, config))
    named = {name: part for name, part in SIMULATORS.all().items() if not part.asks_model}
    if spec not in named:
        raise UserError(f"unknown simulator {spec!r}; write {', '.join([specs.forms(), *named])}")
    return named[spec]
