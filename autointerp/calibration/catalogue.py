"""Chooses the concepts of the text that a calibration plants: of every family, near every density that is asked for.

Shape suffixes: M blocks of text, L tokens of a block, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autointerp.calibration.concepts import Concept, Family, Part, single
from autointerp.calibration.grammar import CATEGORIES
from autointerp.calibration.language import DOMAIN_NAMES, PlantedText, category_ids, vocabulary
from autointerp.prompting.rules import NEAR_WINDOW
from sae.common.seeds import numpy_generator

TOLERANCE = 1.8
"""A concept's density is at most so many times more, or less, than the one that is asked for."""
MOST_GIVEN = 0.6
"""Most of a pair's first or second token that the pair may be: neither token alone then says it."""
SMALLEST_SET = 3
TRIES = 60
"""Candidates whose density is counted in the text, of those that should have about the right one."""
POSITIONS = (
    (0, 1, 2, 3), (31,), (4, 12, 20, 28), tuple(range(0, 32, 3)), *((p,) for p in range(0, 31, 2)),
    *((p, p + 5) for p in range(1, 26, 4)),
)  # fmt: skip
"""What the features are active on that depend on nothing but the position in the block."""


@dataclass
class Catalogue:
    """Finds concepts in one text."""

    text: PlantedText
    seed: int
    _density: dict[str, float] = field(default_factory=dict)

    @cached_property
    def token_V(self) -> NDArray[np.float64]:
        """The density of each token."""
        counts_V = np.bincount(self.text.ids_ML.ravel(), minlength=len(vocabulary()))
        return counts_V / self.text.ids_ML.size

    @cached_property
    def pair_VV(self) -> NDArray[np.float64]:
        """The density of each token (column) right after each (row), within blocks."""
        size = len(vocabulary())
        codes = self.text.ids_ML[:, :-1] * size + self.text.ids_ML[:, 1:]
        counts_VV = np.bincount(codes.ravel(), minlength=size * size).reshape(size, size)
        return counts_VV / self.text.ids_ML.size

    def density(self, concept: Concept) -> float:
        """Count how often a concept holds in the text."""
        key = f"{concept.family} {concept.name}"
        if key not in self._density:
            self._density[key] = float(concept.holds(self.text).mean())
        return self._density[key]

    def choose(self, family: Family, density: float, copies: int) -> list[Concept]:
        """Draw up to so many different concepts of a family whose density is about the one that is asked for."""
        if family == "position":
            return [Concept("position", _name("positions", positions), positions=positions) for positions in POSITIONS]
        rng = numpy_generator(self.seed, "planted concepts", family, f"{density:g}")
        candidates = list(_BY_FAMILY[family](self, density, rng))
        concepts: dict[str, Concept] = {}
        for index in rng.permutation(len(candidates))[:TRIES].tolist():
            concept = candidates[index]
            if len(concepts) < copies and _is_near(self.density(concept), density):
                concepts[concept.name] = concept
        return list(concepts.values())

    def tokens(self, density: float) -> list[int]:
        """Return the tokens of about this density."""
        return [index for index, here in enumerate(self.token_V.tolist()) if _is_near(here, density)]

    def pairs(self, density: float) -> list[tuple[int, int]]:
        """Return the pairs of about this density of which neither token says much about the other."""
        share_VV = self.pair_VV / np.maximum(np.minimum(self.token_V[:, None], self.token_V[None, :]), 1e-12)
        near_VV = (self.pair_VV > density / TOLERANCE) & (self.pair_VV < density * TOLERANCE)
        return [(int(a), int(b)) for a, b in np.argwhere(near_VV & (share_VV < MOST_GIVEN))]


def _is_near(density: float, target: float) -> bool:
    return target / TOLERANCE < density < target * TOLERANCE


def _name(*words: object) -> str:
    return " ".join(map(str, words)).replace("\n", "\\n")


def _words(ids: Iterable[int]) -> str:
    return ", ".join(vocabulary()[index].strip(" ").replace("\n", "\\n") for index in ids)


def _token_part(index: int) -> Part:
    return (single("token", index),)


def _token_concepts(catalogue: Catalogue, density: float, rng: np.random.Generator) -> Iterator[Concept]:
    for index in catalogue.tokens(density):
        yield Concept("token", _words([index]), (_token_part(index),))


def _set_concepts(catalogue: Catalogue, density: float, rng: np.random.Generator) -> Iterator[Concept]:
    """Yield the last words of each category, from any of its words on."""
    for category in CATEGORIES:
        ids = category_ids(category)
        for start in range(len(ids) - SMALLEST_SET + 1):
            part = tuple(single("token", index) for index in ids[start:])
            yield from _if_near(catalogue, Concept("set", _words(ids[start:]), (part,)), ids[start:], density)


def _if_near(catalogue: Catalogue, concept: Concept, ids: Sequence[int], density: float) -> Iterator[Concept]:
    if _is_near(float(catalogue.token_V[list(ids)].sum()), density):
        yield concept


def _pair_concepts(catalogue: Catalogue, density: float, rng: np.random.Generator) -> Iterator[Concept]:
    for a, b in catalogue.pairs(density):
        yield Concept("pair", f"{_words([b])} after {_words([a])}", ((single("pair", a, b),),))


def _near_concepts(catalogue: Catalogue, density: float, rng: np.random.Generator) -> Iterator[Concept]:
    for index in {*catalogue.tokens(density / NEAR_WINDOW), *catalogue.tokens(density / NEAR_WINDOW * TOLERANCE)}:
        yield Concept("near", f"near {_words([index])}", ((single("near", index),),))


def _domain_concepts(catalogue: Catalogue, density: float, rng: np.random.Generator) -> Iterator[Concept]:
    for name in DOMAIN_NAMES:
        yield Concept("domain", name, domain=name)


def _mixture_concepts(count: int) -> Callable[[Catalogue, float, np.random.Generator], Iterator[Concept]]:
    """Return a function that mixes so many tokens and pairs of about equal density."""

    def mix(catalogue: Catalogue, density: float, rng: np.random.Generator) -> Iterator[Concept]:
        tokens = catalogue.tokens(density / count)
        pairs = catalogue.pairs(density / count)
        parts = {_words([index]): _token_part(index) for index in tokens}
        parts |= {f"{_words([b])} after {_words([a])}": (single("pair", a, b),) for a, b in pairs if a not in tokens}
        names = list(parts)
        for _ in range(TRIES if len(names) >= count else 0):
            drawn = sorted(names[index] for index in rng.choice(len(names), count, replace=False))
            family: Family = f"mixture of {count}"  # type: ignore[assignment]  # 2, 3 or 5
            yield Concept(family, "; ".join(drawn), tuple(parts[name] for name in drawn))

    return mix


_BY_FAMILY: dict[Family, Callable[[Catalogue, float, np.random.Generator], Iterator[Concept]]] = {
    "token": _token_concepts,
    "set": _set_concepts,
    "pair": _pair_concepts,
    "near": _near_concepts,
    "domain": _domain_concepts,
    "mixture of 2": _mixture_concepts(2),
    "mixture of 3": _mixture_concepts(3),
    "mixture of 5": _mixture_concepts(5),
}
