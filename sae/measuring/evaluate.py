"""Measures dictionaries on a stretch of text, all those of the same hook points in one pass of the language model.

Whether the dictionaries were trained on that text is the caller's affair.

Shape suffixes: N blocks, C tokens of context, B activation vectors, D the width of what is read, E of what is written,
F features.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sae.common.errors import UserError
from sae.common.progress import Progress, Report, Silent
from sae.common.seeds import numpy_generator
from sae.data.blocks import Blocks
from sae.dictionary import Dictionary
from sae.measuring import metrics
from sae.measuring.cosines import max_cosine_within, paired_cosine
from sae.measuring.directions import read_directions, write_directions
from sae.measuring.firing import Density, Histogram
from sae.measuring.metrics import CrossEntropy, Fidelity, Spread
from sae.measuring.nearest import Nearest
from sae.measuring.weights import refuse_non_finite
from sae.models.subject import Subject
from sae.products import row_norms

LOSS_BLOCKS = 256
"""Blocks on which cross-entropy is measured: three forward passes of each, and one more for every dictionary."""


class Batch(NamedTuple):
    """Holds some blocks: ids [N, C] with their padding, and which tokens are real, [N, C]."""

    ids_NC: Tensor
    real_NC: Tensor


@dataclass(frozen=True)
class SquaredNorms:
    """Holds means over the tokens of |y|^2, |y_hat|^2 and |y - y_hat|^2, y what is written."""

    activations: float
    reconstructions: float
    errors: float


@dataclass(frozen=True)
class Directions:
    """Holds what was measured of a dictionary's weights alone, without text.

    norm_F: of each feature, the norm of its decoder direction.
    nearest: of each decoder direction, its largest cosine with another one; None where that was not asked for.
    paired: of each feature, the cosine of its encoder with its decoder direction; None where it reads other hook points
        than it writes.
    """

    norm_F: Tensor
    nearest: Nearest | None
    paired: Nearest | None

    @property
    def decoder_norms(self) -> tuple[float, float, float]:
        """The smallest, the median and the largest."""
        return float(self.norm_F.min()), float(self.norm_F.quantile(0.5)), float(self.norm_F.max())

    def to_json(self) -> dict[str, Any]:
        return {
            "decoder_norms": dict(zip(("min", "median", "max"), self.decoder_norms, strict=True)),
            "decoder_max_cosine": self.nearest.to_json() if self.nearest else None,
            "encoder_decoder_cosine": self.paired.to_json() if self.paired else None,
        }


@dataclass(frozen=True)
class Evaluation:
    """Holds what was measured of one dictionary.

    hook_point, writes: the hook points read and written, joined by "+". l0: mean number of active features per token.
    fvu: sum |y - y_hat|^2 / sum |y - mean y|^2 over all tokens and dimensions of what is written; None where that does
    not vary, and for one layer of a cross-layer transcoder. losses: next-token loss in nats on `loss_blocks` blocks,
    drawn from the same text, with all that is written replaced; the mean ablation sets it to its mean over `tokens`.
    """

    name: str
    kind: str
    hook_point: str
    writes: str
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
        plain = ("name", "kind", "hook_point", "writes", "d_in", "n_features", "tokens", "l0", "fvu")
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
    """Measure dictionaries that read and write the same hook points; the model reads every block once, and the loss
    blocks again.

    Args:
        hook_point: where autoencoders are measured; dictionaries of several hook points name their own.
        blocks: the text; padding is not counted. No more than 32 blocks' activations are held at a time.
        seed: chooses the blocks on which cross-entropy is measured, `loss_blocks` of them or as many as there are.
        cosines: compare every decoder direction with every other, which takes long with a hundred thousand.

    Raises:
        UserError: a dictionary of another width than the hook point's, text without two tokens in a row, activations
            or reconstructions that are not finite.
    """
    here = [move_to_subject(dictionary, subject, hook_point) for dictionary in dictionaries]
    reads, writes = here[0].reads, here[0].writes
    loss_text = _loss_blocks(blocks, loss_blocks, seed)
    spread, fidelities = Spread(), [Fidelity(dictionary) for dictionary in here]
    with report(f"measuring tokens at {'+'.join(reads)}") as progress:
        for batch in batches_of(blocks, subject.device):
            acts = subject.activations_at(batch.ids_NC, (*reads, *writes))
            y_BE = side_by_side(acts, writes, batch)
            spread.add(y_BE)
            for fidelity in fidelities:
                fidelity.add(inputs(fidelity.dictionary, acts, batch), y_BE)
            progress.update(spread.tokens, blocks.n_tokens)
    _refuse_overflow(spread, fidelities)
    losses = _losses(here, subject, loss_text, spread.mean_D, report)
    return [
        _evaluation(fidelity, spread, loss, len(loss_text.ids_NC), directions(one, cosines, report))
        for one, fidelity, loss in zip(here, fidelities, losses, strict=True)
    ]


def inputs(dictionary: Dictionary, acts: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Return what a dictionary encodes of real tokens, [B, D]: of their vectors, each in the context of its block."""
    parts = [acts[hook_point] for hook_point in dictionary.reads]
    return dictionary.in_context(parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1))[batch.real_NC]


def side_by_side(acts: Mapping[str, Tensor], hook_points: Sequence[str], batch: Batch) -> Tensor:
    """Return the vectors of real tokens at some hook points, [B, D]."""
    parts = [acts[hook_point][batch.real_NC] for hook_point in hook_points]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def move_to_subject(dictionary: Dictionary, subject: Subject, hook_point: str | None) -> Dictionary:
    """Move a dictionary to the subject's device, after a check that its widths are those of its hook points.

    Args:
        hook_point: where an autoencoder reads and writes; others name their own hook points. None: all do.

    Raises UserError if it reads or writes vectors of another width, or holds anything that is not finite.
    """
    if hook_point is not None and dictionary.is_autoencoder:
        dictionary = dictionary.at(hook_point)
    _refuse_other_width(dictionary, subject, "reads", dictionary.d_in)
    if dictionary.writes != dictionary.reads:
        _refuse_other_width(dictionary, subject, "writes", dictionary.d_out)
    refuse_non_finite(dictionary)
    return dictionary.to(subject.device)


def _refuse_other_width(dictionary: Dictionary, subject: Subject, what: Literal["reads", "writes"], own: int) -> None:
    """Raise UserError if the hook points that it reads, or writes, are together not as wide as its matrices."""
    hook_points: tuple[str, ...] = getattr(dictionary, what)
    width = sum(subject.width(hook_point) for hook_point in hook_points)
    if own != width:
        right = "hook point it was trained on with --hook" if dictionary.is_autoencoder else "model it was trained on"
        raise UserError(
            f"dictionary {dictionary.name} {what} vectors of width {own}, but {' + '.join(hook_points)} of "
            f"{subject.name} is {width} wide; give the {right}"
        )


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
    written_FE, is_pair = write_directions(dictionary), dictionary.reads == dictionary.writes
    return Directions(
        norm_F=row_norms(written_FE),
        nearest=max_cosine_within(written_FE, report=report) if cosines else None,
        paired=paired_cosine(read_directions(dictionary), written_FE) if is_pair else None,
    )


def _loss_blocks(blocks: Blocks, n: int, seed: int) -> Blocks:
    """Return n blocks that have a token to predict, in the text's order. Raises UserError if none has."""
    usable = np.flatnonzero(blocks.length_N > 1)
    if not len(usable):
        raise UserError("the corpus has no two tokens in a row, so there is no loss to measure; give more text")
    drawn = numpy_generator(seed, "blocks of the loss").choice(usable, min(n, len(usable)), replace=False)
    return blocks.take(np.sort(drawn))


def _losses(
    dictionaries: Sequence[Dictionary], subject: Subject, blocks: Blocks, mean_E: Tensor, report: Report
) -> list[CrossEntropy]:
    """Return each dictionary's cross-entropy; the untouched and the ablated losses are measured once."""
    ids_NC, losses = torch.from_numpy(blocks.ids_NC).long().to(subject.device), list[CrossEntropy]()
    with report(f"cross-entropy on {len(ids_NC)} blocks") as progress:
        length_N = torch.from_numpy(blocks.length_N)
        against = metrics.ablations(subject, dictionaries[0].writes, ids_NC, mean_E, length_N)
        for number, dictionary in enumerate(dictionaries, start=1):
            losses.append(metrics.cross_entropy(dictionary, against))
            progress.update(number, len(dictionaries))
    return losses


def _evaluation(
    fidelity: Fidelity, spread: Spread, losses: CrossEntropy, loss_blocks: int, directions: Directions
) -> Evaluation:
    dictionary, reconstruction = fidelity.dictionary, fidelity.reconstruction(spread)
    return Evaluation(
        name=dictionary.name,
        kind=dictionary.kind,
        hook_point="+".join(dictionary.reads),
        writes="+".join(dictionary.writes),
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


def _refuse_overflow(spread: Spread, fidelities: Sequence[Fidelity]) -> None:
    """Raise UserError for NaN and infinity: they would spread through every figure, and JSON cannot hold them."""
    if not np.isfinite(spread.variation):
        hook_points = "+".join(fidelities[0].dictionary.writes)
        raise UserError(f"the activations at {hook_points} are not all finite; is the model damaged?")
    for fidelity in fidelities:
        if not np.isfinite(fidelity.mean_squared_error):
            raise UserError(f"dictionary {fidelity.dictionary.name}: its reconstructions are not all finite")
