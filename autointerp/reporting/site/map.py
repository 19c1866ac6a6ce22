"""Lays features out in a plane by their decoder directions: by UMAP where umap-learn is installed, else by PCA.

Shape suffixes: F features, D the width of a decoder row, 2 the plane.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from autointerp.records import FeatureRecord
from autointerp.reporting.site.chunks import number

FEWEST = 8
"""Directions below which there is no map."""
NEIGHBOURS = 15
"""Of UMAP; its default."""
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
    rows_FD = np.array([features[index][1].direction for index in indices], np.float32)
    unit_FD = rows_FD / np.maximum(np.linalg.norm(rows_FD, axis=1, keepdims=True), 1e-12)
    method = "UMAP" if find_spec("umap") else "PCA"
    point_F2 = _umap(unit_FD) if method == "UMAP" else _pca(unit_FD)
    points: list[Point | None] = [None] * len(features)
    for index, point in zip(indices, point_F2.tolist(), strict=True):
        points[index] = [number(value) for value in point]
    return FeatureMap(method, largest[0][1], tuple(points))


def _umap(unit_FD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embed by UMAP (McInnes et al. 2018) with cosine distances and a fixed seed: the same run gives the same map."""
    import umap  # a second or more, and needed here only

    reducer = umap.UMAP(n_neighbors=min(NEIGHBOURS, len(unit_FD) - 1), metric="cosine", random_state=0, n_jobs=1)
    return np.asarray(reducer.fit_transform(unit_FD), np.float32)


def _pca(unit_FD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Project on the two directions of largest variance; each points where its largest coordinate is positive."""
    centred_FD = unit_FD - unit_FD.mean(0)
    values, vectors_FF = np.linalg.eigh((centred_FD @ centred_FD.T).astype(np.float64))
    point_F2 = vectors_FF[:, :-3:-1] * np.sqrt(np.maximum(values[:-3:-1], 0.0))
    signs = np.sign(point_F2[np.abs(point_F2).argmax(0), range(2)])
    return np.asarray(point_F2 * np.where(signs == 0, 1, signs), np.float32)
