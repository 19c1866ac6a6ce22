"""Finds the tokens whose logits a feature's decoder raises and lowers most, and draws others to compare them with.

Imports torch. Shape suffixes: S features, V tokens of the vocabulary.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from autointerp.records import FeatureId
from sae.common.seeds import numpy_generator
from sae.dictionary import Dictionary
from sae.models.subject import Subject, undecodable

PROMOTED = 10
"""Promoted tokens that are kept of each feature, and as many others."""
ELEMENTS = 2**24
"""Logits that are held at once."""


@dataclass(frozen=True)
class Extremes:
    """Holds the tokens whose logits a feature raises most and lowers most, with what it adds to them; or nothing."""

    promoted: tuple[str, ...] = ()
    promoted_logits: tuple[float, ...] = ()
    suppressed: tuple[str, ...] = ()
    suppressed_logits: tuple[float, ...] = ()


@dataclass(frozen=True)
class Vocabulary:
    """Holds the text of every token id, and the run's seed. Pieces of characters, which cannot be shown, are left out
    of what it finds and draws.
    """

    tokens: list[str]
    seed: int

    @cached_property
    def _is_piece_V(self) -> Tensor:
        return undecodable(self.tokens)

    @cached_property
    def _texts(self) -> list[str]:
        """Every text that can be shown, once."""
        shown = zip(self.tokens, self._is_piece_V.tolist(), strict=True)
        return list(dict.fromkeys(token for token, is_piece in shown if token and not is_piece))

    def extremes(self, dictionary: Dictionary, features: list[int], subject: Subject) -> list[Extremes]:
        """Return the tokens that each feature raises and lowers, strongest first; none where no fixed map leads to the
        logits.

        Args:
            features: S indices in the dictionary.
        """
        nothing = [Extremes()] * len(features)
        if len(dictionary.writes) != 1:
            return nothing
        extremes: list[Extremes] = []
        at_once = max(1, ELEMENTS // len(self.tokens))
        for start in range(0, len(features), at_once):
            rows_SD = dictionary.W_dec_FD[features[start : start + at_once]].float()
            logits_SV = subject.logits_of(dictionary.writes[0], rows_SD)
            if logits_SV is None:
                return nothing
            sides = zip(self.largest(logits_SV, PROMOTED), self.largest(-logits_SV, PROMOTED), strict=True)
            extremes += [_extremes(raised, lowered) for raised, lowered in sides]
        return extremes

    def largest(self, logits_SV: Tensor, n_tokens: int) -> list[list[tuple[str, float]]]:
        """Return the tokens with the largest logits and these, largest first, for each of S features."""
        is_piece_V = self._is_piece_V[: logits_SV.shape[1]].to(logits_SV.device)
        shown_SV = logits_SV[:, : len(is_piece_V)].masked_fill(is_piece_V, -torch.inf)
        values_ST, ids_ST = shown_SV.topk(min(n_tokens, int((~is_piece_V).sum())), dim=1)
        return [
            [(self.tokens[index], value) for index, value in zip(ids_T, values_T, strict=True)]
            for ids_T, values_T in zip(ids_ST.tolist(), values_ST.tolist(), strict=True)
        ]

    def others(self, promoted: tuple[str, ...], feature: FeatureId) -> tuple[str, ...]:
        """Draw as many tokens as are promoted from the rest of the vocabulary, uniformly and without repetition."""
        rng = numpy_generator(self.seed, "unpromoted tokens", feature.without_hook_point)
        drawn = rng.choice(len(self._texts), min(2 * len(promoted), len(self._texts)), replace=False).tolist()
        others = [self._texts[index] for index in drawn if self._texts[index] not in promoted]
        return tuple(others[: len(promoted)])


def _extremes(raised: list[tuple[str, float]], lowered: list[tuple[str, float]]) -> Extremes:
    """Put tokens and logits apart; the logits of what is lowered come with the other sign."""
    tokens, logits = zip(*raised, strict=True)
    lowered_tokens, lowered_by = zip(*lowered, strict=True)
    return Extremes(tokens, logits, lowered_tokens, tuple(-value for value in lowered_by))
