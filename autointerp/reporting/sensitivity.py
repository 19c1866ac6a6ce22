"""Says how the ranking of dictionaries depends on choices that one could have made: a specification curve.

A specification is a protocol, a number of records, a length of the explanations and a way to treat failures; see
Simonsohn, Simmons & Nelson (Nature Human Behaviour 2020) and, for "multiverse", Steegen et al. (Perspectives on
Psychological Science 2016).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, median

from autointerp.peer_faults import DROP_FAILURES, ZERO_UNDEFINED, for_means
from autointerp.records import FeatureResult
from autointerp.reporting.leaderboard import range_of
from autointerp.statistics.intervals import Interval, mean_interval
from autointerp.store import RunFolder, as_json
from autointerp.suite_folder import SuiteFolder
from sae.common.files import write_atomic
from sae.common.tables import Table, number, to_markdown

FAILURES: Mapping[str, tuple[str, ...]] = {
    "failed 0": (),
    "failed dropped": (DROP_FAILURES,),
    "undefined 0": (ZERO_UNDEFINED,),
}
"""Ways to treat what has no score; the first is the harness's: failed counts as 0, undefined is in no mean."""
SPECIFICATIONS = "sensitivity.json"
"""Every specification with its means."""
CHOICES = ("protocol", "records", "explainer", "failures")
"""What a specification chooses."""


@dataclass(frozen=True)
class Specification:
    """Holds one way to do it, and what comes out."""

    protocol: str
    records: str
    explainer: str
    failures: str
    score: str
    """The main score of the protocol."""
    chance: float | None
    means: Mapping[str, Interval]
    """By dictionary, with 95% intervals over features; one of which no feature has a score is absent."""

    @property
    def order(self) -> list[str]:
        """The dictionaries, best first."""
        return sorted(self.means, key=lambda name: -self.means[name].mean)

    def above_chance(self, value: float) -> float:
        """Return a score as a share of what is between chance level and 1, so that scores of all protocols compare."""
        chance = self.chance or 0.0
        return (value - chance) / (1 - chance)

    def lead(self, dictionary: str) -> float:
        """Return by how much a dictionary is above the best other one; 0 if it has no score, or is the only one."""
        others = [one.mean for name, one in self.means.items() if name != dictionary]
        if dictionary not in self.means or not others:
            return 0.0
        return self.above_chance(self.means[dictionary].mean) - self.above_chance(max(others))


@dataclass(frozen=True)
class Multiverse:
    """Holds all specifications, the run's own first, and the kind of each dictionary."""

    specifications: tuple[Specification, ...]
    kinds: Mapping[str, str]

    @property
    def reference(self) -> Specification:
        """The run's own specification."""
        return self.specifications[0]

    @property
    def first(self) -> str:
        """The dictionary that is first in it."""
        return self.reference.order[0]

    def kept(self, one: Specification) -> float | None:
        """Return the share of the pairs that are in the run's order; None without a pair."""
        pairs = [(a, b) for a, b in combinations(self.reference.order, 2) if a in one.means and b in one.means]
        return fmean(one.means[a].mean >= one.means[b].mean for a, b in pairs) if pairs else None


def multiverse(folder: SuiteFolder, members: Sequence[tuple[str, str, str]]) -> Multiverse:
    """Read the members of a finished suite.

    Args:
        members: name, protocol and number of records of each, the reference first.
    """
    runs = folder.runs
    kinds = {one["name"]: one["kind"] for name, *_ in members for one in runs[name].about["dictionaries"]}
    made = [one for name, *choice in members for one in _specifications(runs[name], *choice)]
    return Multiverse(tuple(made), kinds)


def _specifications(folder: RunFolder, protocol: str, records: str) -> Iterator[Specification]:
    """Yield what one run says for each of its explainers and each way to treat failures."""
    main, results = folder.read_leaderboard()[0], list(folder.results())
    score, chance = main["scorer"], main["chance"]
    names = [one["name"] for one in folder.about["dictionaries"]]
    for explainer in folder.about["config"]["explainers"]:
        own = [result for result in results if result.explainer == explainer]
        for failures, faults in FAILURES.items():
            seen = for_means(own, faults)
            means = {name: mean for name in names if (mean := _mean(seen, name, score))}
            yield Specification(protocol, records, explainer, failures, score, chance, means)


def _mean(results: Sequence[FeatureResult], dictionary: str, score: str) -> Interval | None:
    values = [one.scores.get(score) for one in results if one.feature.dictionary == dictionary]
    known = [value for value in values if value is not None]
    return mean_interval(known, range_of(score))


def tables(every: Multiverse) -> list[Table]:
    """Make the tables of ranks by dictionary, of what each choice changes, and of pairs."""
    return [_ranks(every), _options(every), _pairs(every)]


def _ranks(every: Multiverse) -> Table:
    lines = []
    for rank, dictionary in enumerate(every.reference.order, start=1):
        of_it = [one for one in every.specifications if dictionary in one.means]
        ranks = [one.order.index(dictionary) + 1 for one in of_it]
        scaled = [one.above_chance(one.means[dictionary].mean) for one in of_it]
        lines.append([
            dictionary, number(every.reference.means[dictionary].mean), str(rank), f"{median(ranks):g}",
            f"{min(ranks)} to {max(ranks)}", _percent(ranks.count(1) / len(every.specifications)),
            f"{min(scaled):.2f} to {max(scaled):.2f}",
        ])  # fmt: skip
    one = every.reference
    title = (
        f"Ranks over {len(every.specifications)} specifications. The run's own: {one.protocol}, {one.records} records, "
        f"{one.explainer}, {one.failures} ({one.score}). Above chance: (score - chance level) / (1 - chance level)."
    )
    header = ["dictionary", "own score", "own rank", "median rank", "ranks", "first in", "above chance"]
    return Table(header, lines, title)


def _options(every: Multiverse) -> Table:
    lines = []
    for choice in CHOICES:
        options = dict.fromkeys(getattr(one, choice) for one in every.specifications)
        for option in options:
            of_it = [one for one in every.specifications if getattr(one, choice) == option]
            kept = [share for one in of_it if (share := every.kept(one)) is not None]
            best, count = Counter(one.order[0] for one in of_it if one.order).most_common(1)[0]
            lines.append([
                choice, option, str(len(of_it)), _percent(fmean(kept)) if kept else "-",
                f"{best} ({_percent(count / len(of_it))})",
            ])  # fmt: skip
    title = "What each choice changes: pairs of dictionaries in the run's own order, and which is first most often."
    return Table(["choice", "option", "specifications", "pairs as in the run", "first"], lines, title)


def _pairs(every: Multiverse) -> Table:
    lines, always = [], 0
    for a, b in combinations(every.reference.order, 2):
        both = [one.means for one in every.specifications if a in one.means and b in one.means]
        share = fmean(means[a].mean >= means[b].mean for means in both)
        always += share == 1
        if share < 1:
            lines.append([f"{a} above {b}", _percent(share), str(len(both))])
    n = len(every.reference.order) * (len(every.reference.order) - 1) // 2
    title = f"{always} of {n} pairs are in the run's order under every specification; the others:"
    return Table(["pair", "in the run's order", "specifications"], sorted(lines, key=lambda line: line[1]), title)


def _percent(share: float) -> str:
    return f"{share:.0%}"


def write(folder: Path, every: Multiverse, formats: Sequence[str]) -> None:
    """Write sensitivity.json, sensitivity.md and, in these formats, the picture."""
    for name, text in texts(every).items():
        write_atomic(folder / name, text)
    if formats:
        from autointerp.reporting import sensitivity_plot

        sensitivity_plot.write(folder, every, formats)


def texts(every: Multiverse) -> dict[str, str]:
    """Return the specifications and the tables as they are written, by file name."""
    return {
        SPECIFICATIONS: as_json([asdict(one) for one in every.specifications]),
        "sensitivity.md": to_markdown(tables(every)),
    }
