"""Pass two: only the blocks that hold selected fragments are run again, and their activations become records.

Imports torch. Shape suffixes: P picks, L tokens of a fragment, N blocks of a batch, S features.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autointerp.config import Config
from autointerp.records import ActivationRecord, DictionarySummary, FeatureId, FeatureRecord
from autointerp.sampling import Sample
from autointerp.sampling.fragments import Fragments
from autointerp.sampling.output_tokens import Vocabulary
from autointerp.sampling.prepare import Prepared
from autointerp.sampling.select import SelectedDictionary, Selection, joined
from autointerp.sampling.tally import Picked
from sae.common.progress import Report
from sae.dictionary import Dictionary


@dataclass(frozen=True)
class _Picks:
    """Holds a dictionary's picks in the order of its features, explain before score; `slot_P` is the feature's row."""

    features_S: Tensor
    fragment_P: NDArray[np.int64]
    slot_P: NDArray[np.int64]


def replay(prepared: Prepared, selection: Selection, config: Config, report: Report) -> Sample:
    """Read the activations of every selected fragment and build the feature records."""
    picks = [_picks(selected) for selected in selection.dictionaries]
    values = _activations(prepared, selection, picks, config, report)
    vocabulary = Vocabulary(prepared.subject.token_strings(), config.seed)
    features: list[FeatureRecord] = []
    spoiled = 0
    for selected, values_PL in zip(selection.dictionaries, values, strict=True):
        rows = iter(values_PL)
        for record in _feature_records(selected, rows, prepared, selection.fragments, vocabulary):
            kept = _verified(record)
            spoiled += len(record.explain + record.score) - len(kept.explain + kept.score)
            features.append(kept)
    facts = prepared.facts | {"records_not_verified_inactive": spoiled}
    return Sample(tuple(features), tuple(_summary(c, prepared) for c in selection.dictionaries), facts)


def _picks(selected: SelectedDictionary) -> _Picks:
    pairs = [
        (picked.fragment, slot)
        for slot, feature in enumerate(selected.features)
        for picked in feature.explain + feature.score
    ]
    array = np.array(pairs, np.int64).reshape(-1, 2)
    features_S = torch.tensor([feature.index for feature in selected.features], dtype=torch.long)
    return _Picks(features_S, array[:, 0], array[:, 1])


@torch.no_grad()
def _activations(
    prepared: Prepared, selection: Selection, picks: list[_Picks], config: Config, report: Report
) -> list[NDArray[np.float32]]:
    """Return activations [P, L] per dictionary. Each needed block runs through the model once, for all dictionaries."""
    device, fragments = prepared.subject.device, selection.fragments
    values = [np.zeros((len(pick.fragment_P), fragments.length), np.float32) for pick in picks]
    encoders = [
        selected.measured.dictionary.encoder(pick.features_S.to(device))
        for selected, pick in zip(selection.dictionaries, picks, strict=True)
    ]
    needed_N = np.unique(np.concatenate([pick.fragment_P for pick in picks]) // fragments.per_block)
    with report("reading records (blocks)") as progress:
        for start in range(0, len(needed_N), config.runtime.batch_blocks):
            batch_N = needed_N[start : start + config.runtime.batch_blocks]
            ids_NC = torch.from_numpy(prepared.text.ids_NC[batch_N]).long().to(device)
            acts = {
                name: acts_NCD.reshape(-1, fragments.length, acts_NCD.shape[-1])
                for name, acts_NCD in prepared.subject.activations_at(ids_NC, prepared.hook_points).items()
            }
            for selected, pick, encode, values_PL in zip(selection.dictionaries, picks, encoders, values, strict=True):
                acts_MLD = joined(acts, selected.measured.dictionary)
                _read(pick, encode, acts_MLD, batch_N, fragments.per_block, values_PL)
            progress.update(start + len(batch_N), len(needed_N))
    return values


def _read(
    pick: _Picks,
    encode: object,
    acts_MLD: Tensor,
    batch_N: NDArray[np.int64],
    per_block: int,
    values_PL: NDArray[np.float32],
) -> None:
    """Fill the rows of `values_PL` whose fragments lie in this batch of blocks."""
    block_P, offset_P = np.divmod(pick.fragment_P, per_block)
    row_P = np.searchsorted(batch_N, block_P)
    here = np.flatnonzero((row_P < len(batch_N)) & (batch_N[np.minimum(row_P, len(batch_N) - 1)] == block_P))
    if not len(here):
        return
    row, inverse = np.unique(row_P[here] * per_block + offset_P[here], return_inverse=True)
    selected_MLD = acts_MLD[torch.from_numpy(row).to(acts_MLD.device)]
    acts_MLS = encode(selected_MLD.flatten(0, 1)).unflatten(0, selected_MLD.shape[:2])  # type: ignore[operator]
    values_PL[here] = acts_MLS.cpu().numpy()[inverse, :, pick.slot_P[here]]


def _feature_records(
    selected: SelectedDictionary,
    rows: Iterator[NDArray[np.float32]],
    prepared: Prepared,
    fragments: Fragments,
    vocabulary: Vocabulary,
) -> Iterator[FeatureRecord]:
    ids_ML = prepared.text.ids_NC.reshape(-1, fragments.length)

    def record(picked: Picked) -> ActivationRecord:
        return ActivationRecord(
            tokens=tuple(vocabulary.tokens[index] for index in ids_ML[picked.fragment]),
            activations=tuple(next(rows).tolist()),
            document=int(fragments.document_M[picked.fragment]),
            source=picked.source,
        )

    name, indices = selected.measured.dictionary.name, [feature.index for feature in selected.features]
    norms, cosines = _decoder_statistics(selected.measured.dictionary, indices)
    promoted = vocabulary.promoted(selected.measured.dictionary, indices, prepared.subject)
    for feature, norm, cosine, raised in zip(selected.features, norms, cosines, promoted, strict=True):
        feature_id = FeatureId(name, feature.index)
        yield FeatureRecord(
            id=feature_id,
            explain=tuple(map(record, feature.explain)),
            score=tuple(map(record, feature.score)),
            density=feature.density,
            max_activation=feature.max_activation,
            histogram=feature.histogram,
            decoder_norm=norm,
            decoder_max_cosine=cosine,
            promoted=raised,
            unpromoted=vocabulary.others(raised, feature_id),
        )


def _verified(feature: FeatureRecord) -> FeatureRecord:
    """Drop records labelled inactive that are active when read again (rounding at the edge of a threshold)."""

    def clean(records: tuple[ActivationRecord, ...]) -> tuple[ActivationRecord, ...]:
        return tuple(record for record in records if record.source != "inactive" or max(record.activations) == 0)

    return replace(feature, explain=clean(feature.explain), score=clean(feature.score))


def _decoder_statistics(dictionary: Dictionary, features: list[int]) -> tuple[list[float], list[float]]:
    """Return the norm of each feature's decoder row and its largest cosine with another row of the dictionary."""
    norm_F = dictionary.W_dec_FD.norm(dim=1)
    unit_FD = dictionary.W_dec_FD / norm_F.clamp_min(1e-12)[:, None]
    cosine_SF = unit_FD[features] @ unit_FD.T
    cosine_SF[torch.arange(len(features)), features] = -1.0
    return norm_F[features].tolist(), cosine_SF.amax(1).tolist()


def _summary(selected: SelectedDictionary, prepared: Prepared) -> DictionarySummary:
    dictionary, metrics = selected.measured.dictionary, selected.measured.metrics
    return DictionarySummary(
        name=dictionary.name,
        kind=dictionary.kind,
        hook_point=str(dictionary.hook_point),
        d_in=dictionary.d_in,
        n_features=dictionary.n_features,
        n_sampled=len(selected.features),
        n_candidates=selected.n_candidates,
        n_dead=selected.n_dead,
        n_rare=selected.n_rare,
        l0=metrics["l0"],
        fvu=metrics["fvu"],
        dead=metrics["dead"],
        ce_recovered=metrics["ce_recovered"],
        converged=dictionary.metadata.get("converged"),
    )
