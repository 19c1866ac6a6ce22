"""Decides simulated runs in rounds as the package's `resolve`, in a twentieth of its time, for `resolution.py`.

All features share their documents, and none of one dictionary is that of another.

Shape suffixes: F features drawn, D documents.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autointerp.statistics.allocation import chance
from autointerp.statistics.clusters import FEWEST_DOCUMENTS, Estimate, Influence, Scores
from autointerp.statistics.control_variates import Measured
from autointerp.statistics.intervals import ends
from autointerp.statistics.resolution import LEAST, Design, Sample, resolve

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Holds a dictionary's features in the order of rounds: what a judge and rules make of each."""

    number: int
    known_F: NDArray[np.bool_]
    judged_F: Floats
    free_F: Floats
    judged_corrected_F: Floats
    """The same by the jackknife over documents."""
    free_corrected_F: Floats
    judged_FD: Floats
    """The documents' influences; without columns: none are known."""
    free_FD: Floats
    kind: str = ""
    """Of the control over which these are leads; empty: they are scores."""

    def measured(self, n: int, n_free: int) -> Measured:
        """Return the first features as the package takes them."""
        one, everyone = self.first(n), self.first(n_free)
        judged = self._scores(one, self.judged_F, self.judged_corrected_F, self.judged_FD)
        if not n_free:
            return Measured(judged)
        free = self._scores(everyone, self.free_F, self.free_corrected_F, self.free_FD)
        return Measured(judged, free, np.arange(len(one)))

    def first(self, n: int) -> NDArray[np.intp]:
        """Return which of the first n have a score."""
        return np.flatnonzero(self.known_F[:n])

    def _scores(self, index_F: NDArray[np.intp], value_F: Floats, corrected_F: Floats, influence_FD: Floats) -> Scores:
        document_D, correction_F = np.arange(influence_FD.shape[1]), corrected_F - value_F
        influences = [Influence(document_D, influence_FD[index], float(correction_F[index])) for index in index_F]
        return Scores(value_F[index_F], 1_000_000 * self.number + index_F, influences if len(document_D) else None)


@dataclass
class Sums:
    """Holds what an estimate needs to know of one dictionary's first features."""

    n: int
    n_free: int
    value: float
    centre: float
    features: float
    """Variance from features."""
    shrinking: float
    parts: list[tuple[float, int]]
    """Variance and size of each sample, for the degrees of freedom."""
    cubes: float
    all_D: Floats = field(repr=False)
    own_D: Floats = field(repr=False)


def sums(one: Drawn, n: int, n_free: int, slope: float) -> Sums | None:
    """Sum up one dictionary; None where it has too few scores."""
    index_F, all_F = one.first(n), one.first(n_free if slope else 0)
    size, all_size = len(index_F), len(all_F)
    if size < LEAST:
        return None
    level = float(one.free_F[all_F].mean()) if all_size else 0.0
    value = float((one.judged_F[index_F] - slope * (one.free_F[index_F] - level)).mean())
    value_F = one.judged_corrected_F[index_F] - slope * (one.free_corrected_F[index_F] - level)
    judged_F, centre = (value_F - value_F.mean()) / math.sqrt(size * (size - 1)), float(value_F.mean())
    deviation_F, influence_FD = judged_F.copy(), one.judged_FD[index_F] / size
    parts = [(float(judged_F @ judged_F), size)]
    if all_size:
        free_F = slope * (one.free_corrected_F[all_F] - level)
        centre += float(free_F.mean())
        deviation_F = (free_F - free_F.mean()) / math.sqrt(all_size * (all_size - 1))
        parts.append((float(deviation_F @ deviation_F), all_size))
        deviation_F[:size] += judged_F
        influence_FD = slope * one.free_FD[all_F] / all_size
        influence_FD[:size] += (one.judged_FD[index_F] - slope * one.free_FD[index_F]) / size
    square, cube = float(deviation_F @ deviation_F), float((deviation_F**3).sum())
    by_document = influence_FD.sum(0), (influence_FD**2).sum(0)
    return Sums(size, all_size, value, centre, square, parts[0][0], parts, cube, *by_document)


def estimated(*samples: Sums) -> Estimate:
    """Estimate a mean, or the difference of two, as `clusters.estimate`."""
    parts = [part for one in samples for part in one.parts]
    counted = sum(max(one.n, one.n_free) for one in samples) / sum(size for _, size in parts)
    freedom = sum(v for v, _ in parts) ** 2 / sum(v**2 / (size - 1) for v, size in parts) * counted
    features = sum(one.features for one in samples)
    signs = (1.0, -1.0)[: len(samples)]
    all_D = np.sum([sign * one.all_D for sign, one in zip(signs, samples, strict=True)], axis=0)
    own_D = np.sum([one.own_D for one in samples], axis=0)
    documents, freedom_of_documents = None, 1.0
    if own_D.any():
        number = max(own_D.sum() ** 2 / (own_D**2).sum(), FEWEST_DOCUMENTS)
        documents = float(max(0.0, all_D @ all_D - own_D.sum()) * number / (number - 1))
        freedom_of_documents = number - 1
    total = features + (documents or 0.0)
    freedom = total**2 / (features**2 / freedom + (documents or 0.0) ** 2 / freedom_of_documents)
    cubes = sum(sign * one.cubes for sign, one in zip(signs, samples, strict=True)) / total**1.5
    value, centre = (
        sum(sign * getattr(one, name) for sign, one in zip(signs, samples, strict=True)) for name in ("value", "centre")
    )
    return Estimate(value, centre, features, documents, freedom, cubes)


Asked = Mapping[str, Sequence[tuple[str, ...]]]
"""Names of comparisons, each with the estimates that it needs: a difference of two samples, or means of single ones."""


def fast_resolve(design: Design, drawn: Mapping[str, Drawn], asked: Asked, n_free: int) -> tuple[dict[str, str], int]:
    """Return the verdict of each comparison ("+" or "-" with a difference's sign), and the features scored."""
    verdicts, sizes = dict.fromkeys(asked, "open"), dict.fromkeys(drawn, 0)
    going = list(asked)
    for number, size in enumerate(design.ends):
        sizes |= {name: size for key in going for names in asked[key] for name in names}
        slopes = {one.kind: 0.0 for one in drawn.values()}
        if n_free:
            groups = {kind: [name for name, one in drawn.items() if one.kind == kind] for kind in slopes}
            slopes = {kind: _slope([(drawn[name], sizes[name]) for name in names]) for kind, names in groups.items()}
        samples = {name: sums(one, sizes[name], n_free, slopes[one.kind]) for name, one in drawn.items()}
        for key in list(going):
            verdict = _verdict(design, number, [[samples[name] for name in names] for names in asked[key]])
            if verdict:
                going.remove(key)
                verdicts[key] = verdict
    return verdicts, sum(sizes.values())


def _slope(samples: Sequence[tuple[Drawn, int]]) -> float:
    product = square = 0.0
    for one, n in samples:
        index_F = one.first(n)
        if len(index_F) > 1:
            free_F = one.free_F[index_F] - one.free_F[index_F].mean()
            product, square = product + float(free_F @ one.judged_F[index_F]), square + float(free_F @ free_F)
    return product / square


def _verdict(design: Design, number: int, compared: Sequence[Sequence[Sums | None]]) -> str | None:
    """Decide one comparison; "open": it is given up; None: it goes on."""
    if any(one is None for samples in compared for one in samples):
        return None
    known = [[one for one in samples if one] for samples in compared]
    made = [estimated(*samples) for samples in known]
    low, high = (
        min(side) for side in zip(*(ends(one, (-2.0, 2.0), design.together[number]) for one in made), strict=True)
    )
    if low > 0 or high < 0:
        return "+" if min(one.value for one in made) > 0 else "-"
    if -design.difference < low and high < design.difference:
        return "equal"
    hope = min(_chance(design, one, parts) for one, parts in zip(made, known, strict=True))
    return "open" if hope < design.futility else None


def _chance(design: Design, made: Estimate, samples: Sequence[Sums]) -> float:
    sizes = [(one.n, max(design.available.values())) for one in samples]
    shrinking = sum(one.shrinking for one in samples)
    return chance(made, shrinking, sizes, design.difference, design.together[-1])


def agree(design: Design, drawn: Mapping[str, Drawn], n_free: int, verdicts: Mapping[str, str], scored: int) -> None:
    """Check that the package decides pairs in the same way."""
    made = resolve(design, lambda name, n: Sample(drawn[name].measured(n, n_free), {}))
    assert sum(made.features.values()) == scored, (made.features, scored)
    for one in made.comparisons:
        assert one.against
        key = f"{one.dictionary} - {one.against}"
        mine = verdicts.get(key) or verdicts[f"{one.against} - {one.dictionary}"]
        assert one.verdict == (mine if mine in ("equal", "open") else "differ"), (key, one, mine)
