"""Sums up a feature's population: eleven even activation intervals with excerpts, and a histogram.

The intervals are those of Towards Monosemanticity's feature pages (Bricken et al. 2023), over the text that scores are
about. Shape suffixes: A active tokens, L tokens of a fragment.
"""

from typing import Any

import numpy as np

from autointerp.population import Population
from autointerp.reporting.site.chunks import cut_tokens, number, rounded

INTERVALS, BINS = 11, 44
"""Even parts of (0, largest activation]; bins of the histogram, four to an interval."""
EXCERPTS, REACH = 3, 10
"""Excerpts of an interval, and tokens of an excerpt before and after the one in the interval."""


def summary(population: Population) -> dict[str, Any] | None:
    """Describe the distribution of a feature's activations; None if it is active nowhere.

    Intervals come strongest first; `share` is of all tokens, and excerpts are evenly spaced over the text.
    """
    if not population.value_A.size:
        return None
    highest = float(population.value_A.max())
    bin_A = np.minimum((population.value_A / highest * BINS).astype(int), BINS - 1)
    n_tokens = population.text.ids_ML.size
    return {
        "tokens": n_tokens,
        "active": population.value_A.size,
        "max": number(highest),
        "bins": np.bincount(bin_A, minlength=BINS).tolist(),
        "intervals": [
            _interval(population, np.flatnonzero(bin_A * INTERVALS // BINS == part), n_tokens)
            for part in reversed(range(INTERVALS))
        ],
    }


def _interval(population: Population, indices: np.ndarray, n_tokens: int) -> dict[str, Any]:
    picks = np.unique(np.linspace(0, len(indices) - 1, min(EXCERPTS, len(indices))).round().astype(int))
    return {
        "share": number(len(indices) / n_tokens),
        "excerpts": [_excerpt(population, int(index)) for index in indices[picks]],
    }


def _excerpt(population: Population, index: int) -> dict[str, Any]:
    """Cut the tokens around an active one, which is number `at` of the excerpt."""
    length = population.text.ids_ML.shape[1]
    position = int(population.position_A[index])
    fragment, offset = divmod(position, length)
    start, end = max(0, offset - REACH), min(length, offset + REACH + 1)
    ids = population.text.ids_ML[fragment, start:end].tolist()
    acts = np.zeros(end - start)
    first = fragment * length + start
    low, high = np.searchsorted(population.position_A, [first, first + end - start])
    acts[population.position_A[low:high] - first] = population.value_A[low:high]
    return {
        "document": int(population.text.document_M[fragment]),
        "tokens": cut_tokens([population.text.vocabulary[token] for token in ids]),
        "acts": rounded(acts.tolist()),
        "at": offset - start,
    }
