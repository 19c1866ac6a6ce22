"""Samples records of features whose activations are given, by the same selection as for a model's features.

Every token of the text gets an index of its own, and a table of activations by these indices stands in for the
language model: `select` and `build` do not notice. Imports torch.

Shape suffixes: N blocks, C tokens of a block, F features, T tokens of the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autointerp.config import Config
from autointerp.records import FeatureRecord
from autointerp.sampling.build import build
from autointerp.sampling.dictionaries import Measured
from autointerp.sampling.engines.local import LocalEngine
from autointerp.sampling.fragments import make_fragments
from autointerp.sampling.prepare import Prepared
from autointerp.sampling.select import select
from sae.common.progress import Report
from sae.data.blocks import Blocks
from sae.dictionary import Dictionary
from sae.models.subject import Subject

HOOK_POINT = "given"


@dataclass(frozen=True)
class GivenText:
    """Holds the tokens of a text and the document of each block."""

    tokens: Sequence[str]
    """The text of every token, block after block, N * C of them."""
    document_N: NDArray[np.int64]
    """Index of each block's document; those of one document follow each other."""

    def blocks(self) -> Blocks:
        """Return blocks in which every token has an index of its own."""
        n_blocks, length = len(self.document_N), len(self.tokens) // len(self.document_N)
        ids_NC = np.arange(n_blocks * length, dtype=np.int32).reshape(n_blocks, length)
        document_N = self.document_N.astype(np.int32)
        return Blocks(ids_NC, np.full(n_blocks, length, np.int32), document_N, document_N)


class _Table:
    """Answers as a booted model does, from a table of activations."""

    hook_dict: ClassVar[Mapping[str, None]] = {HOOK_POINT: None}

    def __init__(self, activations_TF: Tensor) -> None:
        self._activations_TF = activations_TF

    def run_with_hooks(self, ids_NC: Tensor, fwd_hooks: Sequence[tuple[str, Callable[[Tensor, object], Any]]]) -> None:
        for _, read in fwd_hooks:
            read(self._activations_TF[ids_NC], None)


class _GivenSubject(Subject):
    """Stands in for a language model; its vocabulary is the text itself, token by token."""

    def token_strings(self) -> list[str]:
        return list(self.tokenizer)


def _prepared(text: GivenText, activations_TF: Tensor, dictionaries: tuple[Measured, ...]) -> Prepared:
    subject = _GivenSubject("given", _Table(activations_TF), text.tokens, False, "cpu")
    return Prepared(subject, text.blocks(), dictionaries, {})


def sample_given(
    text: GivenText, activations_NCF: NDArray[np.float32], config: Config, report: Report
) -> list[FeatureRecord | None]:
    """Sample each feature's records as `config.sampling` says; None for one that is active on too few fragments.

    Args:
        text: blocks of `sampling.fragment` tokens.
        activations_NCF: the activation of every feature at every token, not negative.

    Raises:
        UserError: no feature is active often enough.
    """
    n_features = activations_NCF.shape[-1]
    eye, zero_F = torch.eye(n_features), torch.zeros(n_features)
    dictionary = Dictionary("given", "sae", eye, zero_F, eye, zero_F).at(HOOK_POINT)
    measured = Measured(dictionary, dict.fromkeys(("l0", "fvu", "dead", "ce_recovered")), dictionary.name)
    prepared = _prepared(text, torch.from_numpy(activations_NCF.reshape(-1, n_features)), (measured,))
    sampling = config.sampling.model_copy(update={"features": n_features})
    config = config.model_copy(update={"sampling": sampling})
    drawn = build(prepared, select(prepared, config, LocalEngine(), report), config)
    by_index = {record.id.index: record for record in drawn.features}
    return [by_index.get(index) for index in range(n_features)]


def score_side(text: GivenText, config: Config) -> NDArray[np.bool_]:
    """Tell of every block whether score records are drawn from it (else explain records), [N]."""
    fragments = make_fragments(_prepared(text, torch.zeros(0, 1), ()), config)
    side_N: NDArray[np.bool_] = (fragments.side_M == 1).numpy()
    return side_N
