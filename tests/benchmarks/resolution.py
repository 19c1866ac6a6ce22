"""Measures errors and savings of runs in rounds (`--until-resolved`) by simulation with a known answer.

`python tests/benchmarks/resolution.py RUN [PART ...]`, where RUN is a finished demo; parts: table, pair, null, margin,
planted. Features and documents are drawn from the run's with replacement, as in `intervals.py`, so that each simulated
run has its dependence, and the mean of all features over all documents is the truth. A run is wrong if it separates two
dictionaries with the wrong sign, or calls equal what differs by the margin or more. The fixed design scores all
features and decides by the same intervals, of one look.

Shape suffixes: P features of the run, F features drawn, D documents.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from intervals import BOUNDS, moments_of, scored, true_mean
from numpy.typing import NDArray

from autointerp.statistics.clusters import Influence, Scores
from autointerp.statistics.comparisons import MARGIN
from autointerp.statistics.resolution import Comparison, Design, Resolution, Sample, resolve

Floats = NDArray[np.float64]
FIRST, FUTILITY = 10, 0.2
APART = 1_000_000
"""Clusters of two dictionaries: no feature of one is that of another."""


class Drawn:
    """Draws a dictionary's features; scores them on the drawn documents when they are asked for."""

    def __init__(
        self, number: int, moments_P6D: Floats, n: int, document_D: NDArray[np.int64], rng: np.random.Generator
    ) -> None:
        self._moments_P6D, self._document_D, self._number = moments_P6D, document_D, number
        self._feature_F = rng.integers(len(moments_P6D), size=n)
        self._scored: tuple[NDArray[np.bool_], Floats, Floats] | None = None

    def sample(self, n: int, shift: float = 0.0) -> Sample:
        if self._scored is None:
            self._scored = scored(self._moments_P6D[self._feature_F][:, :, self._document_D])
        known_F, r_F, influence_FD = self._scored
        index_F, document_D = np.flatnonzero(known_F[:n]), np.arange(influence_FD.shape[1])
        influences = [Influence(document_D, influence_FD[index]) for index in index_F]
        return Sample(Scores(r_F[index_F] + shift, self._number * APART + index_F, influences), {})


Run = Callable[[Design, np.random.Generator], Resolution]


def demo_run(moments: Mapping[str, Floats], shift: Mapping[str, float]) -> Run:
    """Simulate runs of dictionaries whose features are drawn from these."""

    def run(design: Design, rng: np.random.Generator) -> Resolution:
        n = next(iter(moments.values())).shape[2]
        document_D = rng.integers(n, size=n)
        drawn = {
            name: Drawn(number, one, design.available[name], document_D, rng)
            for number, (name, one) in enumerate(moments.items())
        }
        return resolve(design, lambda name, size: drawn[name].sample(size, shift.get(name, 0.0)))

    return run


def planted_run(means: Mapping[str, float], deviation: float) -> Run:
    """Simulate runs of dictionaries with independent Gaussian scores."""

    def run(design: Design, rng: np.random.Generator) -> Resolution:
        values = {name: mean + deviation * rng.standard_normal(design.available[name]) for name, mean in means.items()}
        number = {name: index * APART for index, name in enumerate(means)}
        return resolve(design, lambda name, n: Sample(Scores(values[name][:n], number[name] + np.arange(n)), {}))

    return run


def measure(label: str, run: Run, truth: Mapping[str, float], n: int, repeats: int, fixed: bool = True) -> None:
    """Print a row: wrong runs, decided comparisons and scored features, in rounds and of the fixed design."""
    cells = []
    for first in (FIRST, n) if fixed else (FIRST,):
        rng, design = np.random.default_rng(0), Design(dict.fromkeys(truth, n), (), first, MARGIN, BOUNDS, FUTILITY)
        made = [run(design, rng) for _ in range(repeats)]
        wrong = sum(any(is_wrong(one, truth) for one in each.comparisons) for each in made) / repeats
        decided = np.mean([each.n_decided for each in made])
        every = np.mean([each.n_decided == len(each.comparisons) for each in made])
        cells.append((wrong, decided, every, np.mean([sum(each.features.values()) for each in made])))
    (wrong, decided, every, scored), other = cells[0], cells[-1]
    share = scored / (n * len(truth))
    print(
        f"| {label} | {n} | {repeats} | {wrong:.1%} | {decided:.1f} ({other[1]:.1f}) | {every:.0%} ({other[2]:.0%}) | "
        f"{scored:,.0f} of {n * len(truth):,}: {share:.2f} |",
        flush=True,
    )


def is_wrong(one: Comparison, truth: Mapping[str, float]) -> bool:
    assert one.against is not None
    difference = truth[one.dictionary] - truth[one.against]
    if one.verdict == "equal":
        return abs(difference) >= MARGIN - 1e-12
    return one.verdict == "differ" and difference * (one.difference or 0.0) <= 0


def main(folder: Path, parts: list[str]) -> None:
    moments = moments_of(folder)
    truth = {name: true_mean(one) for name, one in moments.items()}
    names = list(moments)
    print("| runs | features each | simulated | wrong | comparisons decided | all decided | features scored |")
    print("|---|---|---|---|---|---|---|", flush=True)
    if "pair" in parts:
        two = {name: moments[name] for name in (names[0], "pca")}
        measure("sparse against PCA", demo_run(two, {}), {name: truth[name] for name in two}, 100, 500)
    if "null" in parts:
        for source in (names[0], "pca"):
            six = {str(index): moments[source] for index in range(6)}
            measure(f"six from {source}", demo_run(six, {}), dict.fromkeys(six, 0.0), 100, 500, fixed=False)
    if "margin" in parts:
        two = {str(index): moments["pca"] for index in range(2)}
        run = demo_run(two, {"0": MARGIN})
        measure(f"two from pca, {MARGIN} apart", run, {"0": MARGIN, "1": 0.0}, 200, 200, fixed=False)
    if "planted" in parts:
        six = {"a": 0.4, "b": 0.25, "c": 0.06, "d": 0.2, "e": 0.2, "f": 0.2}
        measure("planted, means as the demo's", planted_run(six, 0.2), six, 800, 200)
        far = {"a": 0.4, "b": 0.06}
        measure("planted, as sparse against PCA", planted_run(far, 0.2), far, 100, 1000)
        measure(
            "planted, all equal",
            planted_run(dict.fromkeys("abcdef", 0.2), 0.2),
            dict.fromkeys("abcdef", 0.2),
            100,
            1000,
        )
    if "table" in parts:
        measure("the demo's table", demo_run(moments, {}), truth, 100, 40)
        measure("the demo's table", demo_run(moments, {}), truth, 800, 10)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ["pair", "null", "margin", "planted", "table"])
