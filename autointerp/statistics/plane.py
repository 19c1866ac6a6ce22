"""Lays directions out in a plane: by UMAP where umap-learn is installed, else by PCA.

Shape suffixes: F directions, D their width, 2 the plane.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 15
"""Of UMAP; its default."""


def in_plane(unit_FD: NDArray[np.float32]) -> tuple[str, NDArray[np.float32]]:
    """Return the method's name and where it places unit vectors, [F, 2]."""
    return ("UMAP", _umap(unit_FD)) if find_spec("umap") else ("PCA", _pca(unit_FD))


def _umap(unit_FD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embed by UMAP (McInnes et al. 2018) with cosine distances and a fixed seed: the same run gives the same map."""
    import umap  # a second or more, and needed here only

    reducer = umap.UMAP(n_neighbors=min(NEIGHBOURS, len(unit_FD) - 1), metric="cosine", random_state=0, n_jobs=1)
    return np.asarray(reducer.fit_transform(unit_FD), np.float32)


def _pca(unit_FD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Project on the two directions of largest variance; each points where its largest coordinate is positive."""
    centred_FD = unit_FD - unit_FD.mean(0, dtype=np.float64)
    values, vectors_FF = np.linalg.eigh(centred_FD @ centred_FD.T)
    point_F2 = vectors_FF[:, :-3:-1] * np.sqrt(np.maximum(values[:-3:-1], 0.0))
    signs = np.sign(point_F2[np.abs(point_F2).argmax(0), range(2)])
    return np.asarray(point_F2 * np.where(signs == 0, 1, signs), np.float32)
