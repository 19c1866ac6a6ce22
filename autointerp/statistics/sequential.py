"""Computes how strict each of several looks at growing data must be, so that all of them together keep an error rate.

An estimate that is looked at again and again while features are added crosses a fixed bound far too often. Its
standardised values at two looks are correlated by the square root of the ratio of their numbers of features (Jennison
& Turnbull 2000, chapter 3). An error-spending function says how much of the error rate each look may use up (Lan &
DeMets 1983), and integration over the paths that have not crossed before gives the bounds (Armitage, McPherson & Rowe
1969).

Intervals that reach as far as these bounds hold at all looks together, by whatever rule one stops: they are repeated
confidence intervals (Jennison & Turnbull 1989). Looks that also share the error of a common text are correlated more
strongly, and their bounds are crossed less often (Slepian 1962). Bounds are given as one-sided p-values, which serve
for Student's t as well (Jennison & Turnbull 2000, section 4.4).

Shape suffix: G points of integration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from autointerp.statistics.clusters import Floats

GROWTH = 1.5
"""Each round ends with this many times the features of the one before it."""
POINTS = 300
LOWEST, HIGHEST = -9.0, 12.0
"""Standardised values between which is integrated, and bounds lie."""
Spending = Callable[[float], float]
"""Returns the share of an error rate that may be used up when this share of all features is scored."""


def pocock_type(share: float) -> float:
    """Return log(1 + (e - 1) share): the bounds are nearly the same at all looks (Lan & DeMets 1983)."""
    return math.log(1 + (math.e - 1) * share)


def sizes(first: int, most: int) -> list[int]:
    """Return how many features of a dictionary each round ends with: GROWTH times as many as before, at last all."""
    ends = [first]
    while ends[-1] < most:
        ends.append(math.ceil(ends[-1] * GROWTH))
    return [*ends[:-1], most]


def levels(ends: Sequence[int], alpha: float, spending: Spending = pocock_type) -> list[float]:
    """Return the one-sided p-value below which each look must be: in all, a share alpha of null paths ever is.

    Args:
        ends: numbers of features at each look; ascending, all of them at last.
        alpha: one-sided error rate of all looks together.
        spending: what share of it is used up; all of it at the last look.
    """
    from scipy import special

    return [float(special.ndtr(-bound)) for bound in _bounds(tuple(ends), alpha, spending)]


@cache
def _bounds(ends: tuple[int, ...], alpha: float, spending: Spending) -> tuple[float, ...]:
    """Return the bounds of the standardised values."""
    from scipy import optimize, special

    used = [alpha * spending(end / ends[-1]) for end in ends]
    bounds = [float(-special.ndtri(used[0]))]
    point_G, weight_G = _points(bounds[0])
    mass_G = weight_G * _density(point_G)
    for number in range(1, len(ends)):
        correlation = math.sqrt(ends[number - 1] / ends[number])
        rest = math.sqrt(1 - correlation**2)
        step, mean_G = used[number] - used[number - 1], correlation * point_G

        def excess(bound: float, mass_G: Floats = mass_G, mean_G: Floats = mean_G, rest: float = rest) -> float:
            return float(mass_G @ special.ndtr((mean_G - bound) / rest))

        bound = optimize.brentq(lambda bound, step=step: excess(bound) - step, LOWEST, HIGHEST, xtol=1e-10)
        bounds.append(float(bound))
        point_G, weight_G = _points(bounds[-1])
        mass_G = weight_G * (_density((point_G[:, None] - mean_G) / rest) @ mass_G) / rest
    return tuple(bounds)


def _points(bound: float) -> tuple[Floats, Floats]:
    """Return points and weights of Gauss and Legendre's quadrature below a bound."""
    point_G, weight_G = np.polynomial.legendre.leggauss(POINTS)
    half = (bound - LOWEST) / 2
    return LOWEST + half * (point_G + 1), half * weight_G


def _density(value: Floats) -> Floats:
    """Return the standard normal density."""
    density: Floats = np.exp(-(value**2) / 2) / math.sqrt(2 * math.pi)
    return density
