"""Samples feature records: a plan in, records out. The only package that imports torch and all of `sae`, lazily.

`prepare` gets subject and dictionaries ready; `select` chooses features and fragments while the text streams through
the model, once or twice, and keeps the fragments' activations; `build` makes records of them. A pass is a pure function
of a shard of the text (`follow`), whose results can be merged; `engines` run it in this process or on a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from autointerp.records import DictionarySummary, FeatureRecord, Stability

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from autointerp.runs.plan import Plan
    from sae.common.progress import Report

Embed: TypeAlias = Callable[[Sequence[str]], "NDArray[np.float64]"]
"""Computes the sentence embeddings of texts, scaled to length 1: [texts, D]."""


@dataclass(frozen=True)
class Sample:
    """Holds what sampling returns, without tensors."""

    features: tuple[FeatureRecord, ...]
    """The records of every feature."""
    dictionaries: tuple[DictionarySummary, ...]
    facts: dict[str, Any]
    """What was sampled, for the run's report."""
    stability: Mapping[str, Stability] = field(default_factory=dict)
    """How stable the features of dictionaries are that differ in their seed, by dictionary."""


def sample(plan: Plan, cache: Path, report: Report, embed: Embed | None = None) -> Sample:
    """Prepare everything and sample all dictionaries in one or two passes of the model (torch is imported here).

    Args:
        plan: what is to be sampled.
        cache: the folder in which trained subjects and dictionaries are kept.
        report: makes a progress display from a title.
        embed: embeds texts, for sampling.score.hard_by=embedding, which needs it.

    Raises:
        UserError: the text is too short, a hook point is unknown, a dictionary does not fit the model, or the engine
            cannot be started.
    """
    from autointerp.sampling.build import build
    from autointerp.sampling.engines import open_engine
    from autointerp.sampling.engines.kept import KeptPasses
    from autointerp.sampling.fragments import describe_sides
    from autointerp.sampling.prepare import prepare
    from autointerp.sampling.select import select
    from autointerp.sampling.stability import within

    kept = KeptPasses(cache / "passes" / plan.records_identity[:16])
    with open_engine(plan, kept) as engine:
        prepared = prepare(plan, cache, report)
        selection = select(prepared, plan.config, engine, report)
    drawn = build(prepared, selection, plan.config, embed, report)
    sampled = {one.measured.dictionary.name: [f.index for f in one.features] for one in selection.dictionaries}
    stability = within([one.dictionary for one in prepared.dictionaries], sampled, report)
    kept.clear()
    facts = drawn.facts | describe_sides(prepared.text, selection.fragments, plan.text)
    return replace(drawn, facts=facts, stability=stability)
