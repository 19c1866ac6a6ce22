"""Finds out which features of a run are active on a text of the user's own. Imports torch.

Shape suffixes: C tokens of a block, D a hook point's width, F features of a dictionary, S features that are shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autointerp.records import FeatureId
from autointerp.sampling.output_tokens import Vocabulary
from autointerp.sampling.reload import Reloaded
from autointerp.trials import ActiveFeature, TriedToken
from sae.common.errors import UserError
from sae.dictionary import Dictionary
from sae.interventions.hold import written
from sae.measuring.directions import unit_lengths
from sae.models.subject import batches

PROMOTED = 5
"""Promoted tokens of each feature."""


@torch.no_grad()
def try_text(
    reloaded: Reloaded, text: str, dictionaries: Sequence[str], explained: Collection[FeatureId], top: int
) -> list[TriedToken]:
    """Return the tokens of a text with the features that are active on each, strongest first.

    A text that is longer than the run's context is cut into blocks of that length, each of which the model sees alone.

    Args:
        reloaded: the run's model and dictionaries.
        text: any text.
        dictionaries: names of those whose features are looked at.
        explained: features that the run explains.
        top: number of the strongest features that are returned of each token, and of the strongest explained ones.

    Raises UserError for a text without a token.
    """
    ids = reloaded.subject.token_ids([text])[0]
    if not ids:
        raise UserError(f"{reloaded.subject.name} makes no token of this text; give another")
    tokens = reloaded.subject.token_strings()
    read = _Reading(reloaded, Vocabulary(tokens, 0), dictionaries, explained, top)
    blocks = batches(torch.tensor(ids, device=reloaded.subject.device), reloaded.context)
    return [token for ids_C in blocks for token in read.block(ids_C)]


@dataclass(frozen=True)
class _Reading:
    """Holds what is asked of every block of the text."""

    reloaded: Reloaded
    vocabulary: Vocabulary
    dictionaries: Sequence[str]
    explained: Collection[FeatureId]
    top: int

    def block(self, ids_C: Tensor) -> Iterator[TriedToken]:
        """Yield the tokens of one block."""
        dictionaries = [one for one in self.reloaded.dictionaries if one.name in self.dictionaries]
        hook_points = list(dict.fromkeys(name for one in dictionaries for name in one.reads))
        at = self.reloaded.subject.activations_at(ids_C[None], hook_points)
        inputs = [torch.cat([at[name][0] for name in one.reads], dim=1) for one in dictionaries]
        features = [one.encode(one.in_context(x_CD[None])[0]) for one, x_CD in zip(dictionaries, inputs, strict=True)]
        lengths = [unit_lengths(one) for one in dictionaries]
        for position, index in enumerate(ids_C.tolist()):
            active: list[tuple[float, ActiveFeature]] = []
            for one, length_F, x_CD, acts_CF in zip(dictionaries, lengths, inputs, features, strict=True):
                active += self._shown(one, length_F, x_CD[position], acts_CF[position])
            active.sort(key=lambda pair: -pair[0])
            n_active = sum(int((acts_CF[position] > 0).sum()) for acts_CF in features)
            yield TriedToken(self.vocabulary.tokens[index], n_active, tuple(feature for _, feature in active))

    def _shown(
        self, dictionary: Dictionary, length_F: Tensor, x_D: Tensor, acts_F: Tensor
    ) -> list[tuple[float, ActiveFeature]]:
        """Return the features of one dictionary that are shown of a token, each with the length of what it writes."""
        strength_F = acts_F * length_F
        order = strength_F.argsort(descending=True, stable=True)[: int((acts_F > 0).sum())].tolist()
        known = [index for index in order if FeatureId(dictionary.name, index) in self.explained]
        shown = list(dict.fromkeys([*order[: self.top], *known[: self.top]]))
        promoted = self._promoted(dictionary, x_D, acts_F, shown)
        return [
            (
                float(strength_F[index]),
                ActiveFeature(FeatureId(dictionary.name, index), float(acts_F[index]), tuple(tokens)),
            )
            for index, tokens in zip(shown, promoted, strict=True)
        ]

    def _promoted(
        self, dictionary: Dictionary, x_D: Tensor, acts_F: Tensor, shown: list[int]
    ) -> list[list[tuple[str, float]]]:
        """Return the tokens that each feature promotes here: what it adds to the reconstruction, as logits."""
        nothing: list[list[tuple[str, float]]] = [[] for _ in shown]
        if not shown or len(dictionary.writes) != 1:
            return nothing
        features_S = torch.tensor(shown, device=acts_F.device)
        added_SD = written(dictionary, acts_F[features_S], features_S, x_D.expand(len(shown), -1))
        logits_SV = self.reloaded.subject.logits_of(dictionary.writes[0], added_SD)
        return nothing if logits_SV is None else self.vocabulary.largest(logits_SV, PROMOTED)
