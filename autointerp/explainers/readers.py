"""Refuses explainers of prose where it would be read by a simulator or a judge that reads only rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autointerp import judges, simulators
from autointerp.scorers import SCORERS
from sae.common.errors import UserError

if TYPE_CHECKING:
    from autointerp.config import Config


def refuse_readers_of_rules(spec: str, config: Config, chooses: bool = False) -> None:
    """Raise UserError if the simulator or the judge would have to read this explainer's prose but reads only rules.

    Args:
        chooses: whether the simulator chooses among candidates.
    """
    needs = [SCORERS.get(name).needs for name in config.scorers]
    simulated = chooses or any(need.simulator for need in needs)
    judged = any(need.judge and need.explanation for need in needs)
    judge = judges.spec_of(config)
    for reader, name, is_needed, part_of in (
        ("simulator", config.simulator, simulated, lambda: simulators.part_of(config)),
        ("judge", judge, judged, lambda: judges.part_of(judge)),
    ):
        if is_needed and not part_of().reads_prose:
            raise UserError(f"explainer {spec} writes prose, which the {reader} `{name}` cannot read; give --{reader}")
