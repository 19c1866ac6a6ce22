"""Patches features' activations from one text into another, and measures how the prediction follows.

The experiment of Cunningham et al. (2023), section 4 and Figure 3: activations of a prompt are edited, feature by
feature, to what the features are on a counterfactual prompt. A good dictionary needs few features and small edits until
the model predicts what it predicts there.

Shape suffixes: P prompts, C tokens of context, D width, F features, K numbers of patched features, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sae.common.progress import Progress, Silent
from sae.dictionary import Dictionary
from sae.interventions.hold import hook_point_of, written
from sae.measuring.directions import unit_lengths
from sae.models.subject import Subject
from sae.tasks.accuracy import Prompts, last_logits

CANDIDATES = 48
"""Features that the search may patch: those that differ most between a prompt and its counterfactual."""


@dataclass(frozen=True)
class Patched:
    """Holds what patching the first k features of an order does, for several k."""

    kl_KP: Tensor
    """KL divergence, in nats, of the prediction from that for the counterfactual prompt."""
    edit_KP: Tensor
    """Length of the edit: the norm of the change of all the prompt's activations together."""
    followed_KP: Tensor
    """Whether the most probable token is the counterfactual's answer (interchange accuracy; MIB, arXiv 2504.13151)."""
    whole_1P: Tensor
    """KL divergence when all features are patched: what the dictionary does not reconstruct stays unpatched."""


class Pairs:
    """Holds a dictionary's features on prompts and on their counterfactuals, ready to be patched."""

    def __init__(self, subject: Subject, dictionary: Dictionary, prompts: Prompts) -> None:
        """Raise UserError if the dictionary does not read and write one hook point."""
        self.subject, self.dictionary, self.prompts = subject, dictionary, prompts
        self.hook_point = hook_point_of(dictionary)
        self.x_PCD, other_PCD = (
            subject.activations(ids_PC, self.hook_point) for ids_PC in (prompts.ids_PC, prompts.other_ids_PC)
        )
        real_PC = torch.arange(self.x_PCD.shape[1], device=self.x_PCD.device) <= prompts.last_P[:, None]
        self.encoded_BD, other_BD = (dictionary.in_context(x_PCD).flatten(0, 1) for x_PCD in (self.x_PCD, other_PCD))
        encoded, other = dictionary.encode(self.encoded_BD), dictionary.encode(other_BD)
        self.change_PCF = (other - encoded).view(*real_PC.shape, -1) * real_PC[..., None]
        self._encoded_BF = encoded
        self.target_PV = last_logits(subject, prompts, prompts.other_ids_PC).log_softmax(1)

    def edited(self, features: Sequence[int]) -> Tensor:
        """Return the change of the activations, [P, C, D], that patching these features makes."""
        change_BF, edit_BD = self.change_PCF.flatten(0, 1), torch.zeros_like(self.x_PCD.flatten(0, 1))
        for feature in features:
            features_B = torch.full((len(edit_BD),), feature, device=edit_BD.device)
            edit_BD += written(self.dictionary, change_BF[:, feature].contiguous(), features_B, self.encoded_BD)
        return edit_BD.view_as(self.x_PCD)

    def edited_whole(self) -> Tensor:
        """Return the change of the activations, [P, C, D], that patching all features makes."""
        changed_BF = self._encoded_BF + self.change_PCF.flatten(0, 1)
        decoded = (self.dictionary.decode(acts_BF, self.encoded_BD) for acts_BF in (changed_BF, self._encoded_BF))
        return torch.sub(*decoded).view_as(self.x_PCD)

    def logits(self, edit_PCD: Tensor) -> Tensor:
        """Return the logits after the prompts, [P, V], when their activations are edited."""
        edited_PCD = self.x_PCD + edit_PCD
        return last_logits(self.subject, self.prompts, self.prompts.ids_PC, {self.hook_point: lambda _: edited_PCD})

    def divergence(self, logits_PV: Tensor) -> Tensor:
        """Return each prompt's KL divergence from the counterfactual's prediction: sum of q log(q / p), [P]."""
        return (self.target_PV.exp() * (self.target_PV - logits_PV.log_softmax(1))).sum(1)

    def candidates(self, n: int = CANDIDATES) -> list[int]:
        """Return the features whose patch alone changes the activations most, in the mean over prompts."""
        lengths_F = unit_lengths(self.dictionary)
        moved_F = self.change_PCF.square().sum(1).sqrt().mean(0) * lengths_F
        order = moved_F.argsort(descending=True, stable=True)[:n]
        return [int(index) for index in order if moved_F[index] > 0]


@torch.no_grad()
def search(pairs: Pairs, counts: Sequence[int], progress: Progress | None = None) -> list[int]:
    """Order the candidates greedily: each round adds those that alone, beside what is patched, bring KL down most.

    A round ends where a number of `counts` is reached, so that the order is exactly greedy while these rise by one.
    """
    left, order, edit_PCD = pairs.candidates(), list[int](), torch.zeros_like(pairs.x_PCD)
    total, progress = len(left), progress or Silent("searching features to patch")
    for count in sorted({count for count in counts if count}):
        alone = [pairs.divergence(pairs.logits(edit_PCD + pairs.edited([feature]))).mean() for feature in left]
        added = [left[row] for row in torch.tensor(alone).argsort(stable=True)[: count - len(order)].tolist()]
        order, left = order + added, [feature for feature in left if feature not in added]
        edit_PCD = edit_PCD + pairs.edited(added)
        progress.update(len(order), total)
    return order


@torch.no_grad()
def patch(pairs: Pairs, order: Sequence[int], counts: Sequence[int]) -> Patched:
    """Patch the first k features of an order into prompts, for each k of `counts`."""
    kl, edits, followed = [], [], []
    for count in counts:
        edit_PCD = pairs.edited(order[:count])
        logits_PV = pairs.logits(edit_PCD)
        kl.append(pairs.divergence(logits_PV))
        edits.append(edit_PCD.flatten(1).norm(dim=1))
        followed.append(logits_PV.argmax(1) == pairs.prompts.other_P)
    whole_P = pairs.divergence(pairs.logits(pairs.edited_whole()))
    return Patched(torch.stack(kl), torch.stack(edits), torch.stack(followed), whole_P[None])
