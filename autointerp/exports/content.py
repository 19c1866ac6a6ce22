"""Reads what a run holds of some of its dictionaries and explainers, in the form that all exports share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autointerp.records import ActivationRecord, DictionarySummary, FeatureId, FeatureRecord, FeatureResult
from sae.common.errors import UserError, near, shortened

if TYPE_CHECKING:
    from autointerp.store import RunFolder


@dataclass(frozen=True)
class Content:
    """Holds the chosen part of a run."""

    folder: RunFolder
    about: Mapping[str, Any]
    """run.json."""
    dictionaries: tuple[DictionarySummary, ...]
    features: tuple[FeatureRecord, ...]
    explainers: tuple[str, ...]
    """The run's main explainer first, if it was chosen."""
    results: Mapping[FeatureId, tuple[FeatureResult, ...]]
    """Each feature's results, in the order of the explainers."""

    @property
    def model(self) -> str:
        """The model's name as the config has it: a hub name, a folder, or `toy`."""
        return str(self.about["config"]["subject"]["model"])

    def features_of(self, dictionary: DictionarySummary) -> list[FeatureRecord]:
        """Return a dictionary's features by their index."""
        return sorted((f for f in self.features if f.id.dictionary == dictionary.name), key=lambda f: f.id.index)


def read(
    folder: RunFolder,
    all_results: Sequence[FeatureResult],
    dictionaries: Sequence[str] = (),
    explainers: Sequence[str] = (),
) -> Content:
    """Read a finished run.

    Args:
        folder: the run folder.
        all_results: the run's; what people said of features may stand among the scores.
        dictionaries: names of those to read; empty: all.
        explainers: names of those to read; empty: all.

    Raises UserError if the run is not finished, or has no such dictionary or explainer.
    """
    about = folder.about
    if about["status"] != "complete":
        raise UserError(f"{folder.path} is not finished; finish it with the command that began it")
    known = [DictionarySummary(**summary) for summary in about["dictionaries"]]
    written = list(dict.fromkeys(result.explainer for result in all_results))
    names = _selected("dictionary", dictionaries, [one.name for one in known])
    own = _selected("explainer", explainers, written)
    results: dict[FeatureId, list[FeatureResult]] = {}
    for result in all_results:
        if result.feature.dictionary in names and result.explainer in own:
            results.setdefault(result.feature, []).append(result)
    return Content(
        folder,
        about,
        tuple(one for one in known if one.name in names),
        tuple(feature for feature in folder.read_features() if feature.id.dictionary in names),
        tuple(own),
        {feature: tuple(items) for feature, items in results.items()},
    )


def _selected(kind: str, names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the known names that were asked for, in their own order; all if none was."""
    for name in names:
        if name not in known:
            raise UserError(f"the run has no {kind} {shortened(name)!r}{near(name, list(known))}")
    return [name for name in known if not names or name in names]


def active(records: Iterable[ActivationRecord]) -> list[ActivationRecord]:
    """Return the records on which the feature is active."""
    return [record for record in records if max(record.activations, default=0.0) > 0]


def layer_of(dictionary: DictionarySummary) -> int | None:
    """Return the layer of the hook point that a dictionary reads; None if it reads several, or none of a layer."""
    match = re.fullmatch(r"blocks\.(\d+)\.[^+]+", dictionary.hook_point)
    return int(match[1]) if match else None


def counted(n: int, what: str, why: str) -> list[str]:
    """Return a line for what is left out, with its count; none if there is nothing."""
    return [f"{n:,} {what}: {why}"] if n else []
