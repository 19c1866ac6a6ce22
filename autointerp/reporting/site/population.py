"""Sums up a feature's population: eleven even activation intervals with excerpts, and a histogram.

The intervals are those of Towards Monosemanticity's feature pages (Bricken et al. 2023), over the text that scores are
about. Shape suffixes: A active tokens, E excerpts.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.population import Population
from autointerp.reporting.site.chunks import cut_tokens, number, packed

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
    bin_A = np.minimum((population.value_A / highest * BINS).astype(np.uint8), BINS - 1)
    bins = np.bincount(bin_A, minlength=BINS)
    ends = bins.reshape(INTERVALS, -1).sum(1).cumsum()[:-1]
    by_interval = np.split(np.argsort(bin_A // (BINS // INTERVALS), kind="stable"), ends)[::-1]
    spread = [_spread(indices) for indices in by_interval]
    excerpts = _excerpts(population, population.position_A[np.concatenate(spread)])
    return {
        "tokens": population.text.ids_ML.size,
        "active": population.value_A.size,
        "max": number(highest),
        "bins": bins.tolist(),
        "intervals": [
            {"share": number(len(indices) / population.text.ids_ML.size), "excerpts": list(islice(excerpts, len(few)))}
            for indices, few in zip(by_interval, spread, strict=True)
        ],
    }


def _spread(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Take EXCERPTS of the indices, evenly spaced, or all where there are fewer."""
    last = len(indices) - 1
    return indices[sorted({round(last * part / (EXCERPTS - 1)) for part in range(EXCERPTS)}) if last >= 0 else []]


def _excerpts(population: Population, position_E: NDArray[np.int32]) -> Iterator[dict[str, Any]]:
    """Cut the tokens around the one at each position, which is number `at` of its excerpt."""
    text, length = population.text, population.text.ids_ML.shape[1]
    fragment_E = position_E // length
    start_E = np.maximum(position_E - REACH, fragment_E * length)
    end_E = np.minimum(position_E + REACH + 1, (fragment_E + 1) * length)
    low_E, high_E = (np.searchsorted(population.position_A, edge_E) for edge_E in (start_E, end_E))
    columns = (position_E, fragment_E, start_E, end_E, low_E, high_E)
    for position, fragment, start, end, low, high in zip(*(column.tolist() for column in columns), strict=True):
        acts = np.zeros(end - start, np.float32)
        acts[population.position_A[low:high] - start] = population.value_A[low:high]
        ids = text.ids_ML[fragment, start - fragment * length : end - fragment * length].tolist()
        yield {
            "document": int(text.document_M[fragment]),
            "tokens": cut_tokens([text.vocabulary[token] for token in ids]),
            "acts": packed(acts.tolist()),
            "at": position - start,
        }
