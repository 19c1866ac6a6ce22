"""Plants features: a concept's firings, all of them, and wrong firings elsewhere at random.

Shape suffixes: M blocks of text, L tokens of a block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.calibration.concepts import Concept, Mask
from autointerp.calibration.language import PlantedText
from sae.common.seeds import numpy_generator

MOST_FIRING = 0.5
"""Largest density of a planted feature."""
Activations = NDArray[np.float32]


@dataclass(frozen=True)
class Cell:
    """Describes one kind of planted feature; each of its features has another concept."""

    family: str
    density: float
    """The concept's density that was aimed at; `Planted.concept_density` is what it is."""
    noise: float
    """Share of the feature's firings that are wrong."""
    amplitude: float
    """Activation of a wrong firing; of a right one it is 1."""


@dataclass(frozen=True)
class Planted:
    """Describes one planted feature."""

    cell: Cell
    concept: Concept
    copy: int = 0
    """Tells features of one cell apart."""

    @property
    def key(self) -> str:
        """A name of its own, from which its wrong firings are drawn."""
        cell = self.cell
        return f"{cell.family} {self.concept.name} {cell.density:g} {cell.noise:g} {cell.amplitude:g} {self.copy}"


def is_possible(concept_density: float, noise: float) -> bool:
    """Tell whether so many wrong firings fit beside the right ones."""
    return concept_density / (1 - noise) <= MOST_FIRING


def activations(planted: Planted, held_ML: Mask, text: PlantedText, seed: int) -> Activations:
    """Return the feature's activations, [M, L].

    1 wherever the concept holds; elsewhere `amplitude` at as many tokens, drawn at random, as make `noise` the share
    of wrong firings.

    Args:
        held_ML: where the concept holds in this text.
    """
    made_ML = held_ML.astype(np.float32)
    noise = planted.cell.noise
    n_wrong = round(int(held_ML.sum()) * noise / (1 - noise))
    if n_wrong:
        rng = numpy_generator(seed, "wrong firings", planted.key)
        free = np.flatnonzero(~held_ML)
        made_ML.reshape(-1)[rng.choice(free, min(n_wrong, len(free)), replace=False)] = planted.cell.amplitude
    return made_ML


def closed_form(concept_density: float, noise: float, amplitude: float = 1.0) -> float:
    """Return the correlation of a concept with its planted feature over all text.

    With d the concept's density, q = d / (1 - noise) the feature's and a the amplitude of the q - d wrong firings, the
    feature's mean is m = d + a (q - d) and its mean square s = d + a^2 (q - d). All right firings are in, so the
    covariance is d - d m, and r = d (1 - m) / sqrt(d (1 - d) (s - m^2)). With a = 1 this is
    sqrt(d (1 - q) / (q (1 - d))).
    """
    d, wrong = concept_density, concept_density / (1 - noise) - concept_density
    mean, square = d + amplitude * wrong, d + amplitude**2 * wrong
    return d * (1 - mean) / math.sqrt(d * (1 - d) * (square - mean**2))


def correlation(a_ML: NDArray[Any], b_ML: NDArray[Any]) -> float:
    """Return Pearson's r over all tokens; 0 where either is constant."""
    a, b = a_ML.ravel().astype(np.float64), b_ML.ravel().astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm else 0.0
