"""Lays features out in a plane by their decoder directions.

Shape suffixes: F features, D the width of a decoder row, 2 the plane.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autointerp.records import FeatureRecord
from autointerp.reporting.site.chunks import number
from autointerp.statistics.plane import in_plane

FEWEST = 8
"""Directions below which there is no map."""
Point = list[float | None]


@dataclass(frozen=True)
class FeatureMap:
    """Holds where features stand."""

    method: str
    """UMAP or PCA."""
    writes: str
    """The hook points that the directions on the map are written to; directions of others cannot be compared."""
    points: tuple[Point | None, ...]
    """x and y of each feature; None if it is not on the map."""


def feature_map(features: Sequence[tuple[int, FeatureRecord]]) -> FeatureMap | None:
    """Place features, each given with the number of its run; of several spaces, that of the most features is drawn.

    None if there are too few directions.
    """
    spaces = [
        (run, feature.writes, len(feature.direction)) if feature.direction is not None else None
        for run, feature in features
    ]
    counts = Counter(filter(None, spaces))
    if not counts or (largest := counts.most_common(1)[0])[1] < FEWEST:
        return None
    indices = [index for index, space in enumerate(spaces) if space == largest[0]]
    rows_FD = np.array([features[index][1].direction for index in indices], np.float64)
    unit_FD = rows_FD / np.maximum(np.linalg.norm(rows_FD, axis=1, keepdims=True), 1e-12)
    method, point_F2 = in_plane(unit_FD.astype(np.float32))
    points: list[Point | None] = [None] * len(features)
    for index, point in zip(indices, point_F2.tolist(), strict=True):
        points[index] = [number(value) for value in point]
    return FeatureMap(method, largest[0][1], tuple(points))
