"""Measures coverage of intervals, false alarms and power of comparisons by simulation with a known answer.

`python tests/benchmarks/intervals.py RUN`, where RUN is a finished demo. Its features and documents stand for all
features and all text: their mean score over all documents is the truth. Features and documents are drawn from them
with replacement, so that every draw has the run's own dependence: documents of unequal length, features on one text.
Null runs have six dictionaries with features from one and the same population: a third of the features are common to
all six (same indices), a third are two halves of one direction, the rest are drawn alone.

Shape suffixes: P features of the run, F features drawn, D documents.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from autointerp.evaluate import Method
from autointerp.runs.opening import config_of
from autointerp.scorers.influences import correlation_influence
from autointerp.scorers.population import document_moments
from autointerp.statistics.clusters import Influence, Scores, estimate
from autointerp.statistics.comparisons import LEVEL, MARGIN, compare_all, features_needed
from autointerp.statistics.intervals import ends, tails
from autointerp.store import RunFolder

Floats = NDArray[np.float64]
SIZES = {20: 2000, 100: 2000, 1000: 400}
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


def correlations(moments_P6: Floats) -> Floats:
    """Correlate by the textbook's formula; 0 where the prediction is constant."""
    n, x, y, xx, yy, xy = moments_P6.T
    variances = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
    known = variances > 1e-12 * n**2 * xx * yy
    values: Floats = np.where(known, n * xy - x * y, 0) / np.sqrt(np.where(known, variances, 1))
    return values


def drawn(moments_F6D: Floats, cluster_F: NDArray[np.int64]) -> Scores:
    """Score features on drawn documents; those whose score is undefined there are left out."""
    document_D = np.arange(moments_F6D.shape[2])
    parts = [correlation_influence(document_D, moments_6D) for moments_6D in moments_F6D]
    known_F = np.array([part is not None for part in parts])
    influences: list[Influence] = [part for part in parts if part is not None]
    return Scores(correlations(moments_F6D[known_F].sum(2)), cluster_F[known_F], influences)


def coverage(name: str, moments_P6D: Floats, rng: np.random.Generator) -> None:
    truth, n = float(correlations(moments_P6D.sum(2)).mean()), moments_P6D.shape[2]
    for size, repeats in SIZES.items():
        found = np.empty((repeats, 2, 2))
        for repeat in range(repeats):
            feature_F, document_D = rng.integers(len(moments_P6D), size=size), rng.integers(n, size=n)
            scores = drawn(moments_P6D[feature_F][:, :, document_D], np.arange(size))
            estimated = estimate((1.0, scores))
            assert estimated
            student = stats.t.interval(0.95, len(scores.value_F) - 1, estimated.value, stats.sem(scores.value_F))
            found[repeat] = ends(estimated, BOUNDS), student
        above, below = (found[:, :, 0] > truth).mean(0), (found[:, :, 1] < truth).mean(0)
        width = (found[:, :, 1] - found[:, :, 0]).mean(0)
        cells = [f"{1 - a - b:.1%} ({a:.1%}, {b:.1%})" for a, b in zip(above, below, strict=True)]
        print(f"| {name} | {size} | {cells[0]} | {cells[1]} | {width[0] / width[1]:.2f} |", flush=True)


def null_run(moments_P6D: Floats, rng: np.random.Generator) -> dict[str, Scores]:
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
    """Count runs in which a pair is declared different, with the dependence and as if all were independent."""
    alarms = np.zeros(2)
    for _ in range(NULL_RUNS):
        samples = null_run(moments_P6D, rng)
        alone = {
            key: Scores(one.value_F, -np.arange(len(one.value_F)) - 100 * int(key)) for key, one in samples.items()
        }
        for column, each in enumerate((samples, alone)):
            alarms[column] += any(pair.p_holm < LEVEL for pair in compare_all(each, BOUNDS))
    print(f"| {name} | {alarms[0] / NULL_RUNS:.1%} | {alarms[1] / NULL_RUNS:.1%} |", flush=True)


def power(name: str, moments_P6D: Floats, rng: np.random.Generator) -> None:
    """Count detections of a difference of MARGIN with the features that it needs, and false proofs of equivalence."""
    n = moments_P6D.shape[2]
    whole = drawn(moments_P6D, np.arange(len(moments_P6D)))
    alone = Scores(whole.value_F, -1 - np.arange(len(whole.value_F)), whole.influences)
    estimated = estimate((1.0, whole), (-1.0, alone))
    assert estimated
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
        shifted = estimate((1.0, Scores(a.value_F + MARGIN, a.cluster_F, a.influences)), (-1.0, b))
        assert shifted
        hits += 2 * min(tails(shifted, 0.0)) < LEVEL
        equal += max(tails(shifted, -MARGIN)[0], tails(shifted, MARGIN)[1]) < LEVEL
    print(f"| {name} | {needed} | {hits / POWER_RUNS:.1%} | {equal / POWER_RUNS:.1%} |", flush=True)


def main(run: Path) -> None:
    moments, rng = moments_of(run), np.random.default_rng(0)
    print("| scores | features | features and documents | Student's t over features | width |\n|---|---|---|---|---|")
    for name, moments_P6D in moments.items():
        coverage(name, moments_P6D, rng)
    print("\n| null runs of | false alarms | as if independent |\n|---|---|---|")
    for name, moments_P6D in moments.items():
        false_alarms(name, moments_P6D, rng)
    print(f"\n| scores | features for {MARGIN} | detected | falsely equivalent |\n|---|---|---|---|")
    for name, moments_P6D in moments.items():
        power(name, moments_P6D, rng)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
