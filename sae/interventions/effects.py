"""Measures what ablating features does to the model's predictions, many features in one pass.

Shape suffixes: P passages, C tokens of context, S features, V vocabulary, A active tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sae.common.progress import Progress, Silent
from sae.dictionary import Dictionary
from sae.interventions.hold import changed, hook_point_of, own_activations
from sae.measuring.metrics import loss_blocks_at_once
from sae.models.subject import Subject


@dataclass(frozen=True)
class Passages:
    """Lists stretches of text, each with the feature that is ablated there.

    A feature is ablated in all text before a stretch's end, and its effect measured within the stretch.
    """

    ids_PC: Tensor
    """The blocks in which they stand."""
    length_P: Tensor
    """How many of a block's tokens are real."""
    start_P: Tensor
    """The stretch's first token in its block."""
    end_P: Tensor
    """One past its last token."""
    feature_P: Tensor
    """The feature, counted among those that are ablated (S), not its index in the dictionary."""

    def take(self, rows_P: Tensor, width: int) -> "Passages":
        """Return some of them, with blocks cut to a width."""
        ids_PC = self.ids_PC[rows_P, :width]
        cut = (values[rows_P] for values in (self.length_P, self.start_P, self.end_P, self.feature_P))
        return Passages(ids_PC, *cut)


@dataclass(frozen=True)
class Effects:
    """Holds what ablating each of S features does, as means over tokens: ablated minus untouched, in nats.

    A mean over no token is NaN.
    """

    active_S: Tensor
    """Tokens of its passages on which the feature is active."""
    loss_S: Tensor
    """Change of the loss of the token that follows, over the active tokens that one follows."""
    loss_everywhere_S: Tensor
    """The same over all tokens of the passages that one follows."""
    log_probs_SV: Tensor
    """Change of each token's log-probability as the next one, over the active tokens."""
    probs_SV: Tensor
    """Change of each token's probability as the next one, over the active tokens."""


class _Sums:
    """Sums over the passages read so far, in double precision."""

    def __init__(self, n_features: int, vocabulary: int, device: str) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.active_S, self.followed_S, self.all_S = zeros(n_features), zeros(n_features), zeros(n_features)
        self.loss_S, self.loss_everywhere_S = zeros(n_features), zeros(n_features)
        self.log_probs_SV, self.probs_SV = zeros(n_features, vocabulary), zeros(n_features, vocabulary)

    def effects(self) -> Effects:
        return Effects(
            self.active_S.long(),
            self.loss_S / self.followed_S,
            self.loss_everywhere_S / self.all_S,
            self.log_probs_SV / self.active_S[:, None],
            self.probs_SV / self.active_S[:, None],
        )


@torch.no_grad()
def ablate(
    subject: Subject, dictionary: Dictionary, features_S: Tensor, passages: Passages, progress: Progress | None = None
) -> Effects:
    """Ablate each feature on its passages: two passes of the model over each, one of them untouched.

    The sums take 16 bytes per feature and token of the vocabulary.

    Raises UserError if the dictionary does not read and write one hook point.
    """
    hook_point_of(dictionary)
    progress = progress or Silent("ablating features")
    sums = _Sums(len(features_S), subject.vocabulary, subject.device)
    done = 0
    for part in _parts(passages, subject.vocabulary):
        _add(sums, subject, dictionary, features_S, part)
        done += len(part.ids_PC)
        progress.update(done, len(passages.ids_PC))
    return sums.effects()


def _parts(passages: Passages, vocabulary: int) -> Iterator[Passages]:
    """Yield a few passages at a time, those that end early first, without the text that follows the last of them."""
    context = passages.ids_PC.shape[1]
    order_P = passages.end_P.argsort(stable=True)
    for rows_P in order_P.split(loss_blocks_at_once(context, vocabulary)):
        width = min(context, int(passages.end_P[rows_P].max()) + 1) if len(rows_P) else 0
        if width:
            yield passages.take(rows_P, width)


def _add(sums: _Sums, subject: Subject, dictionary: Dictionary, features_S: Tensor, part: Passages) -> None:
    """Count some passages. The features are encoded in the untouched pass and subtracted in the other one."""
    hook_point, features_P, encoded = hook_point_of(dictionary), features_S[part.feature_P], list[Tensor]()

    def read(x_PCD: Tensor) -> Tensor:
        encoded.append(own_activations(dictionary, features_P, x_PCD))
        return x_PCD

    clean_PCV = subject.logits(part.ids_PC, {hook_point: read})
    (acts_PC,) = encoded
    ablated_PCV = subject.logits(
        part.ids_PC, {hook_point: lambda x_PCD: changed(dictionary, features_P, -acts_PC, x_PCD)}
    )
    position_C = torch.arange(part.ids_PC.shape[1], device=acts_PC.device)
    inside_PC = (position_C >= part.start_P[:, None]) & (position_C < part.end_P[:, None])
    active_PC = inside_PC & (acts_PC > 0)
    followed_PC = inside_PC & (position_C + 1 < part.length_P[:, None])
    change_PC = _losses(ablated_PCV, part.ids_PC) - _losses(clean_PCV, part.ids_PC)
    for loss_S, count_S, counted_PC in (
        (sums.loss_S, sums.followed_S, active_PC & followed_PC),
        (sums.loss_everywhere_S, sums.all_S, followed_PC),
    ):
        loss_S.index_add_(0, part.feature_P, change_PC.double().where(counted_PC, 0).sum(1))
        count_S.index_add_(0, part.feature_P, counted_PC.sum(1).double())
    feature_A = part.feature_P[:, None].expand_as(active_PC)[active_PC]
    clean_AV, ablated_AV = (logits[active_PC].float().log_softmax(-1) for logits in (clean_PCV, ablated_PCV))
    sums.active_S.index_add_(0, feature_A, torch.ones_like(feature_A, dtype=torch.float64))
    sums.log_probs_SV.index_add_(0, feature_A, (ablated_AV - clean_AV).double())
    sums.probs_SV.index_add_(0, feature_A, (ablated_AV.exp() - clean_AV.exp()).double())


def _losses(logits_PCV: Tensor, ids_PC: Tensor) -> Tensor:
    """Return the loss of each token's successor [P, C], one block at a time; 0 at the last token, which has none."""
    losses_PC = torch.zeros(ids_PC.shape, device=logits_PCV.device)
    for row, (logits_CV, ids_C) in enumerate(zip(logits_PCV, ids_PC, strict=True)):
        losses_PC[row, :-1] = cross_entropy(logits_CV[:-1].float(), ids_C[1:], reduction="none")
    return losses_PC
