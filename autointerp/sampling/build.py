"""Builds the feature records of what was selected. Imports torch.

Shape suffixes: S features, F all features of a dictionary, D the width of a decoder row, P picks of a feature, L tokens
of a record.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from autointerp.config import Config
from autointerp.record_arrays import RecordArrays
from autointerp.records import DictionarySummary, FeatureId, FeatureRecord
from autointerp.sampling import Embed, Sample
from autointerp.sampling.effects import measure_effects
from autointerp.sampling.hard import EmbeddedText, with_hard
from autointerp.sampling.output_tokens import Vocabulary
from autointerp.sampling.prepare import Prepared
from autointerp.sampling.select import SelectedDictionary, Selection
from autointerp.sampling.tally import Picks
from autointerp.sampling.weighted import with_weighted
from sae.common.progress import Report, Silent
from sae.measuring.directions import write_directions
from sae.products import row_norms, slices

ELEMENTS = 2**24
"""Cosines of decoder rows that are held at once."""


def build(
    prepared: Prepared, selection: Selection, config: Config, embed: Embed | None = None, report: Report = Silent
) -> Sample:
    """Build the records of every selected feature, hard and weighted ones too, and measure what ablating it does."""
    vocabulary = Vocabulary(prepared.subject.token_strings(), config.seed)
    text, features = selection.population, list[FeatureRecord]()
    embedded = EmbeddedText.of(text, embed) if config.sampling.score.embeds and text and embed else None
    for selected in selection.dictionaries:
        drawn = list(_feature_records(selected, prepared, selection, vocabulary))
        if config.sampling.effects:
            effects = measure_effects(selected, prepared, vocabulary, config.sampling.effects, report)
            drawn = [replace(feature, effect=effect) for feature, effect in zip(drawn, effects, strict=True)]
        drawn = with_hard(drawn, write_directions(selected.measured.dictionary), config.sampling.score, embedded)
        features += [with_weighted(feature, config) for feature in drawn]
    facts = {"population_tokens": text.ids_ML.size if text else 0}
    return Sample(tuple(features), tuple(map(_summary, selection.dictionaries)), prepared.facts | facts)


def _feature_records(
    selected: SelectedDictionary, prepared: Prepared, selection: Selection, vocabulary: Vocabulary
) -> Iterator[FeatureRecord]:
    ids_T, document_M = prepared.text.ids_NC.reshape(-1), selection.fragments.document_M.numpy()

    def records(picks: Picks) -> RecordArrays:
        ids_PL = ids_T[picks.start_P[:, None] + np.arange(picks.values_PL.shape[1])]
        return RecordArrays(vocabulary.tokens, ids_PL, picks.values_PL, document_M[picks.fragment_P], picks.sources)

    dictionary, indices = selected.measured.dictionary, [feature.index for feature in selected.features]
    written_FE = write_directions(dictionary)
    norms, cosines = _decoder_statistics(written_FE, indices)
    extremes = vocabulary.extremes(dictionary, indices, prepared.subject)
    direction_SE = written_FE[indices].float().cpu().numpy()
    columns = (selected.features, norms, cosines, extremes, direction_SE)
    for feature, norm, cosine, tokens, direction_E in zip(*columns, strict=True):
        feature_id = FeatureId(dictionary.name, feature.index)
        yield FeatureRecord(
            id=feature_id,
            explain=records(feature.explain),
            score=records(feature.score),
            density=feature.density,
            max_activation=feature.max_activation,
            histogram=feature.histogram,
            decoder_norm=norm,
            decoder_max_cosine=cosine,
            **vars(tokens),
            unpromoted=vocabulary.others(tokens.promoted, feature_id),
            direction=direction_E,
            writes="+".join(dictionary.writes),
            population=feature.population,
        )


def _decoder_statistics(W_FE: Tensor, features: list[int]) -> tuple[list[float], list[float]]:
    """Return the norm of each feature's decoder row and its largest cosine with another row of the dictionary."""
    norm_F = row_norms(W_FE)
    cosines: list[float] = []
    at_once = max(1, ELEMENTS // len(W_FE))
    for start in range(0, len(features), at_once):
        index_S = torch.tensor(features[start : start + at_once], device=W_FE.device)
        nearest_S = torch.full((len(index_S),), -1.0, device=W_FE.device)
        for part in slices(*W_FE.shape):  # the unit vectors of all features would be as large as the decoder
            cosine_SF = _unit(W_FE, norm_F, index_S) @ _unit(W_FE, norm_F, part).T
            own_S = (index_S >= part.start) & (index_S < part.stop)
            cosine_SF[own_S.nonzero()[:, 0], index_S[own_S] - part.start] = -1.0
            nearest_S = torch.maximum(nearest_S, cosine_SF.amax(1))
        cosines += nearest_S.tolist()
    return norm_F[features].tolist(), cosines


def _unit(W_FD: Tensor, norm_F: Tensor, at: slice | Tensor) -> Tensor:
    """Return some rows, divided by their norms."""
    return W_FD[at].to(norm_F.dtype) / norm_F[at].clamp_min(1e-12)[:, None]


def _summary(selected: SelectedDictionary) -> DictionarySummary:
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
