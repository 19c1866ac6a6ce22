"""Ablates the selected features on their score records, and keeps what that does. Imports torch.

Shape suffixes: S features, P passages, V tokens of the vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from autointerp.records import ACTIVE_SOURCES, Effect, FeatureId
from autointerp.sampling.output_tokens import PROMOTED, Vocabulary
from autointerp.sampling.prepare import Prepared
from autointerp.sampling.select import SelectedDictionary, SelectedFeature
from sae.common.errors import UserError
from sae.common.progress import Report
from sae.common.seeds import numpy_generator
from sae.dictionary import Dictionary
from sae.interventions.effects import Passages, ablate
from sae.interventions.hold import hook_point_of
from sae.interventions.logit_weights import logit_weights, row_correlation

ELEMENTS = 2**21
"""Features times vocabulary that are ablated together: sums of 16 bytes each, and a line of progress for each group."""


def measure_effects(
    selected: SelectedDictionary, prepared: Prepared, vocabulary: Vocabulary, n_records: int, report: Report
) -> list[Effect | None]:
    """Return the effect of ablating each selected feature; None where a dictionary's features cannot be ablated.

    Args:
        n_records: active records on which a feature is ablated, and as many others.
        report: makes a progress display from a title.
    """
    dictionary, features = selected.measured.dictionary, selected.features
    try:
        hook_point_of(dictionary)
    except UserError:  # a transcoder, say: its features have no effect of this kind
        return [None] * len(features)
    bare: list[Effect] = []
    size = max(1, ELEMENTS // prepared.subject.vocabulary)
    with report(f"ablating features of {dictionary.name}") as progress:
        for start in range(0, len(features), size):
            bare += _effects(dictionary, features[start : start + size], prepared, vocabulary, n_records)
            progress.update(len(bare), len(features))
    return list(_with_others(bare, dictionary.name, [feature.index for feature in features], vocabulary))


def _effects(
    dictionary: Dictionary,
    features: Sequence[SelectedFeature],
    prepared: Prepared,
    vocabulary: Vocabulary,
    n_records: int,
) -> Iterator[Effect]:
    """Measure some features together; tokens to compare with are not drawn yet."""
    subject = prepared.subject
    features_S = torch.tensor([feature.index for feature in features], device=subject.device)
    passages = _passages(features, prepared, n_records)
    own, others = (ablate(subject, dictionary, features_S, one) for one in passages)
    weights_SV = logit_weights(subject, dictionary, features_S)
    agreement_S = None if weights_SV is None else row_correlation(weights_SV, -own.log_probs_SV)
    change_SV = own.probs_SV.nan_to_num(0)
    lowered, raised = (vocabulary.largest(sign * change_SV, PROMOTED) for sign in (-1, 1))
    for row in range(len(features)):
        falls, rises = ([pair for pair in pairs[row] if pair[1] > 0] for pairs in (lowered, raised))
        yield Effect(
            tokens=int(own.active_S[row]),
            loss=_number(own.loss_S, row),
            loss_others=_number(others.loss_everywhere_S, row),
            lowered=tuple(token for token, _ in falls),
            lowered_by=tuple(-change for _, change in falls),
            raised=tuple(token for token, _ in rises),
            raised_by=tuple(change for _, change in rises),
            unlowered=(),
            logit_agreement=None if agreement_S is None else _number(agreement_S, row),
        )


def _number(values_S: Tensor, row: int) -> float | None:
    value = values_S[row]
    return None if value.isnan() else float(value)


class _Passages(NamedTuple):
    """Holds the passages on which features are active, and the others."""

    own: Passages
    others: Passages


class _Row(NamedTuple):
    """Names a record: its feature, counted among those that are ablated, its first token in all blocks, its length."""

    feature: int
    start: int
    length: int


def _passages(features: Sequence[SelectedFeature], prepared: Prepared, n_records: int) -> _Passages:
    """Return the first records of both kinds of every feature as passages."""
    own: list[_Row] = []
    others: list[_Row] = []
    for number, feature in enumerate(features):
        picks = feature.score
        for rows, is_own in ((own, True), (others, False)):
            kept = [source in ACTIVE_SOURCES for source in picks.sources]
            starts = [start for start, active in zip(picks.start_P.tolist(), kept, strict=True) if active is is_own]
            rows.extend(_Row(number, start, picks.values_PL.shape[1]) for start in starts[:n_records])
    return _Passages(_as_passages(own, prepared), _as_passages(others, prepared))


def _as_passages(rows: Sequence[_Row], prepared: Prepared) -> Passages:
    device, blocks = prepared.subject.device, prepared.text
    feature_P, begin_P, size_P = torch.tensor(rows, dtype=torch.long).reshape(-1, 3).unbind(1)
    context = blocks.ids_NC.shape[1]
    block_P, start_P = (begin_P // context).numpy(), begin_P % context
    ids_PC, length_P = (torch.from_numpy(values[block_P]).long() for values in (blocks.ids_NC, blocks.length_N))
    values = (ids_PC, length_P, start_P, start_P + size_P, feature_P)
    return Passages(*(value.to(device) for value in values))


def _with_others(
    effects: Sequence[Effect], dictionary: str, features: Sequence[int], vocabulary: Vocabulary
) -> Iterator[Effect]:
    """Draw for each feature as many tokens as it lowers, of those that the others lower, else of the vocabulary."""
    lowered = [token for effect in effects for token in effect.lowered]
    for effect, index in zip(effects, features, strict=True):
        feature = FeatureId(dictionary, index)
        rng = numpy_generator(vocabulary.seed, "unlowered tokens", feature.without_hook_point)
        drawn = dict.fromkeys(lowered[i] for i in rng.permutation(len(lowered)))
        tokens = [*drawn, *vocabulary.others(effect.lowered, feature)]
        free = [token for token in dict.fromkeys(tokens) if token not in effect.lowered]
        yield replace(effect, unlowered=tuple(free[: len(effect.lowered)]))
