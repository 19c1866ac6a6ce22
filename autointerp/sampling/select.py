"""Selects features and fragments in pass one: the text runs once through the model and through all dictionaries.

Imports torch. Shape suffixes: N blocks, C tokens of context, D the hook point's width, M fragments of a batch, L tokens
of a fragment, S candidate features.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from autointerp.config import Config
from autointerp.records import ANY, entry_of
from autointerp.sampling.dictionaries import Measured
from autointerp.sampling.fragments import SIDES, Fragments, make_fragments
from autointerp.sampling.prepare import Prepared
from autointerp.sampling.tally import Picked, Tally, active_needed, pick
from sae.common.errors import UserError
from sae.common.progress import Report
from sae.common.seeds import torch_generator
from sae.dictionary import Dictionary

OVERSAMPLE = 2
"""Candidates that are followed at once, per feature that is to be sampled."""


@dataclass(frozen=True)
class SelectedFeature:
    """Holds a feature with its statistics over the whole pass, and the fragments selected for each side."""

    index: int
    density: float
    max_activation: float
    histogram: tuple[int, ...]
    explain: tuple[Picked, ...]
    score: tuple[Picked, ...]


@dataclass(frozen=True)
class SelectedDictionary:
    """Holds a dictionary's selected features, and how many candidates were passed over."""

    measured: Measured
    features: tuple[SelectedFeature, ...]
    n_candidates: int
    n_dead: int
    n_rare: int


@dataclass(frozen=True)
class Selection:
    fragments: Fragments
    dictionaries: tuple[SelectedDictionary, ...]


def select(prepared: Prepared, config: Config, report: Report) -> Selection:
    """Choose `sampling.features` live features of every dictionary and the fragments of their records.

    Features are taken in a seeded random order of all features, or of those that may be drawn; one that is active on
    too few fragments of either side is counted and passed over. Raises UserError if the text gives no dictionary any
    feature, or a feature that may be drawn does not exist.
    """
    fragments = make_fragments(prepared, config)
    queues = [_order(measured, config, len(prepared.dictionaries) == 1) for measured in prepared.dictionaries]
    taken: list[list[SelectedFeature]] = [[] for _ in queues]
    passed = [[0, 0, 0] for _ in queues]
    while pending := [i for i, queue in enumerate(queues) if len(queue) and len(taken[i]) < config.sampling.features]:
        at_once = OVERSAMPLE * config.sampling.features
        candidates = {i: queues[i][:at_once] for i in pending}
        tallies = stream(prepared, fragments, candidates, config, report)
        for i in pending:
            queues[i] = queues[i][at_once:]
            _take(taken[i], passed[i], tallies[i], config)
    if not any(taken):
        raise UserError(
            f"the sampled text ({prepared.text.n_tokens:,} tokens) activates no feature often enough; "
            "give more text or ask for fewer records (sampling.explain, sampling.score)"
        )
    selected = [
        SelectedDictionary(measured, tuple(sorted(features, key=lambda feature: feature.index)), *counts)
        for measured, features, counts in zip(prepared.dictionaries, taken, passed, strict=True)
    ]
    return Selection(fragments, tuple(selected))


def _order(measured: Measured, config: Config, is_only: bool) -> Tensor:
    dictionary, listed = measured.dictionary, dict(config.sampling.feature_ids)
    if dictionary.kind != "sae" and not is_only:
        listed.pop(ANY, None)
    generator = torch_generator(config.seed, "order of features", measured.key, *dictionary.reads)
    order_F = torch.randperm(dictionary.n_features, generator=generator)
    allowed = entry_of(listed, dictionary.name)
    if allowed is None:
        return order_F
    if max(allowed) >= dictionary.n_features:
        raise UserError(f"{dictionary.name} has features 0 to {dictionary.n_features - 1}, and no {max(allowed)}")
    return order_F[torch.isin(order_F, torch.tensor(allowed))]


def joined(acts: Mapping[str, Tensor], dictionary: Dictionary) -> Tensor:
    """Return the activations that a dictionary reads, those of several hook points side by side, [M, L, D]."""
    parts = [acts[hook_point] for hook_point in dictionary.reads]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


@torch.no_grad()
def stream(
    prepared: Prepared, fragments: Fragments, candidates: dict[int, Tensor], config: Config, report: Report
) -> dict[int, Tally]:
    """Run the model once over all blocks, feeding every dictionary in `candidates`; return a tally for each."""
    device = prepared.subject.device
    hook_points = prepared.hook_points
    tallies = {i: Tally(features_S, config, device) for i, features_S in candidates.items()}
    encoders = {i: prepared.dictionaries[i].dictionary.encoder(tally.features_S) for i, tally in tallies.items()}
    ids_NC = torch.from_numpy(prepared.text.ids_NC).long()
    with report(f"sampling {len(tallies)} dictionaries (tokens)") as progress:
        for start in range(0, len(ids_NC), config.runtime.batch_blocks):
            part_NC = ids_NC[start : start + config.runtime.batch_blocks].to(device)
            number_M = torch.arange(start * fragments.per_block, (start + len(part_NC)) * fragments.per_block)
            usable_M = number_M[fragments.usable_M[number_M]]
            acts = {
                name: acts_NCD.reshape(-1, fragments.length, acts_NCD.shape[-1])[usable_M - int(number_M[0])]
                for name, acts_NCD in prepared.subject.activations_at(part_NC, hook_points).items()
            }
            for i, tally in tallies.items():
                acts_MLD = joined(acts, prepared.dictionaries[i].dictionary)
                tally.add(encoders[i](acts_MLD.flatten(0, 1)).unflatten(0, acts_MLD.shape[:2]), usable_M, fragments)
            progress.update((start + len(part_NC)) * ids_NC.shape[1], ids_NC.numel())
    return tallies


def _take(taken: list[SelectedFeature], passed: list[int], tally: Tally, config: Config) -> None:
    """Append features in the queue's order until there are enough; count candidates, dead and rare ones."""
    needs = [active_needed(getattr(config.sampling, side)) for side in SIDES]
    active_S2 = tally.active_fragments_S2.tolist()
    for row, index in enumerate(tally.features_S.tolist()):
        if len(taken) == config.sampling.features:
            return
        passed[0] += 1
        passed[1] += sum(active_S2[row]) == 0
        rare = any(active < needed for active, needed in zip(active_S2[row], needs, strict=True))
        passed[2] += rare and sum(active_S2[row]) > 0
        if not rare:
            taken.append(_selected(tally, row, index, config))


def _selected(tally: Tally, row: int, index: int, config: Config) -> SelectedFeature:
    picks = [pick(tally, row, side, getattr(config.sampling, name)) for side, name in enumerate(SIDES)]
    return SelectedFeature(
        index=index,
        density=float(tally.active_tokens_S[row]) / tally.n_tokens,
        max_activation=float(tally.max_S[row]),
        histogram=tuple(tally.histogram_SH[row].tolist()),
        explain=picks[0],
        score=picks[1],
    )
