"""Compares two dictionaries, of one language model or of two: by direction, and by activation on the same tokens.

Knows nothing about where dictionaries come from, command lines or explanations.

Shape suffixes: B activation vectors, D their width, F features of A, G features of B.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sae import similarity
from sae.corpus import Blocks
from sae.dictionary import Dictionary, Encoder
from sae.errors import UserError
from sae.evaluate import batches_of, fitting
from sae.metrics import rows_at_once
from sae.progress import Progress, Report
from sae.similarity import Correlation, Similarity
from sae.subject import Subject, hub_name

PAIRS = 2**28
"""Pairs of features whose correlations are summed in one pass of the text: 2 GiB."""


@dataclass(frozen=True)
class Studied:
    """A dictionary at a hook point of a language model."""

    dictionary: Dictionary
    subject: Subject
    hook_point: str

    def placed(self) -> "Studied":
        """On the subject's device. Raises UserError if the hook point has another width."""
        return Studied(fitting(self.dictionary, self.subject, self.hook_point), self.subject, self.hook_point)

    def same_place(self, other: "Studied") -> bool:
        return self.subject is other.subject and self.hook_point == other.hook_point

    def to_json(self) -> dict[str, Any]:
        return {"name": self.dictionary.name, "model": self.subject.name, "hook_point": self.hook_point}


@dataclass(frozen=True)
class Comparison:
    """A beside B.

    mmcs: cosines of decoder directions, of each feature with the nearest of the other side (their mean is the MMCS);
        None where the two are of different models or widths, whose directions have nothing to do with each other.
    universality: Pearson correlations of activations over `tokens` tokens, of each feature with the largest.
    """

    a: Studied
    b: Studied
    tokens: int
    mmcs: Similarity | None
    universality: Similarity

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON object; what does not exist is None."""
        return {
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "tokens": self.tokens,
            "mmcs": self.mmcs.to_json() if self.mmcs else None,
            "universality": self.universality.to_json(),
        }


class Pair(NamedTuple):
    """Activation vectors of both sides on the same tokens."""

    a_BD: Tensor
    b_BD: Tensor


def compare(a: Studied, b: Studied, blocks: Blocks, report: Report = Progress) -> Comparison:
    """MMCS and universality, both ways.

    Args:
        blocks: token ids of the text; two models must share their tokenizer.

    Raises:
        UserError: the tokenizers differ, or a dictionary's width is not its hook point's.
    """
    refuse_other_tokenizer(a.subject, b.subject)
    a, b = a.placed(), b.placed()
    return Comparison(a, b, blocks.n_tokens, _mmcs(a, b), _universality(a, b, blocks, report))


def refuse_other_tokenizer(a: Subject, b: Subject) -> None:
    """Raises UserError unless the same ids mean the same text to both."""
    if a is not b and a.tokenizer.get_vocab() != b.tokenizer.get_vocab():
        raise UserError(
            f"{a.name} and {b.name} have different tokenizers, so no feature of one is active on a token of the other; "
            "compare dictionaries of models that share one"
        )


def _mmcs(a: Studied, b: Studied) -> Similarity | None:
    if _model(a.subject) != _model(b.subject) or a.dictionary.d_in != b.dictionary.d_in:
        return None
    return similarity.max_cosine(a.dictionary.W_dec_FD, b.dictionary.W_dec_FD.to(a.dictionary.W_dec_FD.device))


def _model(subject: Subject) -> str:
    """One name for a model that has several: an alias, a relative path."""
    folder = Path(subject.name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else hub_name(subject.name)


def _universality(a: Studied, b: Studied, blocks: Blocks, report: Report) -> Similarity:
    """In as many passes of the text as slices of A's features are needed for their sums to fit."""
    slices = torch.arange(a.dictionary.n_features, device=a.subject.device).split(
        max(1, PAIRS // b.dictionary.n_features)
    )
    found, done = [], 0
    with report(f"comparing {a.dictionary.name} with {b.dictionary.name} on tokens") as progress:
        for features_S in slices:
            encode = a.dictionary.encode if len(slices) == 1 else a.dictionary.encoder(features_S)
            sums = Correlation(len(features_S), b.dictionary.n_features, a.subject.device)
            for pair in _pairs(a, b, blocks):
                _add(sums, pair, encode, b.dictionary.encode, _rows(a, b))
                progress.update(done + sums.tokens, len(slices) * blocks.n_tokens)
            done += sums.tokens
            found.append(sums.nearest())
    return similarity.joined(found)


def _pairs(a: Studied, b: Studied, blocks: Blocks) -> Iterator[Pair]:
    """Real tokens only; two dictionaries at one place share the model's pass."""
    for batch in batches_of(blocks, a.subject.device):
        a_BD = a.subject.activations(batch.ids_NC, a.hook_point)[batch.real_NC]
        same = a.same_place(b)
        b_BD = a_BD if same else b.subject.activations(batch.ids_NC, b.hook_point)[batch.real_NC]
        yield Pair(a_BD, b_BD)


def _add(sums: Correlation, pair: Pair, encode_a: Encoder, encode_b: Encoder, rows: int) -> None:
    for part_a_BD, part_b_BD in zip(pair.a_BD.split(rows), pair.b_BD.split(rows), strict=True):
        sums.add(encode_a(part_a_BD), encode_b(part_b_BD))


def _rows(a: Studied, b: Studied) -> int:
    return rows_at_once(max(a.dictionary.n_features, b.dictionary.n_features))
