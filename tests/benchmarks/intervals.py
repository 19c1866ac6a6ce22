"""Measures coverage of intervals, false alarms and power of comparisons by simulation with a known answer.

`python tests/benchmarks/intervals.py RUN [PART ...]`, where RUN is a finished demo; parts: coverage, pieces, alarms,
power. Its features and documents stand for all features and all text: their mean score over all documents is the truth.
Features and documents are drawn from them with replacement, so that every draw has the run's own dependence: documents
of unequal length, features on one text. For `pieces` the documents are cut into shorter ones.
Null runs have six dictionaries with features from one and the same population: a third of the features are common to
all six (same indices), a third are two halves of one direction, the rest are drawn alone.

Shape suffixes: P features of the run, F features drawn, D documents.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from autointerp.evaluate import Method
from autointerp.population import PopulationText
from autointerp.runs.opening import config_of
from autointerp.scorers.influences import correlation_without_each
from autointerp.scorers.population import document_moments
from autointerp.statistics.clusters import FEWEST_DOCUMENTS, Estimate, Influence, Scores, estimate
from autointerp.statistics.comparisons import LEVEL, features_needed
from autointerp.statistics.intervals import ends, holm, shaped_by_range, tails
from autointerp.store import RunFolder

Floats = NDArray[np.float64]
SIZES = {20: 4000, 100: 4000, 1000: 2000}
"""Features a draw, and how many draws."""
NULL_RUNS, NULL_FEATURES = 1000, 90
POWER_RUNS = 1000
DIFFERENCES = (0.02, 0.05, 0.1)
BOUNDS = (-1.0, 1.0)
PIECE = 32
"""Fragments of the longest piece that a document is cut into."""


def moments_of(run: Path, text_of: Callable[[PopulationText], PopulationText]) -> dict[str, Floats]:
    """Sum up each feature's activations and predictions over each document, [P, 6, D], by dictionary."""
    folder = RunFolder(run)
    method = Method.of(config_of(folder))
    simulator = method.scorers[0]._simulator  # type: ignore[attr-defined]
    features = {feature.id: feature for feature in folder.read_features()}
    made: dict[str, list[Floats]] = {}
    for result in folder.results():
        population = features[result.feature].population
        if result.explainer == method.explainers[0].name and population and result.explanation:
            predicted_ML = simulator.simulate_all(result.explanation, population.text)
            cut = replace(population, text=text_of(population.text))
            made.setdefault(result.feature.dictionary, []).append(document_moments(cut, predicted_ML))
    return {name: np.array(each) for name, each in made.items()}


def in_pieces(text: PopulationText) -> PopulationText:
    """Cut each document into equal pieces of at most PIECE fragments, each a document of its own."""
    piece_M = np.empty_like(text.document_M)
    for document in np.unique(text.document_M):
        (index_M,) = np.nonzero(text.document_M == document)
        pieces = np.array_split(index_M, -(-len(index_M) // PIECE))
        for piece in pieces:
            piece_M[piece] = piece[0]
    return replace(text, document_M=piece_M)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Holds the scores of drawn features on drawn documents, which all of them share."""

    value_F: Floats
    correction_F: Floats
    influence_FD: Floats
    cluster_F: NDArray[np.int64]

    @property
    def scores(self) -> Scores:
        """The same as the package takes it."""
        document_D, parts = (
            np.arange(self.influence_FD.shape[1]),
            zip(self.influence_FD, self.correction_F, strict=True),
        )
        return Scores(self.value_F, self.cluster_F, [Influence(document_D, *part) for part in parts])

    @property
    def corrected(self) -> Scores:
        """The corrected scores alone."""
        return Scores(self.value_F + self.correction_F, self.cluster_F)


@dataclass(frozen=True, eq=False)
class OnText:
    """Holds the scores of all features of a run on drawn documents."""

    known_P: NDArray[np.bool_]
    value_P: Floats
    correction_P: Floats
    influence_PD: Floats

    @staticmethod
    def of(moments_P6D: Floats, document_D: NDArray[np.int64]) -> "OnText":
        """Score features as `correlation_without_each` does, all at once."""
        moments_P6D, n = moments_P6D[:, :, document_D], len(document_D)
        total_P6 = moments_P6D.sum(2)
        known_P, r_P = correlations(total_P6)
        known_PD, without_PD = correlations(total_P6[:, None] - moments_P6D.transpose(0, 2, 1))
        change_PD = np.where(known_PD, r_P[:, None] - without_PD, 0.0) * (n - 1) / n
        return OnText(known_P, r_P, change_PD.sum(1), change_PD - change_PD.mean(1, keepdims=True))

    def draw(self, feature_F: NDArray[np.int64], cluster_F: NDArray[np.int64]) -> Drawn:
        """Take some features; those whose score is undefined are left out."""
        keep_F = self.known_P[feature_F]
        index_F = feature_F[keep_F]
        parts = (self.value_P[index_F], self.correction_P[index_F], self.influence_PD[index_F])
        return Drawn(*parts, cluster_F[keep_F])


def correlations(moments_N6: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Return which scores are defined, and the scores by the textbook's formula, 0 where the prediction is constant."""
    n, x, y, xx, yy, xy = np.moveaxis(moments_N6, -1, 0)
    variance_x, variance_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
    known, varies = variance_x > 1e-12 * xx / n, variance_y > 1e-12 * yy / n
    scale = np.sqrt(np.where(known, variance_x, 1.0) * np.where(varies, variance_y, 1.0))
    return known, np.where(known & varies, (xy / n - x * y / n**2) / scale, 0.0)


def true_mean(moments_P6D: Floats) -> float:
    """Return the mean score over all documents."""
    known_P, r_P = correlations(moments_P6D.sum(2))
    return float(r_P[known_P].mean())


def fast_estimate(*samples: tuple[float, Drawn]) -> Estimate:
    """Estimate as the package does, for features that share their documents, in a tenth of its time."""
    sizes = np.array([len(one.value_F) for _, one in samples])
    corrected = [one.value_F + one.correction_F for _, one in samples]
    parts = [weight * (each - each.mean()) / len(each) for (weight, _), each in zip(samples, corrected, strict=True)]
    deviation_F = np.concatenate([part * np.sqrt(n / (n - 1)) for part, n in zip(parts, sizes, strict=True)])
    cluster, index_F = np.unique(np.concatenate([one.cluster_F for _, one in samples]), return_inverse=True)
    deviation_G = np.bincount(index_F, deviation_F)
    squares = np.array([part @ part for part in np.split(deviation_F, np.cumsum(sizes)[:-1])])
    freedom = squares.sum() ** 2 / (squares**2 / (sizes - 1)).sum() * len(cluster) / len(deviation_F)
    influence_FD = np.concatenate([weight / len(one.value_F) * one.influence_FD for weight, one in samples])
    of_cluster_GF = (np.arange(len(cluster))[:, None] == index_F) if len(cluster) < len(index_F) else None
    cell_GD = influence_FD if of_cluster_GF is None else of_cluster_GF @ influence_FD
    all_D, own_D = influence_FD.sum(0), (cell_GD**2).sum(0)
    number = max(own_D.sum() ** 2 / (own_D**2).sum(), FEWEST_DOCUMENTS)
    features = float(deviation_G @ deviation_G)
    documents = float(max(0.0, all_D @ all_D - own_D.sum()) * number / (number - 1))
    total = features + documents
    freedom = float(total**2 / (features**2 / freedom + documents**2 / (number - 1)))
    value = sum(weight * float(one.value_F.mean()) for weight, one in samples)
    centre = sum(weight * float(each.mean()) for (weight, _), each in zip(samples, corrected, strict=True))
    return Estimate(value, centre, features, documents, freedom, float((deviation_G**3).sum()) / total**1.5)


def agree_with_the_package(moments_P6D: Floats) -> None:
    """Check that `OnText` and `fast_estimate` are what the package computes."""
    document_D = np.arange(moments_P6D.shape[2])
    whole = OnText.of(moments_P6D, document_D)
    for index, moments_6D in enumerate(moments_P6D):
        expected = correlation_without_each(document_D, moments_6D)
        assert expected
        np.testing.assert_allclose(whole.influence_PD[index], expected.value_D, atol=1e-9)
        np.testing.assert_allclose(whole.correction_P[index], expected.correction, atol=1e-9)
    a, b, *_ = null_run(moments_P6D, np.random.default_rng(0)).values()
    made, same = fast_estimate((1.0, a), (-1.0, b)), estimate((1.0, a.scores), (-1.0, b.scores))
    assert same
    np.testing.assert_allclose(list(vars(made).values()), list(vars(same).values()))


def students_interval(value_F: Floats) -> tuple[float, float]:
    reach = float(special.stdtrit(len(value_F) - 1, 0.975)) * float(value_F.std(ddof=1)) / math.sqrt(len(value_F))
    return float(value_F.mean()) - reach, float(value_F.mean()) + reach


def coverage(name: str, moments_P6D: Floats, rng: np.random.Generator) -> None:
    truth, n = true_mean(moments_P6D), moments_P6D.shape[2]
    for size, repeats in SIZES.items():
        found = np.empty((repeats, 2, 2))
        for repeat in range(repeats):
            on_text = OnText.of(moments_P6D, rng.integers(n, size=n))
            scores = on_text.draw(rng.integers(len(moments_P6D), size=size), np.arange(size))
            estimated = fast_estimate((1.0, scores))
            student = students_interval(scores.value_F)
            found[repeat] = ends(shaped_by_range(estimated, scores.corrected, BOUNDS, 0.0), BOUNDS), student
        above, below = (found[:, :, 0] > truth).mean(0), (found[:, :, 1] < truth).mean(0)
        width = (found[:, :, 1] - found[:, :, 0]).mean(0)
        cells = [f"{1 - a - b:.1%} ({a:.1%}, {b:.1%})" for a, b in zip(above, below, strict=True)]
        print(f"| {name} | {size} | {cells[0]} | {cells[1]} | {width[0] / width[1]:.2f} |", flush=True)


def null_run(moments_P6D: Floats, rng: np.random.Generator) -> dict[str, Drawn]:
    """Draw six dictionaries whose features are of one population."""
    third, n = NULL_FEATURES // 3, moments_P6D.shape[2]
    on_text, common_F = OnText.of(moments_P6D, rng.integers(n, size=n)), rng.integers(len(moments_P6D), size=third)
    samples = {}
    for index in range(6):
        halves_F = np.repeat(rng.integers(len(moments_P6D), size=third // 2), 2)
        own_F = rng.integers(len(moments_P6D), size=NULL_FEATURES - third - len(halves_F))
        own = 10_000 * (index + 1) + np.arange(len(own_F))
        cluster_F = np.concatenate([np.arange(third), 1_000 * (index + 1) + np.arange(len(halves_F)) // 2, own])
        samples[str(index)] = on_text.draw(np.concatenate([common_F, halves_F, own_F]), cluster_F)
    return samples


def false_alarms(name: str, moments_P6D: Floats, rng: np.random.Generator) -> None:
    """Count runs in which a pair is declared different."""
    alarms = 0
    for _ in range(NULL_RUNS):
        pairs = combinations(null_run(moments_P6D, rng).values(), 2)
        alarms += min(holm([2 * min(tails(fast_estimate((1.0, a), (-1.0, b)), 0.0)) for a, b in pairs])) < LEVEL
    print(f"| {name} | {alarms / NULL_RUNS:.1%} |", flush=True)


def power(name: str, moments_P6D: Floats, rng: np.random.Generator) -> None:
    """Count detections of a difference with the features that it needs, and false proofs of equivalence."""
    n, size = moments_P6D.shape[2], len(moments_P6D)
    whole = OnText.of(moments_P6D, np.arange(n)).draw(np.arange(size), np.arange(size))
    estimated = fast_estimate((1.0, whole), (-1.0, replace(whole, cluster_F=-1 - whole.cluster_F)))
    for difference in DIFFERENCES:
        needed = features_needed(estimated, len(whole.value_F), len(whole.value_F), difference)
        if needed is None:
            print(f"| {name} | {difference} | none suffices | | |", flush=True)
            continue
        hits = equal = 0
        for _ in range(POWER_RUNS):
            on_text = OnText.of(moments_P6D, rng.integers(n, size=n))
            a, b = (
                on_text.draw(rng.integers(size, size=needed), np.arange(needed) + index * needed) for index in (0, 1)
            )
            shifted = fast_estimate((1.0, replace(a, value_F=a.value_F + difference)), (-1.0, b))
            hits += 2 * min(tails(shifted, 0.0)) < LEVEL
            equal += max(tails(shifted, -difference)[0], tails(shifted, difference)[1]) < LEVEL
        print(f"| {name} | {difference} | {needed} | {hits / POWER_RUNS:.1%} | {equal / POWER_RUNS:.1%} |", flush=True)


PARTS = {
    "coverage": (coverage, "| scores | features | features and documents | Student's t over features | width |"),
    "pieces": (
        coverage,
        "| scores, in pieces | features | features and documents | Student's t over features | width |",
    ),
    "alarms": (false_alarms, "| null runs of | false alarms |"),
    "power": (power, "| scores | difference | features needed | detected | falsely equivalent within it |"),
}


def main(run: Path, parts: list[str]) -> None:
    rng = np.random.default_rng(0)
    for part in parts:
        moments = moments_of(run, in_pieces if part == "pieces" else lambda text: text)
        measure, header = PARTS[part]
        print(f"\n{header}\n{'|---' * (header.count('|') - 1)}|")
        for name, moments_P6D in moments.items():
            agree_with_the_package(moments_P6D)
            measure(name, moments_P6D, rng)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or [*PARTS])
