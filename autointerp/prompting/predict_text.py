"""Computes what token rules predict on a whole text at once: what `rules.Predictor` predicts fragment by fragment.

Shape suffixes: M fragments, L tokens of a fragment, V different tokens, R rules.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from autointerp.population import Floats, PopulationText
from autointerp.prompting.rules import NEAR_WINDOW, Rule, RuleKind


def predict_text(rules: Iterable[Rule], text: PopulationText) -> Floats:
    """Predict the activation (0-10) of every token, float32 [M, L]; rules see one fragment at a time."""
    listed = list(rules)
    predicted_ML = np.zeros(text.ids_ML.shape, np.float32)
    if (strength_V := _by_token(listed, "token", text)) is not None:
        predicted_ML = strength_V[text.ids_ML]
    if (strength_V := _by_token(listed, "after", text)) is not None:
        _raise(predicted_ML[:, 1:], strength_V[text.ids_ML[:, :-1]])
    if (strength_V := _by_token(listed, "near", text)) is not None:
        strength_ML = strength_V[text.ids_ML]
        for distance in range(1, min(NEAR_WINDOW + 1, text.ids_ML.shape[1])):
            _raise(predicted_ML[:, distance:], strength_ML[:, :-distance])
    _raise_pairs(predicted_ML, [rule for rule in listed if rule.kind == "pair"], text)
    return predicted_ML


def _by_token(rules: list[Rule], kind: RuleKind, text: PopulationText) -> Floats | None:
    """Return the strength of each token's rules of a kind, [V]; None if no rule of this kind names a token here."""
    known = [(text.id_of[rule.key[0]], rule) for rule in rules if rule.kind == kind and rule.key[0] in text.id_of]
    if not known:
        return None
    strength_V = np.zeros(len(text.vocabulary), np.float32)
    for index, rule in known:
        strength_V[index] = max(strength_V[index], rule.strength)
    return strength_V


def _raise(values: Floats, at_least: Floats) -> None:
    np.maximum(values, at_least, out=values)


def _raise_pairs(predicted_ML: Floats, rules: list[Rule], text: PopulationText) -> None:
    """Raise the predictions where pair rules hold, weakest rules first."""
    known = [rule for rule in rules if all(token in text.id_of for token in rule.key)]
    known.sort(key=lambda rule: rule.strength)
    code_T, position_T = text.pairs
    first_R, second_R = (np.array([text.id_of[rule.key[i]] for rule in known], np.int64) for i in range(2))
    code_R: NDArray[np.int64] = first_R * len(text.vocabulary) + second_R
    start_R, end_R = np.searchsorted(code_T, code_R, "left"), np.searchsorted(code_T, code_R, "right")
    flat_T = predicted_ML.reshape(-1)
    for rule, start, end in zip(known, start_R, end_R, strict=True):
        position_P = position_T[start:end]
        flat_T[position_P] = np.maximum(flat_T[position_P], rule.strength)
