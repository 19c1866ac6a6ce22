"""Draws text of the planted language: seeded, with the domain of every document, as blocks without padding.

Shape suffixes: M blocks of text, L tokens of a block, V vocabulary.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from autointerp.calibration.grammar import CATEGORIES, DOMAINS, FALL, LINE_BREAK
from autointerp.population import PopulationText
from sae.common.seeds import numpy_generator

LENGTH = 32
"""Tokens of a block. A block is also a record's fragment: what a feature depends on is never cut off."""
BLOCKS_PER_DOCUMENT = (4, 12)
"""Fewest and most blocks of a document."""
Ids = NDArray[np.int64]
DOMAIN_NAMES = tuple(DOMAINS)


@dataclass(frozen=True)
class PlantedText:
    """Holds text of the planted language."""

    ids_ML: Ids
    """Index of each token in `vocabulary()`."""
    document_M: Ids
    """Index of each block's document; those of one document follow each other."""
    domain_M: Ids
    """Index of the document's domain in DOMAIN_NAMES."""

    @cached_property
    def population(self) -> PopulationText:
        """The same text, as rules are applied to it."""
        return PopulationText(vocabulary(), self.ids_ML.astype(np.int32), self.document_M.astype(np.int32))

    def take(self, rows_M: NDArray[np.bool_] | Ids) -> PlantedText:
        """Return some of the blocks."""
        return PlantedText(self.ids_ML[rows_M], self.document_M[rows_M], self.domain_M[rows_M])

    def documents(self) -> list[str]:
        """Write out every document, in order."""
        names = vocabulary()
        borders = np.flatnonzero(np.diff(self.document_M)) + 1
        parts = np.split(self.ids_ML, borders)
        return ["".join(names[index] for index in part.ravel()) for part in parts]


@cache
def vocabulary() -> tuple[str, ...]:
    """Return all tokens, each once: words with a space before them, and the line break."""
    words = [word for words in CATEGORIES.values() for word in words.split()]
    literals = [item for domain in DOMAINS.values() for item in domain.patterns.split() if item[0] != "$"]
    return tuple(dict.fromkeys(_token(word) for word in [*words, *literals] if word != "|"))


def _token(word: str) -> str:
    return "\n" if word == LINE_BREAK else f" {word}"


@cache
def category_ids(name: str) -> tuple[int, ...]:
    """Return the token indices of a category, the most frequent first."""
    index = {token: i for i, token in enumerate(vocabulary())}
    return tuple(index[_token(word)] for word in CATEGORIES[name].split())


@cache
def domain_ids(name: str) -> tuple[int, ...]:
    """Return the indices of the tokens that occur in one domain only."""
    elsewhere = {index for other in DOMAIN_NAMES if other != name for index in tokens_of(other)}
    return tuple(sorted(tokens_of(name) - elsewhere))


@cache
def tokens_of(domain: str) -> frozenset[int]:
    """Return the indices of all tokens that a domain writes."""
    return frozenset(index for pattern in _patterns(domain) for slot in pattern for index in slot)


@cache
def _patterns(domain: str) -> list[list[tuple[int, ...]]]:
    """Return a domain's patterns: for each position of a sentence the tokens that can stand there."""
    index = {token: i for i, token in enumerate(vocabulary())}
    return [
        [category_ids(item[1:]) if item[0] == "$" else (index[_token(item)],) for item in pattern.split()]
        for pattern in DOMAINS[domain].patterns.split(" | ")
    ]


def generate(n_tokens: int, seed: int, stream: str = "planted text") -> PlantedText:
    """Draw documents until there are at least so many tokens.

    Args:
        stream: names the random numbers: another stream is another text.
    """
    rng = numpy_generator(seed, "planted language", stream)
    weights = np.array([domain.weight for domain in DOMAINS.values()], np.float64)
    blocks: list[Ids] = []
    domains: list[int] = []
    sizes: list[int] = []
    while sum(sizes) * LENGTH < n_tokens:
        domain = int(rng.choice(len(weights), p=weights / weights.sum()))
        n_blocks = int(rng.integers(BLOCKS_PER_DOCUMENT[0], BLOCKS_PER_DOCUMENT[1] + 1))
        blocks.append(_document(DOMAIN_NAMES[domain], n_blocks * LENGTH, rng).reshape(n_blocks, LENGTH))
        domains.append(domain)
        sizes.append(n_blocks)
    number_M = np.repeat(np.arange(len(sizes)), sizes)
    return PlantedText(np.concatenate(blocks), number_M, np.array(domains)[number_M])


def _document(domain: str, n_tokens: int, rng: np.random.Generator) -> Ids:
    """Draw sentences until there are enough tokens; the last one is cut."""
    patterns = _patterns(domain)
    shortest = min(map(len, patterns))
    order = rng.integers(len(patterns), size=n_tokens // shortest + 1)
    slots = [slot for number in order for slot in patterns[number]][:n_tokens]
    return np.fromiter(_words(slots, rng.random(n_tokens)), np.int64, n_tokens)


def _words(slots: list[tuple[int, ...]], uniform_T: NDArray[np.float64]) -> Iterator[int]:
    """Choose a word for each position; a category's n-th word has probability proportional to FALL^n."""
    for slot, chance in zip(slots, uniform_T.tolist(), strict=True):
        yield slot[bisect(_cumulative(len(slot)), chance)]


@cache
def _cumulative(size: int) -> tuple[float, ...]:
    """Return the probabilities of the first 1, 2, ... size - 1 words together."""
    total = (1 - FALL**size) / (1 - FALL)
    return tuple((1 - FALL**n) / (1 - FALL) / total for n in range(1, size))
