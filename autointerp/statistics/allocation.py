"""Says whether the features that are not scored yet can decide a comparison.

That is predictive power (Spiegelhalter, Freedman & Blackburn 1986; Jennison & Turnbull 2000, section 10.3). To give up
a comparison with little chance never makes an error more frequent, as long as the bounds do not count on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from autointerp.statistics.clusters import Estimate


def chance(
    estimated: Estimate, shrinking: float, sizes: Sequence[tuple[int, int]], margin: float, confidence: float
) -> float:
    """Return the probability that the interval of all features decides a comparison.

    It decides if 0 lies outside, or if it lies within +-margin. The text and the free scores are the same at every
    look, so that their part of the error neither shrinks nor moves the difference.

    Args:
        estimated: the difference of the features scored so far; it has a variance.
        shrinking: its variance that more scored features make smaller.
        sizes: of each sample, how many features are scored, and how many there are.
        margin: means that differ by less are equal.
        confidence: of the interval of all features.
    """
    from scipy import special

    now, end = (sum(1 / pair[index] for pair in sizes) for index in (0, 1))
    shrinking = min(shrinking, estimated.from_features)
    final = estimated.from_features - shrinking * (1 - end / now)
    reach = float(special.stdtrit(estimated.freedom * now / end, 0.5 + confidence / 2))
    half = reach * math.sqrt(final + (estimated.from_documents or 0.0))
    spread = math.sqrt(max(0.0, estimated.from_features - final))

    def above(value: float) -> float:
        if not spread:
            return float(estimated.centre > value)
        return float(special.stdtr(estimated.freedom, (estimated.centre - value) / spread))

    differ = above(half) + 1 - above(-half)
    return differ + max(0.0, above(half - margin) - above(margin - half))
