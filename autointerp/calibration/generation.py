"""Measures sensitivity and specificity by generation: text written from the explanation, does the feature fire?

Sensitivity by generation is of arXiv 2509.23717. Here the grammar writes the text, and the concept's label says exactly
whether the feature fires.

Shape suffixes: M blocks of text, L tokens of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autointerp.calibration.concepts import Concept, Mask
from autointerp.calibration.language import DOMAIN_NAMES, Ids, PlantedText, tokens_of, vocabulary
from autointerp.prompting.predict_text import predict_text
from autointerp.prompting.rules import NEAR_WINDOW, Rule
from sae.common.seeds import numpy_generator

TEXTS = 40
"""Texts that are written from one explanation."""


@dataclass(frozen=True)
class Generated:
    """Holds what texts say about one explanation; None where no text can be written, or all are about it."""

    sensitivity: float | None
    """Share of the texts written from it in which the concept holds at the token that was written for it."""
    specificity: float | None
    """Share of the texts that it says nothing about in which the concept holds nowhere."""


def generated(rules: tuple[Rule, ...], concept: Concept, carriers: PlantedText, seed: int) -> Generated:
    """Write texts from an explanation's rules and read off the concept's labels.

    Each text is a block of the planted language, of a domain that has the rule's tokens where there is one, into which
    one of the rules, drawn at random, is written at a random position.

    Args:
        carriers: text that no record was drawn from.
    """
    silent_M: Mask = predict_text(rules, carriers.population).max(1) == 0
    held_M: Mask = concept.holds(carriers).max(1)
    specificity = float((~held_M[silent_M]).mean()) if silent_M.any() else None
    known = [rule for rule in rules if all(token in vocabulary() for token in rule.key)]
    if not known:
        return Generated(None, specificity)
    rng = numpy_generator(seed, "texts written from explanations", concept.family, concept.name)
    rows = [_write(known[int(rng.integers(len(known)))], carriers, rng) for _ in range(TEXTS)]
    number_M = np.array([block for block, _, _ in rows])
    written = PlantedText(np.stack([ids_L for _, ids_L, _ in rows]), np.arange(TEXTS), carriers.domain_M[number_M])
    at_M = np.array([position for _, _, position in rows])
    return Generated(float(concept.holds(written)[np.arange(TEXTS), at_M].mean()), specificity)


def _write(rule: Rule, carriers: PlantedText, rng: np.random.Generator) -> tuple[int, Ids, int]:
    """Return a block's index, its tokens with the rule written into them, and where the rule then holds."""
    ids = [vocabulary().index(token) for token in rule.key]
    block = int(rng.choice(_carriers_of(ids, carriers)))
    ids_L = carriers.ids_ML[block].copy()
    distance = {"token": 0, "pair": 1, "after": 1, "near": int(rng.integers(1, NEAR_WINDOW + 1))}[rule.kind]
    position = int(rng.integers(distance, len(ids_L)))
    ids_L[position - distance] = ids[0]
    if rule.kind == "pair":
        ids_L[position] = ids[1]
    return block, ids_L, position


def _carriers_of(ids: list[int], carriers: PlantedText) -> Ids:
    """Return the blocks of the domains that write all these tokens; if there is none, all blocks."""
    domains = [number for number, name in enumerate(DOMAIN_NAMES) if tokens_of(name).issuperset(ids)]
    here = np.flatnonzero(np.isin(carriers.domain_M, domains))
    return here if len(here) else np.arange(len(carriers.domain_M))
