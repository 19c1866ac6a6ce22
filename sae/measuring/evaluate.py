"""Measures dictionaries on a stretch of text, all those of one hook point in one pass of the language model.

Whether the dictionaries were trained on that text is the caller's affair.

Shape suffixes: N blocks, C tokens of context, B activation vectors, D their width, F features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sae.common.errors import UserError
from sae.common.progress import Progress, Report, Silent
from sae.common.seeds import numpy_generator
from sae.data.blocks import Blocks
from sae.dictionary import Dictionary
from sae.measuring import metrics, similarity
from sae.measuring.firing import Density, Histogram
from sae.measuring.metrics import CrossEntropy, Fidelity, Spread
from sae.measuring.similarity import Nearest
from sae.measuring.weights import refuse_non_finite
from sae.models.subject import Subject

LOSS_BLOCKS = 256
"""Blocks on which cross-entropy is measured: three forward passes of each, and one more for every dictionary."""


class Batch(NamedTuple):
    """Holds some blocks: ids [N, C] with their padding, and which tokens are real, [N, C]."""

    ids_NC: Tensor
    real_NC: Tensor


@dataclass(frozen=True)
class SquaredNorms:
    """Means over the tokens of |x|^2, |x_hat|^2 and |x - x_hat|^2."""

    activations: float
    reconstructions: float
    errors: float


@dataclass(frozen=True)
class Directions:
    """Holds what was measured of a dictionary's weights alone, without text.

    norm_F: of each feature, the norm of its decoder direction.
    nearest: of each decoder direction, its largest cosine with another one; None where that was not asked for.
    paired: of each feature, the cosine of its encoder with its decoder direction.
    """

    norm_F: Tensor
    nearest: Nearest | None
    paired: Nearest

    @property
    def decoder_norms(self) -> tuple[float, float, float]:
        """The smallest, the median and the largest."""
        return float(self.norm_F.min()), float(self.norm_F.quantile(0.5)), float(self.norm_F.max())

    def to_json(self) -> dict[str, Any]:
        return {
            "decoder_norms": dict(zip(("min", "median", "max"), self.decoder_norms, strict=True)),
            "decoder_max_cosine": self.nearest.to_json() if self.nearest else None,
            "encoder_decoder_cosine": self.paired.to_json(),
        }


@dataclass(frozen=True)
class Evaluation:
    """Holds what was measured of one dictionary.

    l0: mean number of active features per token. fvu: sum |x - x_hat|^2 / sum |x - mean x|^2 over all tokens and
    dimensions; None where the activations do not vary. losses: next-token loss in nats on `loss_blocks` blocks, drawn
    from the same text; its mean ablation sets every activation to the mean over all `tokens`.
    """

    name: str
    kind: str
    hook_point: str
    d_in: int
    n_features: int
    tokens: int
    l0: float
    fvu: float | None
    squared_norms: SquaredNorms
    losses: CrossEntropy
    loss_blocks: int
    density: Density
    directions: Directions

    def histogram(self, per_decade: int = 10) -> Histogram:
        """Count the features by log10 of their density."""
        return self.density.histogram(per_decade)

    @property
    def density_median(self) -> float | None:
        """Over the features that are active on some token; None if none is."""
        alive = self.density.density_F[self.density.density_F > 0]
        return float(alive.quantile(0.5)) if len(alive) else None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON object; what does not exist is None."""
        plain = ("name", "kind", "hook_point", "d_in", "n_features", "tokens", "l0", "fvu")
        return {
            **{name: getattr(self, name) for name in plain},
            "dead": self.density.dead,
            "ultralow": self.density.ultralow,
            "density_median": self.density_median,
            "density_histogram_log10": asdict(self.histogram()),
            "ce_recovered": self.losses.recovered,
            "ce_recovered_from_mean": self.losses.recovered_from_mean,
            "cross_entropy": asdict(self.losses) | {"blocks": self.loss_blocks},
            "mean_squared_norms": asdict(self.squared_norms),
            **self.directions.to_json(),
        }


def evaluate_all(
    dictionaries: Sequence[Dictionary],
    subject: Subject,
    hook_point: str,
    blocks: Blocks,
    report: Report = Progress,
    seed: int = 0,
    loss_blocks: int = LOSS_BLOCKS,
    cosines: bool = True,
) -> list[Evaluation]:
    """Measure dictionaries of one hook point; the model reads every block once, and the loss blocks again.

    Args:
        blocks: the text; padding is not counted. No more than 32 blocks' activations are held at a time.
        seed: chooses the blocks on which cross-entropy is measured, `loss_blocks` of them or as many as there are.
        cosines: compare every decoder direction with every other, which takes long with a hundred thousand.

    Raises:
        UserError: a dictionary of another width than the hook point's, text without two tokens in a row, activations
            or reconstructions that are not finite.
    """
    here = [move_to_subject(dictionary, subject, hook_point) for dictionary in dictionaries]
    loss_text = _loss_blocks(blocks, loss_blocks, seed)
    spread, fidelities = Spread(), [Fidelity(dictionary) for dictionary in here]
    with report(f"measuring tokens at {hook_point}") as progress:
        for batch in batches_of(blocks, subject.device):
            x_BD = subject.activations(batch.ids_NC, hook_point)[batch.real_NC]
            spread.add(x_BD)
            for fidelity in fidelities:
                fidelity.add(x_BD)
            progress.update(spread.tokens, blocks.n_tokens)
    _refuse_overflow(spread, fidelities, hook_point)
    losses = _losses(here, subject, hook_point, loss_text, spread.mean_D, report)
    return [
        _evaluation(fidelity, spread, loss, len(loss_text.ids_NC), hook_point, directions(one, cosines, report))
        for one, fidelity, loss in zip(here, fidelities, losses, strict=True)
    ]


def move_to_subject(dictionary: Dictionary, subject: Subject, *hook_points: str) -> Dictionary:
    """Move a dictionary to the subject's device, after a check that it reads these hook points side by side.

    Raises UserError if it reads vectors of another width, or holds anything that is not finite.
    """
    width = sum(subject.width(hook_point) for hook_point in hook_points)
    if dictionary.d_in != width:
        names = " + ".join(hook_points)
        raise UserError(
            f"dictionary {dictionary.name} reads vectors of width {dictionary.d_in}, but {names} of {subject.name} is "
            f"{width} wide; give the hook point it was trained on with --hook"
        )
    refuse_non_finite(dictionary)
    return dictionary.to(subject.device)


def batches_of(blocks: Blocks, device: str) -> Iterator[Batch]:
    """Yield all blocks in their order, a few at a time."""
    positions_C = torch.arange(blocks.ids_NC.shape[1], device=device)
    size = metrics.blocks_at_once(blocks.ids_NC.shape[1])
    for start in range(0, len(blocks.ids_NC), size):
        rows = slice(start, start + size)
        length_N = torch.from_numpy(blocks.length_N[rows]).to(device)
        yield Batch(torch.from_numpy(blocks.ids_NC[rows]).long().to(device), positions_C < length_N[:, None])


def directions(dictionary: Dictionary, cosines: bool = True, report: Report = Silent) -> Directions:
    """Return norms and cosines of the weights; `cosines` compares every decoder direction with every other."""
    return Directions(
        norm_F=dictionary.W_dec_FD.norm(dim=1),
        nearest=similarity.max_cosine_within(dictionary.W_dec_FD, report=report) if cosines else None,
        paired=similarity.paired_cosine(dictionary.W_enc_DF.T, dictionary.W_dec_FD),
    )


def _loss_blocks(blocks: Blocks, n: int, seed: int) -> Blocks:
    """Return n blocks that have a token to predict, in the text's order. Raises UserError if none has."""
    usable = np.flatnonzero(blocks.length_N > 1)
    if not len(usable):
        raise UserError("the corpus has no two tokens in a row, so there is no loss to measure; give more text")
    drawn = numpy_generator(seed, "blocks of the loss").choice(usable, min(n, len(usable)), replace=False)
    return blocks.take(np.sort(drawn))


def _losses(
    dictionaries: Sequence[Dictionary],
    subject: Subject,
    hook_point: str,
    blocks: Blocks,
    mean_D: Tensor,
    report: Report,
) -> list[CrossEntropy]:
    """Return each dictionary's cross-entropy; the untouched and the ablated losses are measured once."""
    ids_NC = torch.from_numpy(blocks.ids_NC).long().to(subject.device)
    losses = []
    with report(f"cross-entropy on {len(ids_NC)} blocks") as progress:
        against = metrics.ablations(subject, hook_point, ids_NC, mean_D, torch.from_numpy(blocks.length_N))
        for number, dictionary in enumerate(dictionaries, start=1):
            losses.append(metrics.cross_entropy(dictionary, against))
            progress.update(number, len(dictionaries))
    return losses


def _evaluation(
    fidelity: Fidelity,
    spread: Spread,
    losses: CrossEntropy,
    loss_blocks: int,
    hook_point: str,
    directions: Directions,
) -> Evaluation:
    dictionary, reconstruction = fidelity.dictionary, fidelity.reconstruction(spread)
    return Evaluation(
        name=dictionary.name,
        kind=dictionary.kind,
        hook_point=hook_point,
        d_in=dictionary.d_in,
        n_features=dictionary.n_features,
        tokens=reconstruction.tokens,
        l0=reconstruction.l0,
        fvu=reconstruction.fvu,
        squared_norms=SquaredNorms(spread.mean_square, fidelity.mean_square, fidelity.mean_squared_error),
        losses=losses,
        loss_blocks=loss_blocks,
        density=fidelity.firing.density(),
        directions=directions,
    )


def _refuse_overflow(spread: Spread, fidelities: Sequence[Fidelity], hook_point: str) -> None:
    """Raise UserError for NaN and infinity: they would spread through every figure, and JSON cannot hold them."""
    if not np.isfinite(spread.variation):
        raise UserError(f"the activations at {hook_point} are not all finite; is the model damaged?")
    for fidelity in fidelities:
        if not np.isfinite(fidelity.mean_squared_error):
            raise UserError(f"dictionary {fidelity.dictionary.name}: its reconstructions are not all finite")
