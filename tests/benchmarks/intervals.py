"""Measures coverage of intervals, false alarms and power of comparisons by simulation with a known answer.

`python tests/benchmarks/intervals.py RUN [PART ...]`, where RUN is a finished demo; parts: coverage, alarms, power.
Its features and documents stand for all features and all text: their mean score over all documents is the truth.
Features and documents are drawn from them with replacement, so that every draw has the run's own dependence: documents
of unequal length, features on one text.
Null runs have six dictionaries with features from one and the same population: a third of the features are common to
all six (same indices), a third are two halves of one direction, the rest are drawn alone.

Shape suffixes: P features of the run, F features drawn, D documents.
"""

import sys
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from autointerp.evaluate import Method
from autointerp.runs.opening import config_of
from autointerp.scorers.influences import correlation_influence
from autointerp.scorers.population import document_moments
from autointerp.statistics.clusters import Estimate, Influence, Scores, estimate
from autointerp.statistics.comparisons import LEVEL, MARGIN, features_needed
from autointerp.statistics.intervals import ends, holm, skewed_by_range, tails
from autointerp.store import RunFolder

Floats = NDArray[np.float64]
SIZES = {20: 4000, 100: 4000, 1000: 1000}
"""Features a draw, and how many draws."""
NULL_RUNS, NULL_FEATURES = 1000, 90
POWER_RUNS = 1000
BOUNDS = (-1.0, 1.0)


def moments_of(run: Path) -> dict[str, Floats]:
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
            moments_6D = document_moments(population, predicted_ML)
            made.setdefault(result.feature.dictionary, []).append(moments_6D)
    return {name: np.array(each) for name, each in made.items()}


def scored(moments_F6D: Floats) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Score features by the textbook's formula, 0 where the prediction is constant, and return how documents move them.

    As `correlation_influence`, for all features at once.

    Returns:
        which scores are defined, [F], the scores, [F], and the documents' influences, [F, D].
    """
    n_FD, x_FD, y_FD, xx_FD, yy_FD, xy_FD = moments_F6D.transpose(1, 0, 2)
    n, x, y, xx, yy, xy = moments_F6D.sum(2).T[:, :, None]
    mean_x, mean_y = x / n, y / n
    variance_x, variance_y = xx / n - mean_x**2, yy / n - mean_y**2
    known_F, varies = (variance_x > 1e-12 * xx / n)[:, 0], variance_y > 1e-12 * yy / n
    variance_x, variance_y = (np.where(part > 0, part, 1.0) for part in (variance_x, variance_y))
    scale = np.sqrt(variance_x * variance_y)
    r = np.where(varies, (xy / n - mean_x * mean_y) / scale, 0.0)
    both_FD = (xy_FD - mean_x * y_FD - mean_y * x_FD + n_FD * mean_x * mean_y) / scale
    x_FD = (xx_FD - 2 * mean_x * x_FD + n_FD * mean_x**2) / variance_x
    y_FD = (yy_FD - 2 * mean_y * y_FD + n_FD * mean_y**2) / variance_y
    return known_F, r[:, 0], np.where(varies, both_FD - r / 2 * (x_FD + y_FD), 0.0) / n


def true_mean(moments_P6D: Floats) -> float:
    """Return the mean score over all documents."""
    known_P, r_P, _ = scored(moments_P6D)
    return float(r_P[known_P].mean())


@dataclass(frozen=True, eq=False)
class Drawn:
    """Holds the scores of drawn features on drawn documents, which all of them share."""

    value_F: Floats
    cluster_F: NDArray[np.int64]
    influence_FD: Floats

    @property
    def without_documents(self) -> Scores:
        """The scores alone."""
        return Scores(self.value_F, self.cluster_F)

    @property
    def scores(self) -> Scores:
        """The same as the package takes it."""
        document_D = np.arange(self.influence_FD.shape[1])
        return Scores(self.value_F, self.cluster_F, [Influence(document_D, one_D) for one_D in self.influence_FD])


def drawn(moments_F6D: Floats, cluster_F: NDArray[np.int64]) -> Drawn:
    """Score features on drawn documents; those whose score is undefined there are left out."""
    known_F, r_F, influence_FD = scored(moments_F6D)
    return Drawn(r_F[known_F], cluster_F[known_F], influence_FD[known_F])


def fast_estimate(*samples: tuple[float, Drawn]) -> Estimate:
    """Estimate as the package does, for features that share their documents, in a tenth of its time."""
    sizes = np.array([len(one.value_F) for _, one in samples])
    parts = [weight * (one.value_F - one.value_F.mean()) / len(one.value_F) for weight, one in samples]
    deviation_F = np.concatenate([part * np.sqrt(n / (n - 1)) for part, n in zip(parts, sizes, strict=True)])
    cluster, index_F = np.unique(np.concatenate([one.cluster_F for _, one in samples]), return_inverse=True)
    deviation_G = np.bincount(index_F, deviation_F)
    squares = np.array([part @ part for part in np.split(deviation_F, np.cumsum(sizes)[:-1])])
    freedom = squares.sum() ** 2 / (squares**2 / (sizes - 1)).sum() * len(cluster) / len(deviation_F)
    influence_FD = np.concatenate([weight / len(one.value_F) * one.influence_FD for weight, one in samples])
    of_cluster_GF = (np.arange(len(cluster))[:, None] == index_F) if len(cluster) < len(index_F) else None
    cell_GD = influence_FD if of_cluster_GF is None else of_cluster_GF @ influence_FD
    all_D, own_D = influence_FD.sum(0), (cell_GD**2).sum(0)
    number = own_D.sum() ** 2 / (own_D**2).sum()
    features = float(deviation_G @ deviation_G)
    documents = float(max(0.0, all_D @ all_D - own_D.sum()) * number / (number - 1))
    total = features + documents
    freedom = float(total**2 / (features**2 / freedom + documents**2 / (number - 1)))
    value = sum(weight * float(one.value_F.mean()) for weight, one in samples)
    return Estimate(value, features, documents, freedom, float((deviation_G**3).sum()) / total**1.5)


def agree_with_the_package(moments_P6D: Floats) -> None:
    """Check that `scored` and `fast_estimate` are what the package computes."""
    for moments_6D, influence_D in zip(moments_P6D, scored(moments_P6D)[2], strict=True):
        expected = correlation_influence(np.arange(len(influence_D)), moments_6D)
        assert expected
        np.testing.assert_allclose(influence_D, expected.value_D, atol=1e-9)
    a, b, *_ = null_run(moments_P6D, np.random.default_rng(0)).values()
    made, same = fast_estimate((1.0, a), (-1.0, b)), estimate((1.0, a.scores), (-1.0, b.scores))
    assert same
    np.testing.assert_allclose(list(vars(made).values()), list(vars(same).values()))


def coverage(name: str, moments_P6D: Floats, rng: np.random.Generator) -> None:
    truth, n = true_mean(moments_P6D), moments_P6D.shape[2]
    for size, repeats in SIZES.items():
        found = np.empty((repeats, 2, 2))
        for repeat in range(repeats):
            feature_F, document_D = rng.integers(len(moments_P6D), size=size), rng.integers(n, size=n)
            scores = drawn(moments_P6D[feature_F][:, :, document_D], np.arange(size))
            estimated = fast_estimate((1.0, scores))
            student = stats.t.interval(0.95, len(scores.value_F) - 1, estimated.value, stats.sem(scores.value_F))
            found[repeat] = ends(skewed_by_range(estimated, scores.without_documents, BOUNDS, 0.0), BOUNDS), student
        above, below = (found[:, :, 0] > truth).mean(0), (found[:, :, 1] < truth).mean(0)
        width = (found[:, :, 1] - found[:, :, 0]).mean(0)
        cells = [f"{1 - a - b:.1%} ({a:.1%}, {b:.1%})" for a, b in zip(above, below, strict=True)]
        print(f"| {name} | {size} | {cells[0]} | {cells[1]} | {width[0] / width[1]:.2f} |", flush=True)


def null_run(moments_P6D: Floats, rng: np.random.Generator) -> dict[str, Drawn]:
    """Draw six dictionaries whose features are of one population."""
    third, n = NULL_FEATURES // 3, moments_P6D.shape[2]
    document_D, common_F = rng.integers(n, size=n), rng.integers(len(moments_P6D), size=third)
    samples = {}
    for index in range(6):
        halves_F = np.repeat(rng.integers(len(moments_P6D), size=third // 2), 2)
        own_F = rng.integers(len(moments_P6D), size=NULL_FEATURES - third - len(halves_F))
        own = 10_000 * (index + 1) + np.arange(len(own_F))
        cluster_F = np.concatenate([np.arange(third), 1_000 * (index + 1) + np.arange(len(halves_F)) // 2, own])
        feature_F = np.concatenate([common_F, halves_F, own_F])
        samples[str(index)] = drawn(moments_P6D[feature_F][:, :, document_D], cluster_F)
    return samples


def false_alarms(name: str, moments_P6D: Floats, rng: np.random.Generator) -> None:
    """Count runs in which a pair is declared different."""
    alarms = 0
    for _ in range(NULL_RUNS):
        pairs = combinations(null_run(moments_P6D, rng).values(), 2)
        alarms += min(holm([2 * min(tails(fast_estimate((1.0, a), (-1.0, b)), 0.0)) for a, b in pairs])) < LEVEL
    print(f"| {name} | {alarms / NULL_RUNS:.1%} |", flush=True)


def power(name: str, moments_P6D: Floats, rng: np.random.Generator) -> None:
    """Count detections of a difference of MARGIN with the features that it needs, and false proofs of equivalence."""
    n = moments_P6D.shape[2]
    whole = drawn(moments_P6D, np.arange(len(moments_P6D)))
    estimated = fast_estimate((1.0, whole), (-1.0, replace(whole, cluster_F=-1 - whole.cluster_F)))
    needed = features_needed(estimated, len(whole.value_F), len(whole.value_F))
    assert needed
    hits = equal = 0
    for _ in range(POWER_RUNS):
        document_D = rng.integers(n, size=n)
        feature_2F = rng.integers(len(moments_P6D), size=(2, needed))
        a, b = (
            drawn(moments_P6D[one][:, :, document_D], np.arange(needed) + i * needed)
            for i, one in enumerate(feature_2F)
        )
        shifted = fast_estimate((1.0, replace(a, value_F=a.value_F + MARGIN)), (-1.0, b))
        hits += 2 * min(tails(shifted, 0.0)) < LEVEL
        equal += max(tails(shifted, -MARGIN)[0], tails(shifted, MARGIN)[1]) < LEVEL
    print(f"| {name} | {needed} | {hits / POWER_RUNS:.1%} | {equal / POWER_RUNS:.1%} |", flush=True)


PARTS = {
    "coverage": (coverage, "| scores | features | features and documents | Student's t over features | width |"),
    "alarms": (false_alarms, "| null runs of | false alarms |"),
    "power": (power, f"| scores | features for {MARGIN} | detected | falsely equivalent |"),
}


def main(run: Path, parts: list[str]) -> None:
    moments, rng = moments_of(run), np.random.default_rng(0)
    for part in parts:
        measure, header = PARTS[part]
        print(f"\n{header}\n{'|---' * (header.count('|') - 1)}|")
        for name, moments_P6D in moments.items():
            agree_with_the_package(moments_P6D)
            measure(name, moments_P6D, rng)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or [*PARTS])
