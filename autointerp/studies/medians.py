"""Computes the median of features' values with an interval."""

from collections.abc import Sequence

import numpy as np

from autointerp.statistics.intervals import Interval
from sae.common.seeds import numpy_generator

DRAWS = 2000


def median_interval(values: Sequence[float]) -> Interval | None:
    """Return the median over features with its 95% interval by the percentile bootstrap; None without values."""
    if not values:
        return None
    drawn = numpy_generator(0, "bootstrap of medians").choice(np.asarray(values), (DRAWS, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975)).tolist()
    return Interval(float(np.median(values)), low, high)
