"""Defines the parts of `autointerp study`: published experiments, each from a finished run to figures.

Every file here is one part that registers itself in STUDIES; other packages add theirs through the entry-point group
`autointerp.studies`. A part measures once; what it measured is kept, and figures are made of that. Importing this loads
nothing heavy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sae.common.registry import Registry
from sae.common.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from autointerp.records import FeatureRecord, FeatureResult
    from autointerp.runs.plan import Plan
    from autointerp.statistics.intervals import Interval
    from autointerp.store import RunFolder
    from sae.common.progress import Report

NEURONS = "neurons"
"""The baseline that a studied dictionary is compared with."""
CUNNINGHAM = "Cunningham et al. 2023 (arXiv 2309.08600)"
MONOSEMANTICITY = "Bricken et al. 2023 (Towards Monosemanticity)"


Draw = Callable[["Axes"], None]
"""Draws one panel of a picture."""


class NotApplicable(Exception):
    """Says in one line why a part means nothing for the subject or the dictionary that is studied."""


@dataclass(frozen=True)
class Session:
    """Holds what a part works on: a finished run of the studied dictionary and the neurons beside it."""

    plan: Plan
    """The run's plan."""
    folder: RunFolder
    """The run's folder."""
    dictionary: str
    """Name of the dictionary that is studied."""
    neurons: str
    """Name of the neurons at its hook point; empty where the run has none there."""
    cache: Path
    """The folder in which trained subjects and dictionaries are kept."""
    report: Report
    """Makes a progress display from a title."""

    def features(self, dictionary: str) -> list[FeatureRecord]:
        """Return the sampled features of one dictionary."""
        return [feature for feature in self.folder.read_features() if feature.id.dictionary == dictionary]

    def results(self, dictionary: str) -> list[FeatureResult]:
        """Return the results of one dictionary by the run's explainer."""
        explainer = self.plan.method.explainers[0].name
        everyone = (result for result in self.folder.results() if result.explainer == explainer)
        return [result for result in everyone if result.feature.dictionary == dictionary]

    @property
    def main_score(self) -> str:
        """Name the score by which features are ordered."""
        return next(iter(self.plan.method.chances))


@dataclass(frozen=True)
class Figure:
    """Holds one measured number beside the published one."""

    what: str
    """What was measured, with its unit."""
    value: float | None
    """None where it does not exist."""
    low: float | None = None
    """Lower end of the 95% interval; None without one, as is `high`."""
    high: float | None = None
    n: int = 0
    """Features, or blocks of text, behind it."""
    published: float | None = None
    """The published number; None if there is none."""
    above: bool = False
    """What is published is a direction: the value is above `published`."""
    source: str = ""
    """Who published it."""
    note: str = ""
    """What of a difference the subject, the dictionary or the judge explains."""

    @property
    def agrees(self) -> bool | None:
        """Whether the interval holds the published number, or lies on its published side; None without one of both,
        and where the interval lies on both sides.
        """
        if self.low is None or self.high is None or self.published is None:
            return None
        if self.above:
            return None if self.low <= self.published < self.high else self.low > self.published
        return self.low <= self.published <= self.high


def figure(what: str, interval: Interval | None, n: int, **published: Any) -> Figure:
    """Make a figure of a mean and its interval, or of None where there is none."""
    if interval is None:
        return Figure(what, None, n=n, **published)
    return Figure(what, interval.mean, interval.low, interval.high, n, **published)


class Study(ABC):
    """Defines a part of the study."""

    name: ClassVar[str]
    title: ClassVar[str]
    """One sentence: what is done, and what the figures are."""
    version: ClassVar[int] = 1
    """Changes whenever the same run would give other figures, so that kept ones are measured again."""

    @abstractmethod
    def measure(self, session: Session) -> dict[str, Any]:
        """Measure, and return plain values for JSON, from which figures are made.

        Raises NotApplicable if it means nothing here.
        """

    @abstractmethod
    def figures(self, measured: Mapping[str, Any]) -> Sequence[Figure]:
        """Return the figures beside the published ones."""

    def tables(self, measured: Mapping[str, Any]) -> Sequence[Table]:
        """Return tables that go with them."""
        return ()

    def panels(self, measured: Mapping[str, Any]) -> Sequence[Draw]:
        """Return the panels of its picture, the main one first; none: it has no picture."""
        return ()

    def panel_size(self, measured: Mapping[str, Any]) -> tuple[float, float]:
        """Return the width and height of a panel of its picture, in inches; as many stand in a row as fit in 7.2."""
        return 3.6, 3.0


STUDIES: Registry[type[Study]] = Registry(
    "study",
    "autointerp.studies",
    order=(
        "ablation",
        "logits",
        "steering",
        "explained",
        "universality",
        "tasks",
        "patching",
        "erasure",
        "splitting",
        "absorption",
        "automata",
        "circuits",
        "specificity",
    ),
    shared=("judged", "medians", "proxies", "text_rules"),
)
