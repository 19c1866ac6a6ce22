"""The sampling room: a config in, feature records out. The only one that knows `sae` and, lazily, torch.

`inputs` reads what a run is made from (no torch); `prepare` gets subject and dictionaries ready; `select` chooses
fragments in one streamed pass; `replay` reads the chosen ones' activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autointerp.config import Config
from autointerp.records import DictionarySummary, FeatureRecord

if TYPE_CHECKING:
    from sae.common.progress import Report


@dataclass(frozen=True)
class Sample:
    """What sampling hands over the seam: records of every feature, and facts about what was sampled."""

    features: tuple[FeatureRecord, ...]
    dictionaries: tuple[DictionarySummary, ...]
    facts: dict[str, Any]


def sample(config: Config, contents: dict[str, Any], cache: Path, report: Report) -> Sample:
    """Prepare everything and sample all dictionaries in one pass of the model (torch is imported here).

    Args:
        config: resolved by `inputs.resolve`.
        contents: what `inputs.fingerprint` found behind it.
        cache: where trained subjects and dictionaries are kept.
        report: makes a progress display from a title.
    """
    from autointerp.sampling.prepare import prepare
    from autointerp.sampling.replay import replay
    from autointerp.sampling.select import select

    prepared = prepare(config, contents, cache, report)
    chosen = select(prepared, config, report)
    return replay(prepared, chosen, config, report)
