"""Computes what token rules predict: on a whole text, or on some fragments.

A token's activation is the strength of the strongest rule that holds there, else 0; rules see one fragment at a time.

Shape suffixes: M fragments, L tokens of a fragment, S slots (the tokens of all fragments, before each fragment
NEAR_WINDOW empty slots, so that no rule reaches from one fragment into the next), V different tokens, R rules.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.population import Floats, PopulationText
from autointerp.prompting.rules import KINDS, NEAR_WINDOW, Rule, RuleKind

TEXTS_KEPT = 64


def predict_text(rules: Iterable[Rule], text: PopulationText, dtype: type[np.floating[Any]] = np.float32) -> Floats:
    """Predict the activation (0-10) of every token, [M, L]."""
    of_kind: dict[RuleKind, list[Rule]] = {kind: [] for kind in KINDS}
    for rule in rules:
        of_kind[rule.kind].append(rule)
    id_S, (n_fragments, length) = _slots(text), text.ids_ML.shape
    predicted_S = np.zeros(len(id_S), dtype)
    if (strength_V := _by_token(of_kind["token"], text, dtype)) is not None:
        predicted_S = _look_up(strength_V, id_S)
    if (strength_V := _by_token(of_kind["after"], text, dtype)) is not None:
        _raise(predicted_S[1:], _look_up(strength_V, id_S)[:-1])
    if (strength_V := _by_token(of_kind["near"], text, dtype)) is not None:
        _raise(predicted_S[NEAR_WINDOW:], _largest_of_window(_look_up(strength_V, id_S))[:-1])
    predicted_ML = np.ascontiguousarray(predicted_S.reshape(n_fragments, NEAR_WINDOW + length)[:, NEAR_WINDOW:])
    _raise_pairs(predicted_ML, of_kind["pair"], text)
    return predicted_ML


@lru_cache(maxsize=TEXTS_KEPT)
def _slots(text: PopulationText) -> NDArray[np.intp]:
    """Return the token id of every slot; that of an empty one is V."""
    return np.pad(text.ids_ML, ((0, 0), (NEAR_WINDOW, 0)), constant_values=len(text.vocabulary)).ravel().astype(np.intp)


def _look_up(strength_V: Floats, id_S: NDArray[np.intp]) -> Floats:
    """Return each slot's strength, 0 in empty ones; ids are never out of range, and `clip` skips the check."""
    return np.append(strength_V, strength_V.dtype.type(0)).take(id_S, mode="clip")


def predict_fragments(rules: Sequence[Rule], fragments: Sequence[tuple[str, ...]]) -> list[tuple[float, ...]]:
    """Predict the activation (0-10) of each token of each fragment."""
    if len({len(tokens) for tokens in fragments}) > 1:
        return [values for tokens in fragments for values in predict_fragments(rules, [tokens])]
    if not fragments:
        return []
    return list(map(tuple, predict_text(rules, _text_of(tuple(fragments)), np.float64).tolist()))


@lru_cache(maxsize=TEXTS_KEPT)
def _text_of(fragments: tuple[tuple[str, ...], ...]) -> PopulationText:
    """Make a text of equally long fragments; the same ones are predicted from several explanations in turn."""
    vocabulary = tuple(dict.fromkeys(token for tokens in fragments for token in tokens))
    id_of = {token: index for index, token in enumerate(vocabulary)}
    ids = [[id_of[token] for token in tokens] for tokens in fragments]
    ids_ML = np.array(ids, np.int32).reshape(len(fragments), -1)
    return PopulationText(vocabulary, ids_ML, np.zeros(len(fragments), np.int32))


def _largest_of_window(values_S: Floats) -> Floats:
    """Return the largest of each NEAR_WINDOW neighbouring values, by doubling the window; as many fewer."""
    window = 1
    while window < NEAR_WINDOW:
        step = min(window, NEAR_WINDOW - window)
        values_S = np.maximum(values_S[step:], values_S[:-step])
        window += step
    return values_S


def _by_token(rules: list[Rule], text: PopulationText, dtype: type[np.floating[Any]]) -> Floats | None:
    """Return the strength of each token's rules, [V]; None if no rule names a token here."""
    strengths: dict[int, float] = {}
    for rule in rules:
        if (index := text.id_of.get(rule.key[0])) is not None:
            strengths[index] = max(strengths.get(index, 0.0), rule.strength)
    if not strengths:
        return None
    strength_V = np.zeros(len(text.vocabulary), dtype)
    strength_V[list(strengths)] = list(strengths.values())
    return strength_V


def _raise(values: Floats, at_least: Floats) -> None:
    np.maximum(values, at_least, out=values)


def _raise_pairs(predicted_ML: Floats, rules: list[Rule], text: PopulationText) -> None:
    """Raise the predictions where pair rules hold."""
    known = [rule for rule in rules if all(token in text.id_of for token in rule.key)]
    if not known:
        return
    code_T, position_T = text.pairs
    first_R, second_R = (np.array([text.id_of[rule.key[i]] for rule in known], np.int64) for i in range(2))
    code_R: NDArray[np.int64] = first_R * len(text.vocabulary) + second_R
    start_R, end_R = np.searchsorted(code_T, code_R, "left"), np.searchsorted(code_T, code_R, "right")
    flat_T = predicted_ML.reshape(-1)
    for rule, start, end in zip(known, start_R, end_R, strict=True):
        position_P = position_T[start:end]
        flat_T[position_P] = np.maximum(flat_T[position_P], rule.strength)
