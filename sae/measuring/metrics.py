"""Measures how sparse a dictionary is, and how much of the activations and of the model's prediction it keeps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sae.dictionary import Dictionary
from sae.measuring.active import Active
from sae.measuring.firing import Firing
from sae.models.subject import Replace, Subject, batches

BLOCKS_AT_ONCE = 32
"""Most blocks that a model reads at once; fewer where blocks are long or the vocabulary is large."""
TOKENS = 2**13
"""Tokens whose activations are held at once: 72 MiB at a width of 2,304."""
LOGITS = 2**27
"""Tokens times vocabulary held at once: 512 MiB."""
ELEMENTS = 2**26
"""Tokens times features held at once: 256 MiB."""
WIDE = 2048
"""Features from which on a list of the active ones is worth its making."""


@dataclass(frozen=True)
class Reconstruction:
    """Holds what was measured on held-out text.

    l0: mean number of active features per token.
    fvu: fraction of variance unexplained, sum |x - x_hat|^2 / sum |x - mean x|^2 over all tokens and dimensions; None
        where the activations do not vary.
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

    averaged: None where the mean ablation was not asked for.
    """

    clean: float
    reconstructed: float
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
        return None if harm <= 0 else 1 - (self.reconstructed - self.clean) / harm


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
        self._square = self._square + x_BD.double().square().sum()
        difference_BD = x_BD.double() - self._first_D
        offset_D = difference_BD.mean(0)
        moved_D, total = offset_D - self._offset_D, self.tokens + len(x_BD)
        between = moved_D.square().sum() * (self.tokens * len(x_BD) / total)
        self._variation = self._variation + (difference_BD - offset_D).square().sum() + between
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
    def add(self, x_BD: Tensor) -> None:
        """Count activation vectors [B, D]."""
        for part_BD in x_BD.split(self._rows):
            x_hat_BD = self._reconstructed(part_BD).double()
            self._residual = self._residual + (part_BD - x_hat_BD).square().sum()
            self._square = self._square + x_hat_BD.square().sum()

    def _reconstructed(self, x_BD: Tensor) -> Tensor:
        """Count active features and return the reconstruction; of wide, sparse features, from the active ones only."""
        features_BF = self.dictionary.encode(x_BD)
        active = Active.of(features_BF) if self.dictionary.n_features >= WIDE else None
        if active is None:
            self.firing.add(features_BF)
            return self.dictionary.decode(features_BF, x_BD)
        self.firing.add_counts(torch.from_numpy(active.sums()), len(x_BD))
        values_N = torch.from_numpy(active.values_N).to(x_BD.dtype)
        features_N, offsets_B = torch.from_numpy(active.features_N), torch.from_numpy(active.offsets_B)
        return self.dictionary.decode_active(values_N, features_N, offsets_B, x_BD)

    @property
    def mean_squared_error(self) -> float:
        """Mean of |x - x_hat|^2 over the tokens."""
        return float(self._residual) / self.firing.tokens

    @property
    def mean_square(self) -> float:
        """Mean of |x_hat|^2 over the tokens."""
        return float(self._square) / self.firing.tokens

    def reconstruction(self, spread: Spread) -> Reconstruction:
        """Return L0, FVU and dead share, given the spread of the same vectors."""
        return Reconstruction(
            l0=float(self.firing.counts_F.sum()) / self.firing.tokens,
            fvu=float(self._residual) / spread.variation if spread.variation > 0 else None,
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


def reconstruction(dictionary: Dictionary, x_BD: Tensor, rows: int | None = None) -> Reconstruction:
    """Measure L0, FVU and dead share on activation vectors [B, D]."""
    rows = rows or rows_at_once(dictionary.n_features)
    spread, fidelity = Spread(), Fidelity(dictionary, rows)
    for part_BD in x_BD.split(rows):
        spread.add(part_BD)
        fidelity.add(part_BD)
    return fidelity.reconstruction(spread)


@dataclass(frozen=True)
class Ablations:
    """Holds blocks and the losses that every dictionary's loss is compared with: untouched, zeroed, set to the mean.

    length_N: how many tokens of each block are real; None: all of them.
    """

    subject: Subject
    hook_point: str
    ids_NC: Tensor
    clean: float
    zeroed: float
    averaged: float | None = None
    length_N: Tensor | None = None


def ablations(
    subject: Subject,
    hook_point: str,
    ids_NC: Tensor,
    mean_D: Tensor | None = None,
    length_N: Tensor | None = None,
) -> Ablations:
    """Measure the untouched and the zero-ablated loss of some blocks of ids; with `mean_D` the mean-ablated one too.

    A beginning-of-sequence token that the subject prepends is never ablated.
    """

    def loss(replace: Replace | None) -> float:
        return _loss(subject, hook_point, ids_NC, replace, length_N)

    averaged = None if mean_D is None else loss(lambda x_NCD: mean_D.to(x_NCD).expand_as(x_NCD))
    return Ablations(subject, hook_point, ids_NC, loss(None), loss(torch.zeros_like), averaged, length_N)


def cross_entropy(dictionary: Dictionary, against: Ablations) -> CrossEntropy:
    """Measure the loss with activations replaced by the dictionary's reconstruction; return it with the ablations'."""
    rows = rows_at_once(dictionary.n_features)

    def reconstruct(x_NCD: Tensor) -> Tensor:
        parts = x_NCD.flatten(0, 1).float().split(rows)
        return torch.cat([dictionary.reconstruct(part_BD) for part_BD in parts]).view_as(x_NCD)

    reconstructed = _loss(against.subject, against.hook_point, against.ids_NC, reconstruct, against.length_N)
    return CrossEntropy(against.clean, reconstructed, against.zeroed, against.averaged)


def _loss(subject: Subject, hook_point: str, ids_NC: Tensor, replace: Replace | None, length_N: Tensor | None) -> float:
    """Return the mean over the real ones of tokens 1..C-1 of each block."""
    size = loss_blocks_at_once(ids_NC.shape[1], subject.vocabulary)
    parts = [subject.losses(part, hook_point, replace) for part in batches(ids_NC, size)]
    losses = torch.cat(parts)
    if length_N is None:
        return float(losses.mean())
    counted = torch.arange(1, ids_NC.shape[1], device=losses.device) < length_N.to(losses.device)[:, None]
    return float(losses[counted].mean())
