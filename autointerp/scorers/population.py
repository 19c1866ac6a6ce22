"""Correlates predictions with a feature's activations on its whole population, exactly or from weighted records.

Exactly, where every token is predicted. Else the moments of the predictions are estimated (Horvitz & Thompson 1952)
and corrected by those of a few rules, which predict every token for nothing: the difference estimator with a fitted
coefficient, as in prediction-powered inference (Angelopoulos et al. 2023). The moments of the truth are known.

Shape suffixes: K weighted records, M fragments, L tokens of a fragment, A active tokens, 3 moments: xy, y, y^2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autointerp.population import Floats as Floats32
from autointerp.population import Population
from autointerp.scorers.influences import correlation_influence, correlation_without_each
from autointerp.statistics.clusters import Influence

Outcome: TypeAlias = float | Literal["undefined", "failed"]
Floats = NDArray[np.float64]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Truth:
    """Holds what is known of the activations x of all n tokens: mean and standard deviation."""

    n: int
    mean: float
    deviation: float

    @staticmethod
    @lru_cache(maxsize=16)
    def of(population: Population) -> Truth:
        """Sum a feature's activations; a feature has many explanations, scored in turn."""
        n, value_A = population.text.ids_ML.size, population.value_A.astype(np.float64)
        mean = float(value_A.sum()) / n
        if len(value_A) == n and value_A.min() == value_A.max():
            return Truth(n, mean, 0.0)  # below, rounding would leave it a deviation
        return Truth(n, mean, math.sqrt(max(0.0, float((value_A**2).sum()) / n - mean**2)))


def exact(population: Population, predicted_ML: Floats32) -> Outcome:
    """Return Pearson's r over every token of the population."""
    truth = Truth.of(population)
    if truth.deviation == 0:
        return "undefined"
    return _correlation(_totals(population, predicted_ML), truth)


@dataclass(frozen=True)
class WeightedPredictions:
    """Holds the weighted records with what was predicted on them."""

    true_KL: Floats
    predicted_KL: Floats
    control_KL: Floats
    """What the rules predict there."""
    weight_K: Floats
    """One over each record's inclusion probability."""


def estimate(
    population: Population, sample: WeightedPredictions, control_ML: Floats32
) -> tuple[Outcome, tuple[float, float] | None]:
    """Estimate Pearson's r over every token of the population, with a 95% interval.

    Args:
        control_ML: what the rules predict on the whole population.

    Returns:
        "undefined" if the activations are constant, "failed" if the predictions on all records are; then no interval.
    """
    truth = Truth.of(population)
    if truth.deviation == 0:
        return "undefined", None
    if np.ptp(sample.predicted_KL) == 0:
        return "failed", None
    residual_K3, _, totals_3 = _corrected(population, sample, control_ML)
    outcome = _correlation(totals_3, truth)
    if not isinstance(outcome, float):
        return outcome, None
    return outcome, _interval(outcome, _gradient(totals_3, truth) @ residual_K3.T, sample.weight_K)


def exact_influence(population: Population, predicted_ML: Floats32) -> Influence | None:
    """Return the documents' influences on `exact`; None where that is undefined."""
    return correlation_without_each(population.text.documents[0], document_moments(population, predicted_ML))


def estimated_influence(
    population: Population, sample: WeightedPredictions, control_ML: Floats32, document_K: Sequence[int]
) -> Influence | None:
    """Return the documents' influences on `estimate`; None where that is undefined.

    Args:
        document_K: each weighted record's document.
    """
    document_D = population.text.documents[0]
    residual_K3, known_ML, _ = _corrected(population, sample, control_ML)
    moments_6D = document_moments(population, known_ML)
    index_K = np.searchsorted(document_D, document_K)
    for row, residual_K in zip((5, 2, 4), residual_K3.T, strict=True):
        moments_6D[row] += np.bincount(index_K, sample.weight_K * residual_K, len(document_D))
    return correlation_influence(document_D, moments_6D)


@dataclass(frozen=True, eq=False)
class _ByDocument:
    """Holds what is known of a feature's activations x in each document."""

    n_D: Floats
    """Tokens."""
    x_D: Floats
    xx_D: Floats
    index_A: NDArray[np.intp]
    """The document of each active token, as an index among the documents."""

    @staticmethod
    @lru_cache(maxsize=16)
    def of(population: Population) -> _ByDocument:
        """Sum a feature's activations; a feature has many explanations, scored in turn."""
        document_D, index_M = population.text.documents
        n, length = len(document_D), population.text.ids_ML.shape[1]
        index_A, value_A = index_M[population.position_A // length], population.value_A.astype(np.float64)
        n_D = np.bincount(index_M, minlength=n).astype(np.float64) * length
        x_D, xx_D = np.bincount(index_A, value_A, n), np.bincount(index_A, value_A**2, n)
        return _ByDocument(n_D, x_D.astype(np.float64), xx_D.astype(np.float64), index_A)


def document_moments(population: Population, values_ML: Floats32 | Floats) -> Floats:
    """Sum 1, x, y, x^2, y^2 and xy over each document, [6, D]: x the activations, y the values."""
    true, index_M = _ByDocument.of(population), population.text.documents[1]
    n = len(true.n_D)
    predicted_A = values_ML.reshape(-1)[population.position_A]
    xy_D = np.bincount(true.index_A, population.value_A.astype(np.float64) * predicted_A, n)
    values_ML = values_ML.astype(np.float64)
    squares_M = np.einsum("ml,ml->m", values_ML, values_ML)
    y_D, yy_D = (np.bincount(index_M, terms_M, n) for terms_M in (values_ML.sum(1), squares_M))
    return np.stack([true.n_D, true.x_D, y_D, true.xx_D, yy_D, xy_D])


def _corrected(
    population: Population, sample: WeightedPredictions, control_ML: Floats32
) -> tuple[Floats, Floats, Floats]:
    """Estimate the predictions' moments from where they differ from `level + slope * control`, which is known.

    Level and slope are fitted by least squares. So a constant that is added to all predictions changes nothing, and the
    estimated variance is that of what is known, plus the mean square of the differences: it is never negative.

    Returns:
        each record's difference in the moments, [K, 3], what is known, [M, L], and the estimated totals, [3].
    """
    slope = _slope(sample)
    level = _weighted_mean(sample.predicted_KL - slope * sample.control_KL, sample.weight_K)
    known_K3 = _moments(sample.true_KL, level + slope * sample.control_KL)
    residual_K3 = _moments(sample.true_KL, sample.predicted_KL) - known_K3
    known_ML = level + slope * control_ML.astype(np.float64)
    return residual_K3, known_ML, sample.weight_K @ residual_K3 + _totals(population, known_ML)


def _slope(sample: WeightedPredictions) -> float:
    """Fit the predictions by the rules', by weighted least squares; 0 where the rules predict a constant."""
    centred_KL = sample.control_KL - _weighted_mean(sample.control_KL, sample.weight_K)
    square = _weighted_mean(centred_KL**2, sample.weight_K)
    return _weighted_mean(centred_KL * sample.predicted_KL, sample.weight_K) / square if square > 0 else 0.0


def _weighted_mean(values_KL: Floats, weight_K: Floats) -> float:
    return float(weight_K @ values_KL.mean(1) / weight_K.sum())


def _moments(true_KL: Floats, values_KL: Floats) -> Floats:
    """Sum each record's xy, y and y^2, [K, 3]."""
    return np.stack([(true_KL * values_KL).sum(1), values_KL.sum(1), (values_KL**2).sum(1)], axis=1)


def _totals(population: Population, values_ML: Floats32 | Floats) -> Floats:
    """Sum xy, y and y^2 over the population, [3]; not by BLAS, whose threads cost more here than they save.

    So the last digits do not depend on the number of threads either.
    """
    values_T = values_ML.reshape(-1).astype(np.float64)
    product = np.einsum("a,a", population.value_A.astype(np.float64), values_T[population.position_A])
    return np.array([product, values_T.sum(), np.einsum("t,t", values_T, values_T)])


def _variance(totals_3: Floats, n: int) -> float:
    mean = totals_3[1] / n
    variance = float(totals_3[2] / n - mean**2)
    return variance if variance > 1e-12 * totals_3[2] / n else 0.0  # the rest is rounding


def _correlation(totals_3: Floats, truth: Truth) -> Outcome:
    variance = _variance(totals_3, truth.n)
    if not variance > 0:
        return "failed"
    covariance = float(totals_3[0] - truth.mean * totals_3[1]) / truth.n
    return float(np.clip(covariance / (truth.deviation * math.sqrt(variance)), -1.0, 1.0))


def _gradient(totals_3: Floats, truth: Truth) -> Floats:
    """Differentiate the correlation by the three totals, [3]."""
    mean, deviation = totals_3[1] / truth.n, math.sqrt(_variance(totals_3, truth.n))
    r = float(totals_3[0] - truth.mean * totals_3[1]) / truth.n / (truth.deviation * deviation)
    scale = 1 / (truth.n * truth.deviation * deviation)
    by_square = -r / (2 * truth.n * deviation**2)
    return np.array([scale, -truth.mean * scale - 2 * mean * by_square, by_square])


def _interval(r: float, influence_K: Floats, weight_K: Floats) -> tuple[float, float] | None:
    """Make the interval from the spread of the weighted influences, by Hajek's approximation (1964); None for one."""
    from scipy import special

    free_K = 1 - 1 / weight_K
    k = int((free_K > 0).sum())
    if k == 0:
        return r, r
    if k == 1:
        return None
    values_K = weight_K * influence_K
    centre = float(free_K @ values_K / free_K.sum())
    error = math.sqrt(k / (k - 1) * float(free_K @ (values_K - centre) ** 2))
    reach = float(special.stdtrit(k - 1, 0.5 + CONFIDENCE / 2)) * error
    return max(-1.0, r - reach), min(1.0, r + reach)


def sample_of(
    true: Sequence[Sequence[float]],
    predicted: Sequence[Sequence[float]],
    control: Sequence[Sequence[float]],
    weights: Sequence[float],
) -> WeightedPredictions:
    """Make the arrays of weighted records, which are equally long."""
    return WeightedPredictions(*(np.asarray(values, np.float64) for values in (true, predicted, control, weights)))
