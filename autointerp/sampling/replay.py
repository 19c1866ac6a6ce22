"""Pass two: only the blocks that hold selected fragments are run again, and their activations become records.

Imports torch. Shape suffixes: P picks, L tokens of a fragment, N blocks of a batch, S features.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autointerp.config import Config
from autointerp.population import Population, PopulationText
from autointerp.records import ACTIVE_SOURCES, ActivationRecord, DictionarySummary, FeatureId, FeatureRecord
from autointerp.sampling import Embed, Sample
from autointerp.sampling.census import Census, population_fragments, population_text
from autointerp.sampling.fragments import Fragments
from autointerp.sampling.hard import EmbeddedText, with_hard
from autointerp.sampling.output_tokens import Vocabulary
from autointerp.sampling.prepare import Prepared
from autointerp.sampling.select import SelectedDictionary, Selection, joined
from autointerp.sampling.tally import Picked
from autointerp.sampling.weighted import with_weighted
from sae.common.progress import Report
from sae.dictionary import Dictionary


def replay(
    prepared: Prepared, selection: Selection, config: Config, report: Report, embed: Embed | None = None
) -> Sample:
    """Read the activations of every selected fragment and of the population, and build the feature records."""
    fragments = selection.fragments
    population_M = population_fragments(fragments, config.sampling.population)
    text = population_text(prepared, fragments, population_M) if len(population_M) else None
    embedded = EmbeddedText.of(text, embed) if config.sampling.score.embeds and text and embed else None
    device = prepared.subject.device
    centred = config.sampling.centred
    readers = [_Reader(selected, fragments, centred, device, text) for selected in selection.dictionaries]
    _read_all(prepared, fragments, readers, population_M, config.runtime.batch_blocks, report)
    vocabulary = Vocabulary(prepared.subject.token_strings(), config.seed)
    features: list[FeatureRecord] = []
    spoiled = 0
    for selected, reader in zip(selection.dictionaries, readers, strict=True):
        rows = zip(reader.start_P.tolist(), reader.values_PL, strict=True)
        drawn = _feature_records(selected, rows, prepared, fragments, vocabulary)
        kept: list[FeatureRecord] = []
        for record, population in zip(drawn, reader.populations(), strict=True):
            kept.append(replace(_verified(record), population=population))
            spoiled += len(record.explain + record.score) - len(kept[-1].explain + kept[-1].score)
        kept = with_hard(kept, selected.measured.dictionary.W_dec_FD, config.sampling.score, embedded)
        features += [with_weighted(feature, config) for feature in kept]
    facts = {"records_not_verified_inactive": spoiled, "population_tokens": len(population_M) * fragments.length}
    return Sample(tuple(features), tuple(_summary(c, prepared) for c in selection.dictionaries), prepared.facts | facts)


class _Reader:
    """Reads the activations of one dictionary's picks, and those of its features on the whole population.

    The picks are in the order of the features, explain before score.
    """

    def __init__(
        self,
        selected: SelectedDictionary,
        fragments: Fragments,
        centred: bool,
        device: str,
        text: PopulationText | None,
    ) -> None:
        triples = [
            (picked.fragment, slot, centred and picked.source in ACTIVE_SOURCES)
            for slot, feature in enumerate(selected.features)
            for picked in feature.explain + feature.score
        ]
        array = np.array(triples, np.int64).reshape(-1, 3)
        features_S = torch.tensor([feature.index for feature in selected.features], dtype=torch.long)
        self._dictionary, self._n_features = selected.measured.dictionary, len(features_S)
        self._encode = self._dictionary.encoder(features_S.to(device))
        self.fragment_P, self._slot_P = array[:, 0], array[:, 1]
        self._left_P, self._right_P = (_room(fragments, self.fragment_P, side) * array[:, 2] for side in (-1, 1))
        self.values_PL = np.zeros((len(array), fragments.length), np.float32)
        self.start_P = self.fragment_P * fragments.length
        """Where each record begins, counted in the tokens of all blocks."""
        self._census = Census(text) if text else None

    def read(self, acts: Mapping[str, Tensor], fragment_M: NDArray[np.int64], population_M: NDArray[np.int64]) -> None:
        """Take what is needed from a batch.

        Args:
            acts: by hook point, [M, L, D].
            fragment_M: the numbers of the batch's fragments, ascending.
            population_M: those among them that belong to the population.
        """
        pick_P = np.flatnonzero(np.isin(self.fragment_P, fragment_M))
        own_P, left_P, right_P = self.fragment_P[pick_P], self._left_P[pick_P], self._right_P[pick_P]
        needed_M = np.unique(np.concatenate([population_M, own_P, own_P[left_P > 0] - 1, own_P[right_P > 0] + 1]))
        if not len(needed_M):
            return
        acts_MLD = joined(acts, self._dictionary)[torch.from_numpy(np.searchsorted(fragment_M, needed_M))]
        acts_MLS = self._encode(acts_MLD.flatten(0, 1)).unflatten(0, acts_MLD.shape[:2])
        slot_P, length = torch.from_numpy(self._slot_P[pick_P]), self.values_PL.shape[1]
        row_P = torch.from_numpy(np.searchsorted(needed_M, own_P))
        peak_P = acts_MLS[row_P, :, slot_P].argmax(1).cpu().numpy()
        self.start_P[pick_P] = own_P * length + np.clip(peak_P - length // 2, -left_P, right_P)
        position_PL = self.start_P[pick_P, None] + np.arange(length)
        row_PL = torch.from_numpy(np.searchsorted(needed_M, position_PL // length))
        values_PL = acts_MLS[row_PL, torch.from_numpy(position_PL % length), slot_P[:, None]]
        self.values_PL[pick_P] = values_PL.cpu().numpy()
        if self._census and len(population_M):
            self._census.add(acts_MLS[torch.from_numpy(np.searchsorted(needed_M, population_M))])

    def populations(self) -> Sequence[Population | None]:
        """Return each feature's activations on the population; None if there is no population."""
        return self._census.populations(self._n_features) if self._census else [None] * self._n_features


def _room(fragments: Fragments, fragment_P: NDArray[np.int64], side: Literal[-1, 1]) -> NDArray[np.int64]:
    """Return by how many tokens a record may move to a side: not out of its block, nor into an unusable fragment."""
    neighbour_P = fragment_P + side
    usable_M = np.append(fragments.usable_M.numpy(), False)  # -1 and one past the end are no fragments
    is_same_block_P = neighbour_P // fragments.per_block == fragment_P // fragments.per_block
    return np.where(is_same_block_P & usable_M[neighbour_P], fragments.length, 0)


@torch.no_grad()
def _read_all(
    prepared: Prepared,
    fragments: Fragments,
    readers: Sequence[_Reader],
    population_M: NDArray[np.int64],
    batch: int,
    report: Report,
) -> None:
    """Run each block that is needed through the model once, for all dictionaries, `batch` blocks at a time."""
    device, per_block = prepared.subject.device, fragments.per_block
    needed_N = np.unique(np.concatenate([population_M, *(reader.fragment_P for reader in readers)]) // per_block)
    with report("reading records (blocks)") as progress:
        for start in range(0, len(needed_N), batch):
            batch_N = needed_N[start : start + batch]
            fragment_M = (batch_N[:, None] * per_block + np.arange(per_block)).ravel()
            ids_NC = torch.from_numpy(prepared.text.ids_NC[batch_N]).long().to(device)
            acts = {
                name: acts_NCD.reshape(-1, fragments.length, acts_NCD.shape[-1])
                for name, acts_NCD in prepared.subject.activations_at(ids_NC, prepared.hook_points).items()
            }
            for reader in readers:
                reader.read(acts, fragment_M, np.intersect1d(fragment_M, population_M))
            progress.update(start + len(batch_N), len(needed_N))


def _feature_records(
    selected: SelectedDictionary,
    rows: Iterator[tuple[int, NDArray[np.float32]]],
    prepared: Prepared,
    fragments: Fragments,
    vocabulary: Vocabulary,
) -> Iterator[FeatureRecord]:
    ids_T = prepared.text.ids_NC.reshape(-1)

    def record(picked: Picked) -> ActivationRecord:
        start, values_L = next(rows)
        return ActivationRecord(
            tokens=tuple(vocabulary.tokens[index] for index in ids_T[start : start + len(values_L)]),
            activations=tuple(values_L.tolist()),
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
