"""Planted features: densities as they should be, and the closed form against what is simulated."""

import math

import numpy as np
import pytest

from autointerp.calibration.cells import Cell, Planted, activations, closed_form, correlation, is_possible
from autointerp.calibration.concepts import Concept, single
from autointerp.calibration.language import category_ids, generate

TEXT = generate(120_000, 0)
CONCEPTS = [
    Concept("token", "the", ((single("token", category_ids("determiner")[0]),),)),
    Concept("near", "court", ((single("near", category_ids("party")[2]),),)),
    Concept("domain", "dna", domain="dna"),
]


POSSIBLE = [
    (concept, noise)
    for concept in CONCEPTS
    for noise in (0.0, 0.1, 0.5, 0.9)
    if is_possible(float(concept.holds(TEXT).mean()), noise)
]


@pytest.mark.parametrize(("concept", "noise"), POSSIBLE)
@pytest.mark.parametrize("amplitude", [1.0, 0.3])
def test_the_closed_form_is_the_correlation_of_the_concept_with_the_feature(
    concept: Concept, noise: float, amplitude: float
) -> None:
    held = concept.holds(TEXT)
    density = float(held.mean())
    made = activations(Planted(Cell(concept.family, 0.01, noise, amplitude), concept), held, TEXT, 0)
    assert correlation(made, held) == pytest.approx(closed_form(density, noise, amplitude), abs=1e-3)
    assert (made[held] == 1).all()
    firing = float((made > 0).mean())
    assert firing == pytest.approx(density / (1 - noise), rel=1e-3)
    if amplitude == 1:
        q = density / (1 - noise)
        expected = math.sqrt(density * (1 - q) / (q * (1 - density)))
        assert closed_form(density, noise) == pytest.approx(expected)


def test_wrong_firings_are_the_features_own_and_the_seeds() -> None:
    concept = CONCEPTS[0]
    held = concept.holds(TEXT)
    cell = Cell("token", 0.01, 0.5, 1.0)
    made = [
        activations(Planted(cell, concept, copy), held, TEXT, seed) for copy, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    assert not np.array_equal(made[0], made[3])


def test_a_constant_correlates_with_nothing() -> None:
    assert correlation(np.ones(5), np.arange(5)) == 0
    assert correlation(np.arange(5), 3 * np.arange(5) + 1) == pytest.approx(1)
