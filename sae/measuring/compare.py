"""Compares two dictionaries, of one language model or of two: by direction, and by activation on the same tokens.

Shape suffixes: B activation vectors, D their width, F features of A, G features of B.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sae.common.errors import UserError
from sae.common.progress import Progress, Report
from sae.data.blocks import Blocks
from sae.dictionary import Dictionary
from sae.measuring.active import rows_in_cache
from sae.measuring.correlation import Correlation
from sae.measuring.cosines import max_cosine
from sae.measuring.directions import write_directions
from sae.measuring.evaluate import batches_of, move_to_subject
from sae.measuring.metrics import rows_at_once
from sae.measuring.nearest import Similarity, joined
from sae.measuring.reconstructed import can_list, listed
from sae.models.residual import share_basis
from sae.models.subject import Subject, one_name

PAIRS = 2**28
"""Pairs of features whose correlations are summed in one pass of the text; the sums take 2 GiB."""


@dataclass(frozen=True)
class Studied:
    """Holds a dictionary, its language model, and the hook points where it reads, as one label."""

    dictionary: Dictionary
    subject: Subject
    hook_point: str

    def on_device(self) -> "Studied":
        """Return it on the subject's device. Raises UserError if the hook point has another width."""
        moved = move_to_subject(self.dictionary, self.subject, self.hook_point)
        return Studied(moved, self.subject, str(moved.hook_point))

    def activations(self, ids_NC: Tensor) -> Tensor:
        """Return what it encodes, [N, C, D]; once it is `on_device`."""
        return self.dictionary.in_context(self.subject.side_by_side(ids_NC, self.dictionary.reads))

    def shares_basis(self, other: "Studied") -> bool:
        """Tell whether what it writes is in the basis of what the other one writes."""
        pairs = zip(self.dictionary.writes, other.dictionary.writes, strict=False)
        as_many = len(self.dictionary.writes) == len(other.dictionary.writes)
        return as_many and all(share_basis(one, another) for one, another in pairs)

    def shares_activations(self, other: "Studied") -> bool:
        """Tell whether the other one encodes the same activations of the same model, vector by vector."""
        if self.dictionary.context or other.dictionary.context:
            return False
        return self.subject is other.subject and self.hook_point == other.hook_point

    def to_json(self) -> dict[str, Any]:
        return {"name": self.dictionary.name, "model": self.subject.name, "hook_point": self.hook_point}


@dataclass(frozen=True)
class Comparison:
    """Reports how alike two dictionaries are."""

    a: Studied
    b: Studied
    tokens: int
    """Tokens of text that both saw."""
    mmcs: Similarity | None
    """For each feature, the largest cosine of its decoder direction with one of the other side; the mean is the MMCS.
    None where the two are of different models, widths or bases (one hook point in the MLP, one in the residual
    stream): their directions have nothing to do with each other."""
    universality: Similarity
    """For each feature, the largest Pearson correlation of its activations with those of a feature of the other
    side."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON object; what does not exist is None."""
        return {
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "tokens": self.tokens,
            "mmcs": self.mmcs.to_json() if self.mmcs else None,
            "universality": self.universality.to_json(),
        }


class Pair(NamedTuple):
    """Holds activation vectors of both sides on the same tokens."""

    a_BD: Tensor
    b_BD: Tensor


def compare(a: Studied, b: Studied, blocks: Blocks, report: Report = Progress) -> Comparison:
    """Return MMCS and universality, in both directions.

    Args:
        blocks: token ids of the text; two models must share their tokenizer.

    Raises:
        UserError: the tokenizers differ, a dictionary's width is not its hook point's, or activations of features
            are not finite.
    """
    refuse_other_tokenizer(a.subject, b.subject)
    a, b = a.on_device(), b.on_device()
    return Comparison(a, b, blocks.n_tokens, _mmcs(a, b, report), _universality(a, b, blocks, report))


def refuse_other_tokenizer(a: Subject, b: Subject) -> None:
    """Raise UserError unless the same token ids mean the same text to both."""
    if a is not b and a.tokenizer.get_vocab() != b.tokenizer.get_vocab():
        raise UserError(
            f"{a.name} and {b.name} have different tokenizers, so no feature of one is active on a token of the other; "
            "compare dictionaries of models that share one"
        )


def _mmcs(a: Studied, b: Studied, report: Report) -> Similarity | None:
    same_model = one_name(a.subject.name) == one_name(b.subject.name)
    if not same_model or a.dictionary.d_out != b.dictionary.d_out or not a.shares_basis(b):
        return None
    ours_FD, theirs_GD = write_directions(a.dictionary), write_directions(b.dictionary)
    return max_cosine(ours_FD, theirs_GD.to(ours_FD.device), report=report)


def _universality(a: Studied, b: Studied, blocks: Blocks, report: Report) -> Similarity:
    """Correlate in as many passes of the text as it takes for the sums to fit into memory."""
    slices = torch.arange(a.dictionary.n_features, device=a.subject.device).split(
        max(1, PAIRS // b.dictionary.n_features)
    )
    total = len(slices) * blocks.n_tokens
    with report(f"comparing {a.dictionary.name} with {b.dictionary.name} on tokens") as progress:
        if len(slices) > 1:
            progress.say(f"{len(slices)} passes of the text: the sums of all pairs of features do not fit together")
        parts = [
            _slice(a, b, features_S, blocks, partial(_update, progress, number * blocks.n_tokens, total))
            for number, features_S in enumerate(slices)
        ]
    return joined(parts)


def _update(progress: Progress, before: int, total: int, done: int) -> None:
    progress.update(before + done, total)


def _slice(a: Studied, b: Studied, features_S: Tensor, blocks: Blocks, update: Callable[[int], None]) -> Similarity:
    """Correlate some of A's features with all of B's. The sums, up to 2 GiB, are freed before the next slice."""
    sums = Correlation(len(features_S), b.dictionary.n_features, a.subject.device)
    add, rows = _adding(sums, a.dictionary, b.dictionary, features_S), _rows(a, b)
    for pair in _pairs(a, b, blocks):
        for part_a_BD, part_b_BD in zip(pair.a_BD.split(rows), pair.b_BD.split(rows), strict=True):
            add(part_a_BD, part_b_BD)
        update(sums.tokens)
    for side, finite in zip((a, b), sums.finite, strict=True):
        if not finite:
            raise UserError(f"dictionary {side.dictionary.name}: the activations of its features are not all finite")
    return sums.nearest()


def _pairs(a: Studied, b: Studied, blocks: Blocks) -> Iterator[Pair]:
    """Yield activations on real tokens; two dictionaries at one hook point of one model share its pass."""
    for batch in batches_of(blocks, a.subject.device):
        a_BD = a.activations(batch.ids_NC)[batch.real_NC]
        b_BD = a_BD if a.shares_activations(b) else b.activations(batch.ids_NC)[batch.real_NC]
        yield Pair(a_BD, b_BD)


def _adding(sums: Correlation, a: Dictionary, b: Dictionary, features_S: Tensor) -> Callable[[Tensor, Tensor], None]:
    """Return what encodes vectors of both sides and counts them; where few features can be active, only those."""
    whole, device = len(features_S) == a.n_features, features_S.device
    if whole and can_list(a, device) and can_list(b, device):
        return lambda a_BD, b_BD: sums.add_active(listed(a, a_BD), listed(b, b_BD))
    encode = a.encode if whole else a.encoder(features_S)
    return lambda a_BD, b_BD: sums.add(encode(a_BD), b.encode(b_BD))


def _rows(a: Studied, b: Studied) -> int:
    n_features = max(a.dictionary.n_features, b.dictionary.n_features)
    at_once = rows_at_once(n_features)
    return min(at_once, rows_in_cache(n_features)) if a.subject.device == "cpu" else at_once
