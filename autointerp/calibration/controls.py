"""Makes the uninformed explanations of the controls: none was written from where the feature is active.

Each keeps something that an uninformed explanation could profit from: another feature's text of like density, the
feature's own fragments, or how common its words are.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from autointerp.population import PopulationText
from autointerp.prompting import rules
from autointerp.prompting.rules import Rule
from autointerp.records import ActivationRecord, AnswerError, Explanation, FeatureRecord, without_hook_point
from sae.common.seeds import numpy_generator

LIKE_DENSITY = 10
"""Features of one dictionary, neighbours in density, among which explanations are exchanged."""
LIKE_FREQUENCY = 10
"""Ranks in frequency within which a word is exchanged."""


def with_controls(features: Sequence[FeatureRecord], seed: int, share: float) -> frozenset[int]:
    """Return the indices of the features that get controls: a random share of each dictionary's."""
    indices: set[int] = set()
    for dictionary, own in by_dictionary(features).items():
        rng = numpy_generator(seed, "features with controls", without_hook_point(dictionary))
        indices |= {own[number] for number in rng.permutation(len(own))[: round(share * len(own))].tolist()}
    return frozenset(indices)


def mismatched_features(features: Sequence[FeatureRecord], seed: int) -> list[int | None]:
    """Return for each feature the index of one of like density in its dictionary, or None if there is no other.

    Density alone makes some explanations right by chance: one of a common feature that says "everywhere" fits others.
    """
    others: list[int | None] = [None] * len(features)
    for dictionary, own in by_dictionary(features).items():
        rng = numpy_generator(seed, "mismatched explanations", without_hook_point(dictionary))
        own.sort(key=lambda index: features[index].density)
        n_groups = max(1, len(own) // LIKE_DENSITY)
        for group in (part.tolist() for part in np.array_split(np.array(own), n_groups)):
            for index, other in zip(group, derangement(len(group), rng), strict=True):
                others[index] = None if other is None else group[other]
    return others


def by_dictionary(features: Sequence[FeatureRecord]) -> dict[str, list[int]]:
    """Return the indices of each dictionary's features."""
    groups: dict[str, list[int]] = {}
    for index, feature in enumerate(features):
        groups.setdefault(feature.id.dictionary, []).append(index)
    return groups


def derangement(n: int, rng: np.random.Generator) -> list[int | None]:
    """Draw for each of n items another one, as one random cycle through all; None if there is no other."""
    if n < 2:
        return [None] * n
    order = rng.permutation(n).tolist()
    others: list[int | None] = [None] * n
    for position, item in enumerate(order):
        others[item] = order[(position + 1) % n]
    return others


def permuted(feature: FeatureRecord, seed: int) -> FeatureRecord:
    """Return the feature with the activations of each explain record in another order: its text says nothing of it."""
    rng = numpy_generator(seed, "permuted activations", feature.id.without_hook_point)

    def shuffle(record: ActivationRecord) -> ActivationRecord:
        order = rng.permutation(len(record.activations)).tolist()
        return replace(record, activations=tuple(record.activations[index] for index in order))

    return replace(feature, explain=tuple(shuffle(record) for record in feature.explain))


class WordExchange:
    """Exchanges the words of explanations for others that are about as frequent in a text."""

    def __init__(self, text: PopulationText) -> None:
        counts_V: NDArray[np.int64] = np.bincount(text.ids_ML.ravel(), minlength=len(text.vocabulary))
        self._ranked = [text.vocabulary[index] for index in np.argsort(-counts_V, kind="stable")]
        self._rank_of = {token: rank for rank, token in enumerate(self._ranked)}
        self._token_of = {token.strip(): token for token in reversed(self._ranked)}

    def exchanged(self, explanation: Explanation, feature: FeatureRecord, seed: int) -> Explanation:
        """Exchange the tokens that rules name, or every word of prose."""
        rng = numpy_generator(seed, "exchanged words", feature.id.without_hook_point)
        try:
            learnt = rules.from_text(explanation.text)
        except AnswerError:
            return replace(explanation, text=re.sub(r"\w+", lambda word: self._word(word[0], rng), explanation.text))
        others = [
            Rule(rule.kind, tuple(self._token(token, rng) for token in rule.key), rule.strength) for rule in learnt
        ]
        return replace(explanation, text=rules.to_text(others))

    def _word(self, word: str, rng: np.random.Generator) -> str:
        return self._token(self._token_of.get(word, word), rng).strip() or word

    def _token(self, token: str, rng: np.random.Generator) -> str:
        """Draw a token of like frequency; one that is not a token of the text counts as its rarest."""
        rank = self._rank_of.get(token, len(self._ranked) - 1)
        first = max(0, min(rank - LIKE_FREQUENCY, len(self._ranked) - 2 * LIKE_FREQUENCY - 1))
        near = [other for other in self._ranked[first : first + 2 * LIKE_FREQUENCY + 1] if other != token]
        return near[int(rng.integers(len(near)))] if near else token
