"""Pairs features for the mismatched-explanation control."""

import numpy as np


def derangement(n: int, rng: np.random.Generator) -> list[int | None]:
    """For each of n items another one, drawn as one random cycle through all; None if there is no other."""
    if n < 2:
        return [None] * n
    order = rng.permutation(n).tolist()
    partner: list[int | None] = [None] * n
    for place, item in enumerate(order):
        partner[item] = order[(place + 1) % n]
    return partner
