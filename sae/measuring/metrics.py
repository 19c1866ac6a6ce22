"""Measures how sparse a dictionary is, and how much of the activations and of the model's prediction it keeps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sae.dictionary import Dictionary
from sae.measuring.firing import Firing
from sae.measuring.reconstructed import reconstructed
from sae.models.subject import Replace, Subject, batches

BLOCKS_AT_ONCE = 32
"""Most blocks that a model reads at once; fewer where blocks are long or the vocabulary is large."""
TOKENS = 2**13
"""Tokens whose activations are held at once: 72 MiB at a width of 2,304."""
LOGITS = 2**27
"""Tokens times vocabulary held at once: 512 MiB."""
ELEMENTS = 2**26
"""Tokens times features held at once: 256 MiB."""


@dataclass(frozen=True)
class Reconstruction:
    """Holds what was measured on held-out text.

    l0: mean number of active features per token.
    fvu: fraction of variance unexplained, sum |y - y_hat|^2 / sum |y - mean y|^2 over all tokens and dimensions of what
        is written (an autoencoder's x); None where that does not vary, and for one layer of a cross-layer transcoder.
    dead: share of features active on none of the measured tokens.
    tokens: how many tokens were measured.
    """

    l0: float
    fvu: float | None
    dead: float
    tokens: int


@dataclass(frozen=True)
class CrossEntropy:
    """Holds the next-token loss in nats: untouched, with activations reconstructed, set to zero, and set to their mean.

    reconstructed: None for one layer of a cross-layer transcoder. averaged: None where the mean ablation was not asked
    for.
    """

    clean: float
    reconstructed: float | None
    zeroed: float
    averaged: float | None = None

    @property
    def recovered(self) -> float | None:
        """Share of the loss increase of zero ablation that the reconstruction avoids; None if there is none."""
        return self._recovered(self.zeroed)

    @property
    def recovered_from_mean(self) -> float | None:
        """The same share of the loss increase of mean ablation, the gentler one; None if that was not measured."""
        return None if self.averaged is None else self._recovered(self.averaged)

    def _recovered(self, ablated: float) -> float | None:
        harm = ablated - self.clean
        if harm <= 0 or self.reconstructed is None:
            return None
        return 1 - (self.reconstructed - self.clean) / harm


class Spread:
    """Computes the mean and variation of a stream of activation vectors, in double precision on their device.

    Batches are merged by their means (Chan, Golub and LeVeque 1979) on differences from the first vector: neither a
    mean far from zero nor a huge first vector costs digits, and vectors that are all equal vary by exactly zero.
    """

    def __init__(self) -> None:
        self.tokens = 0

    def add(self, x_BD: Tensor) -> None:
        """Count activation vectors [B, D]."""
        if not len(x_BD):
            return
        if not self.tokens:
            self._first_D = x_BD[0].double()
            self._offset_D = torch.zeros_like(self._first_D)
            self._variation = self._square = self._first_D.new_zeros(())
        self._square = self._square + x_BD.to(torch.float64, copy=True).square_().sum()
        difference_BD = x_BD.to(torch.float64, copy=True).sub_(self._first_D)
        offset_D = difference_BD.mean(0)
        moved_D, total = offset_D - self._offset_D, self.tokens + len(x_BD)
        between = moved_D.square().sum() * (self.tokens * len(x_BD) / total)
        self._variation = self._variation + difference_BD.sub_(offset_D).square_().sum() + between
        self._offset_D = self._offset_D + moved_D * (len(x_BD) / total)
        self.tokens = total

    @property
    def mean_D(self) -> Tensor:
        """Mean vector [D]."""
        return self._first_D + self._offset_D

    @property
    def variation(self) -> float:
        """sum |x - mean x|^2 over all tokens and dimensions."""
        return float(self._variation)

    @property
    def mean_square(self) -> float:
        """Mean of |x|^2 over the tokens."""
        return float(self._square) / self.tokens


class Fidelity:
    """Measures a dictionary on a stream of activation vectors: which features fire, and the reconstruction's error."""

    def __init__(self, dictionary: Dictionary, rows: int | None = None) -> None:
        self.dictionary = dictionary
        device = dictionary.W_enc_DF.device
        self.firing = Firing(dictionary.n_features, device)
        self._rows = rows or rows_at_once(dictionary.n_features)
        self._residual = self._square = torch.zeros((), dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, x_BD: Tensor, y_BE: Tensor | None = None) -> None:
        """Count activation vectors [B, D], and how far the reconstruction is from those of what is written, [B, E].

        None: it writes what it reads.
        """
        targets = (x_BD if y_BE is None else y_BE).split(self._rows)
        for part_BD, target_BE in zip(x_BD.split(self._rows), targets, strict=True):
            counts_F, y_hat_BE = reconstructed(self.dictionary, part_BD)
            self.firing.add_counts(counts_F, len(part_BD))
            y_hat_BE = y_hat_BE.double()
            self._residual = self._residual + (target_BE - y_hat_BE).square_().sum()
            self._square = self._square + y_hat_BE.square_().sum()

    @property
    def mean_squared_error(self) -> float:
        """Mean of |y - y_hat|^2 over the tokens, y what is written."""
        return float(self._residual) / self.firing.tokens

    @property
    def mean_square(self) -> float:
        """Mean of |y_hat|^2 over the tokens, y what is written."""
        return float(self._square) / self.firing.tokens

    def reconstruction(self, spread: Spread) -> Reconstruction:
        """Return L0, FVU and dead share, given the spread of what is written on the same tokens."""
        has_fvu = spread.variation > 0 and not self.dictionary.is_part
        return Reconstruction(
            l0=float(self.firing.counts_F.sum()) / self.firing.tokens,
            fvu=float(self._residual) / spread.variation if has_fvu else None,
            dead=self.firing.density().dead,
            tokens=self.firing.tokens,
        )


def rows_at_once(n_features: int) -> int:
    """Return how many tokens' features fit into what may be held at once."""
    return max(1, min(4096, ELEMENTS // n_features))


def blocks_at_once(context: int) -> int:
    """Return how many blocks of so many tokens the model reads together."""
    return max(1, min(BLOCKS_AT_ONCE, TOKENS // context))


def loss_blocks_at_once(context: int, vocabulary: int) -> int:
    """Return how many blocks the model reads together where every token has logits."""
    return max(1, min(blocks_at_once(context), LOGITS // (context * vocabulary)))


@torch.no_grad()
def density(dictionary: Dictionary, x_BD: Tensor, rows: int | None = None) -> Tensor:
    """Return the share of the vectors on which each feature is active, [F], in double precision."""
    firing = Firing(dictionary.n_features, x_BD.device)
    for part_BD in x_BD.split(rows or rows_at_once(dictionary.n_features)):
        firing.add(dictionary.encode(part_BD))
    return firing.density().density_F


def reconstruction(
    dictionary: Dictionary, x_BD: Tensor, rows: int | None = None, y_BE: Tensor | None = None
) -> Reconstruction:
    """Measure L0, FVU and dead share on activation vectors [B, D]; `y_BE`: what is written, if it is not x."""
    rows = rows or rows_at_once(dictionary.n_features)
    spread, fidelity = Spread(), Fidelity(dictionary, rows)
    targets = (x_BD if y_BE is None else y_BE).split(rows)
    for part_BD, target_BE in zip(x_BD.split(rows), targets, strict=True):
        spread.add(target_BE)
        fidelity.add(part_BD, target_BE)
    return fidelity.reconstruction(spread)


@dataclass(frozen=True)
class Ablations:
    """Holds blocks and the losses that every dictionary's loss is compared with: untouched, zeroed, set to the mean.

    hook_points: where activations are replaced, all together. widths: those of the hook points. length_N: how many
    tokens of each block are real; None: all of them.
    """

    subject: Subject
    hook_points: tuple[str, ...]
    widths: tuple[int, ...]
    ids_NC: Tensor
    clean: float
    zeroed: float
    averaged: float | None = None
    length_N: Tensor | None = None


def ablations(
    subject: Subject,
    hook_points: str | tuple[str, ...],
    ids_NC: Tensor,
    mean_D: Tensor | None = None,
    length_N: Tensor | None = None,
) -> Ablations:
    """Measure the untouched and the zero-ablated loss of some blocks of ids; with `mean_D` the mean-ablated one too.

    `mean_D` is the mean at all hook points, side by side. A beginning-of-sequence token that the subject prepends is
    never ablated.
    """
    names = (hook_points,) if isinstance(hook_points, str) else hook_points

    def loss(replaced: Mapping[str, Replace]) -> float:
        return _loss(subject, ids_NC, lambda part_NC: replaced, length_N)

    zeroed = dict.fromkeys(names, torch.zeros_like)
    widths = tuple(subject.width(name) for name in names)
    averaged = None if mean_D is None else loss(_constants(names, widths, mean_D))
    return Ablations(subject, names, widths, ids_NC, loss({}), loss(zeroed), averaged, length_N)


def cross_entropy(dictionary: Dictionary, against: Ablations) -> CrossEntropy:
    """Measure the loss with activations replaced by the dictionary's reconstruction; return it with the ablations'.

    Where it does not read the one hook point that it writes, all that it writes is replaced together by what it makes
    of the untouched activations that it reads.
    """
    subject, rows = against.subject, rows_at_once(dictionary.n_features)

    def reconstruct(x_NCD: Tensor) -> Tensor:
        parts = dictionary.in_context(x_NCD.float()).flatten(0, 1).split(rows)
        x_hat_BE = torch.cat([dictionary.reconstruct(part_BD) for part_BD in parts])
        return x_hat_BE.view(*x_NCD.shape[:2], -1)

    def from_what_is_read(ids_NC: Tensor) -> Mapping[str, Replace]:
        y_hat_NCE = reconstruct(subject.side_by_side(ids_NC, dictionary.reads))
        return _constants(against.hook_points, against.widths, y_hat_NCE)

    def in_place(ids_NC: Tensor) -> Mapping[str, Replace]:
        return {against.hook_points[0]: reconstruct}

    if dictionary.is_part:
        return CrossEntropy(against.clean, None, against.zeroed, against.averaged)
    replacing = in_place if dictionary.is_autoencoder else from_what_is_read
    reconstructed = _loss(subject, against.ids_NC, replacing, against.length_N)
    return CrossEntropy(against.clean, reconstructed, against.zeroed, against.averaged)


def _constants(hook_points: Sequence[str], widths: Sequence[int], value: Tensor) -> dict[str, Replace]:
    """Return what replaces activations at hook points by their parts of a value, [E] or [N, C, E], side by side."""
    parts = value.split(list(widths), dim=-1)

    def constant(part: Tensor) -> Replace:
        return lambda x_NCD: part.to(x_NCD).expand_as(x_NCD)

    return {hook_point: constant(part) for hook_point, part in zip(hook_points, parts, strict=True)}


def _loss(
    subject: Subject, ids_NC: Tensor, replacing: Callable[[Tensor], Mapping[str, Replace]], length_N: Tensor | None
) -> float:
    """Return the mean over the real ones of tokens 1..C-1 of each block.

    Args:
        replacing: returns what is replaced at which hook points, for some of the blocks.
    """
    size = loss_blocks_at_once(ids_NC.shape[1], subject.vocabulary)
    parts = [subject.losses(part_NC, replacing(part_NC)) for part_NC in batches(ids_NC, size)]
    losses = torch.cat(parts)
    if length_N is None:
        return float(losses.mean())
    counted = torch.arange(1, ids_NC.shape[1], device=losses.device) < length_N.to(losses.device)[:, None]
    return float(losses[counted].mean())
