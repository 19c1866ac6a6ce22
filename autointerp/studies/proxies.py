"""Measures how well single features tell a concept with a rule: specificity and sensitivity (Bricken et al. 2023).

A rule tells on which tokens a concept holds. Its log-likelihood ratio at a token is log P(token | concept) / P(token),
with the frequencies of single tokens. These, and the best feature of each concept, come from some blocks of the text;
all that is reported comes from the others.

Shape suffixes: M blocks, L tokens of a block, T all tokens in order, A a feature's active tokens, C concepts,
F features, V vocabulary, Q sums of a block, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sae.common.seeds import numpy_generator

FEWEST = 50
"""Tokens that a concept needs, in the searched and in the measured blocks each."""
PARTS = 5
"""Intervals between 0 and a feature's largest activation, evenly spaced."""
DRAWS = 1000
"""Resamples of the blocks behind an interval."""
AT_ONCE = 64
"""Features whose activations on the whole text are spelt out at once."""
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Column:
    """Holds the tokens of a text on which one feature is active."""

    index: int
    """The feature's, in its dictionary."""
    position_A: NDArray[np.int32]
    """Indices among all tokens of the text."""
    value_A: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Holds a text with the tokens on which concepts hold."""

    ids_ML: NDArray[np.int32]
    searched_M: Mask
    """Blocks on which features are chosen; the others are measured."""
    concepts: Mapping[str, Mask]
    """Of each concept the mask [M, L] of its tokens."""

    def tokens(self, concept: str) -> tuple[int, int]:
        """Count a concept's tokens in the searched and in the measured blocks."""
        mask_ML = self.concepts[concept]
        return int(mask_ML[self.searched_M].sum()), int(mask_ML[~self.searched_M].sum())


def measure_concepts(text: Labelled, features: Sequence[Column], neurons: Sequence[Column]) -> dict[str, Any]:
    """Measure the best feature and the best neuron of each concept that has tokens enough; plain values for JSON.

    Intervals are 95%, over resampled blocks.
    """
    kept = [name for name in text.concepts if min(text.tokens(name)) >= FEWEST]
    if not kept or not features:
        return {"concepts": [], "left_out": sorted(text.concepts), "blocks": 0}
    labels = [text.concepts[name] for name in kept]
    # The control has the labels of another block: what choosing the best of all features gives by itself.
    moved = [np.roll(mask_ML, len(mask_ML) // 2, 0) for mask_ML in labels]
    best, best_neuron = (
        _most_correlated(columns, [*labels, *moved], text.searched_M) for columns in (features, neurons)
    )
    n = len(kept)
    concepts = []
    for row, name in enumerate(kept):
        own, neuron, control = (
            _measured(columns[index], mask_ML, text) if index is not None else None
            for columns, index, mask_ML in (
                (features, best[row], labels[row]), (neurons, best_neuron[row], labels[row]),
                (features, best[n + row], moved[row]),
            )
        )  # fmt: skip
        if own is not None:
            concepts.append({"name": name, "tokens": text.tokens(name)[1]} | _described(own, neuron, control))
    left_out = [name for name in text.concepts if name not in {one["name"] for one in concepts}]
    return {"concepts": concepts, "left_out": left_out, "blocks": int((~text.searched_M).sum())}


def _most_correlated(columns: Sequence[Column], masks: Sequence[Mask], kept_M: Mask) -> list[int | None]:
    """Return of each mask the row of the column that correlates most with it in the kept blocks; None without any."""
    kept_T = np.repeat(kept_M, masks[0].shape[1]).astype(np.float32)
    labels_TC = np.stack([mask_ML.ravel() * kept_T for mask_ML in masks], 1)
    n = float(kept_T.sum())
    share_C, best_C, row_C = labels_TC.sum(0) / n, np.zeros(len(masks)), np.full(len(masks), -1)
    for start in range(0, len(columns), AT_ONCE):
        part = columns[start : start + AT_ONCE]
        acts_FT = np.zeros((len(part), len(kept_T)), np.float32)
        for row, column in enumerate(part):
            acts_FT[row, column.position_A] = column.value_A
        acts_FT *= kept_T
        mean_F1, square_F1 = acts_FT.sum(1, keepdims=True) / n, np.square(acts_FT).sum(1, keepdims=True) / n
        variance_FC = np.maximum(square_F1 - mean_F1**2, 1e-30) * (share_C * (1 - share_C))
        correlation_FC = (acts_FT @ labels_TC / n - mean_F1 * share_C) / np.sqrt(variance_FC)
        top_C = correlation_FC.argmax(0)
        value_C = correlation_FC.max(0)
        row_C = np.where(value_C > best_C, start + top_C, row_C)
        best_C = np.maximum(best_C, value_C)
    return [int(row) if row >= 0 else None for row in row_C]


@dataclass(frozen=True, eq=False)
class _Measured:
    """Holds what one feature does about one concept in the measured blocks."""

    index: int
    sums_MQ: Floats
    """Of each block: tokens, activation, its square, the concept's tokens, activation there, active ones of these."""
    ratios: list[float | None]
    """Mean log-likelihood ratio where the feature is inactive, then of each interval of its activation."""
    counts: list[int]
    """Tokens behind each."""

    def shares(self, weight_RM: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the correlation, the share of the concept's tokens, and that of the activation, of weighted blocks."""
        n, total, square, labels, together, active = (weight_RM @ self.sums_MQ).T
        covariance = together / n - total / n * labels / n
        variances = (square / n - np.square(total / n)) * (labels / n) * (1 - labels / n)
        correlation = covariance / np.sqrt(np.maximum(variances, 1e-30))
        return correlation, active / np.maximum(labels, 1), together / np.maximum(total, 1e-30)


def _measured(column: Column, mask_ML: Mask, text: Labelled) -> _Measured:
    acts_T = np.zeros(text.ids_ML.size)
    acts_T[column.position_A] = column.value_A
    acts_ML, label_ML = acts_T.reshape(text.ids_ML.shape)[~text.searched_M], mask_ML[~text.searched_M]
    parts = (np.ones_like(acts_ML), acts_ML, acts_ML**2, label_ML, acts_ML * label_ML, (acts_ML > 0) & label_ML)
    sums_MQ = np.stack([part.sum(1) for part in parts], 1).astype(np.float64)
    ratio_ML = _log_ratios(mask_ML, text)[text.ids_ML[~text.searched_M]]
    part_ML = np.ceil(acts_ML / max(float(acts_ML.max()), 1e-30) * PARTS).astype(int)
    inside = [ratio_ML[part_ML == part] for part in range(PARTS + 1)]
    return _Measured(column.index, sums_MQ, [float(one.mean()) if one.size else None for one in inside],
                     [one.size for one in inside])  # fmt: skip


def _log_ratios(mask_ML: Mask, text: Labelled) -> Floats:
    """Return log P(token | concept) / P(token) of every token [V], in nats, from the searched blocks.

    P(token | concept) has one more token, drawn from P, so that a token that the concept lacks has a finite ratio.
    """
    size = int(text.ids_ML.max()) + 1
    ids_ML, label_ML = text.ids_ML[text.searched_M], mask_ML[text.searched_M]
    counts_V, own_V = (np.bincount(ids, minlength=size) for ids in (ids_ML.ravel(), ids_ML[label_ML]))
    p_V = (counts_V + 0.5) / (counts_V.sum() + 0.5 * size)
    ratio_V: Floats = np.log((own_V / p_V + 1) / (own_V.sum() + 1))
    return ratio_V


def _described(own: _Measured, neuron: _Measured | None, control: _Measured | None) -> dict[str, Any]:
    """Return what a concept's feature does; of its neuron and of the control what there is of them."""
    n = len(own.sums_MQ)
    drawn_RM = numpy_generator(0, "bootstrap of labelled blocks").multinomial(n, [1 / n] * n, DRAWS)
    weight_RM = np.concatenate([np.ones((1, n)), drawn_RM])  # the first row is the estimate
    correlation, sensitivity, specificity = own.shares(weight_RM)
    values = {
        "feature": own.index,
        "correlation": _interval(correlation),
        "sensitivity": _interval(sensitivity),
        "specificity": _interval(specificity),
        "ratios": own.ratios,
        "counts": own.counts,
    }
    if control is not None:
        values |= {"control": _interval(control.shares(weight_RM)[0])}
    if neuron is not None:
        other = neuron.shares(weight_RM)[0]
        values |= {
            "neuron": neuron.index,
            "neuron_correlation": _interval(other),
            "above_neuron": _interval(correlation - other),
            "neuron_ratios": neuron.ratios,
        }
    return values


def _interval(value_R: Floats) -> list[float]:
    return [float(value_R[0]), *np.quantile(value_R[1:], (0.025, 0.975)).tolist()]
