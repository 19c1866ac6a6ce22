"""Chooses the mismatched explanations of the control: whose explanation each feature is scored with."""

from collections.abc import Sequence

import numpy as np

from autointerp.records import FeatureRecord
from sae.common.seeds import numpy_generator


def mismatched_features(features: Sequence[FeatureRecord], seed: int, share: float) -> list[int | None]:
    """Return for each feature the index of the one whose explanation is its control, or None: no control.

    Args:
        share: the share of each dictionary's features that get a control, from the same dictionary.
    """
    mismatched: list[int | None] = [None] * len(features)
    for dictionary in dict.fromkeys(feature.id.dictionary for feature in features):
        own = [i for i, feature in enumerate(features) if feature.id.dictionary == dictionary]
        # By the name without its hook point: the same pairs whatever other hook points the run has.
        rng = numpy_generator(seed, "mismatched explanations", dictionary.partition("@")[0])
        others = derangement(len(own), rng)
        for number in rng.permutation(len(own))[: round(share * len(own))].tolist():
            other = others[number]
            mismatched[own[number]] = None if other is None else own[other]
    return mismatched


def derangement(n: int, rng: np.random.Generator) -> list[int | None]:
    """Draw for each of n items another one, as one random cycle through all; None if there is no other."""
    if n < 2:
        return [None] * n
    order = rng.permutation(n).tolist()
    others: list[int | None] = [None] * n
    for position, item in enumerate(order):
        others[item] = order[(position + 1) % n]
    return others
