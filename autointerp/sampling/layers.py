"""Reads a text at the hook points of several dictionaries, and draws and explains their features. Imports torch.

Shape suffixes: N blocks, C tokens of context, D width, F features of a dictionary, S selected features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from autointerp.explainers.rules import learn
from autointerp.prompting import rules
from autointerp.records import ActivationRecord, Source
from sae.common.seeds import torch_generator
from sae.dictionary import Dictionary
from sae.measuring.metrics import loss_blocks_at_once
from sae.models.subject import Subject, batches

REACHED = 0.5
"""Share of a feature's largest activation that it reaches in a block from which an excerpt may be drawn."""
EXCERPTS = 4
"""Excerpts of a feature: every other one is searched, the others confirm."""
RULES, EXPLAINED = 2, 10
"""Rules of an explanation, and blocks of each kind from which they are learnt."""


@dataclass(frozen=True)
class Layer:
    """Holds a dictionary and what it reads on the text."""

    dictionary: Dictionary
    ids_NC: Tensor
    x_NCD: Tensor
    highest_NF: Tensor
    """Each feature's largest activation in each block."""

    def drawn(self, n: int, seed: int) -> list[int]:
        """Draw features that have enough excerpts."""
        enough_S = (self._reached_NF.sum(0) >= EXCERPTS).nonzero().flatten().tolist()
        generator = torch_generator(seed, "features of circuits", self.dictionary.name)
        return [enough_S[row] for row in torch.randperm(len(enough_S), generator=generator)[:n].tolist()]

    def excerpts(self, feature: int, seed: int) -> list[Tensor]:
        """Return the beginnings of some blocks, each up to the token on which the feature is most active there."""
        rows_N = self._reached_NF[:, feature].nonzero().flatten().cpu()
        generator = torch_generator(seed, "excerpts of circuits", self.dictionary.name, feature)
        rows_N = rows_N[torch.randperm(len(rows_N), generator=generator)[:EXCERPTS]]
        encode = self.dictionary.encoder(torch.tensor([feature], device=self.ids_NC.device))
        return [self.ids_NC[row, : int(encode(self.x_NCD[row])[:, 0].argmax()) + 1] for row in rows_N.tolist()]

    @cached_property
    def _reached_NF(self) -> Tensor:
        return (self.highest_NF > 0) & (self.highest_NF >= REACHED * self.highest_NF.amax(0))

    def rules_of(self, features: Sequence[int], tokens: Sequence[str]) -> dict[int, str]:
        """Explain features by token rules, learnt from the blocks where each is most active and as many others."""
        encode = self.dictionary.encoder(torch.tensor(features, device=self.ids_NC.device))
        acts_NCS = torch.stack([encode(x_CD) for x_CD in self.x_NCD]).cpu()
        spread = range(0, len(acts_NCS), max(1, len(acts_NCS) // EXPLAINED))
        explained = {}
        for column, feature in enumerate(features):
            top = acts_NCS[..., column].amax(1).topk(min(EXPLAINED, len(acts_NCS))).indices.tolist()
            rows: list[tuple[int, Source]] = [(row, "top") for row in top]
            rows += [(row, "random") for row in spread if row not in top]
            records = tuple(self._record(row, acts_NCS[row, :, column], source, tokens) for row, source in rows)
            explained[feature] = rules.to_text(learn(records, RULES))
        return explained

    def _record(self, row: int, acts_C: Tensor, source: Source, tokens: Sequence[str]) -> ActivationRecord:
        texts = tuple(tokens[index] for index in self.ids_NC[row].tolist())
        return ActivationRecord(texts, tuple(acts_C.tolist()), row, source)


def read(subject: Subject, dictionary: Dictionary, ids_NC: Tensor) -> Layer:
    """Read full blocks of text where a dictionary reads the model."""
    size = loss_blocks_at_once(ids_NC.shape[1], dictionary.n_features)
    x_NCD = torch.cat([subject.activations(part_NC, dictionary.reads[0]) for part_NC in batches(ids_NC, size)])
    highest = [dictionary.encode(x.flatten(0, 1)).view(*x.shape[:2], -1).amax(1) for x in batches(x_NCD, size)]
    return Layer(dictionary, ids_NC, x_NCD, torch.cat(highest))
