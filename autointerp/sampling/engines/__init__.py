"""Says what an engine does: it runs one pass over the text, somewhere. Imports torch for type checkers only."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from autointerp.sampling.engines.local import LocalEngine

if TYPE_CHECKING:
    from autointerp.config import Config
    from autointerp.runs.plan import Plan
    from autointerp.sampling.engines.kept import KeptPasses
    from autointerp.sampling.follow import Followed, Pass
    from autointerp.sampling.shards import SampledText
    from sae.common.progress import Report


class Engine(Protocol):
    """Runs passes over a text. All engines return the same, to the last bit, on hardware of one kind."""

    def follow(self, text: SampledText, one: Pass, config: Config, report: Report) -> dict[int, Followed]:
        """Return what the text says of the dictionaries that a pass follows, by their index."""


def open_engine(plan: Plan, kept: KeptPasses) -> AbstractContextManager[Engine]:
    """Open the engine that the config names.

    Args:
        kept: where passes are kept, so that one that was stopped continues.

    Raises UserError if its package is missing or the cluster cannot be reached.
    """
    if plan.config.runtime.engine == "local":
        return nullcontext(LocalEngine(kept))
    from autointerp.sampling.engines.ray import RayEngine

    return RayEngine(plan.config.runtime.ray_address, plan.processing, kept)
