"""Pass one: the text goes once through the model and through all dictionaries; per feature only keys are kept.

Documents are halved: explain records come from one half, score records from the other, so that they share no document.
Memory does not grow with the text. Imports torch.

Shape suffixes: N blocks of a batch, C tokens of context, M fragments, L tokens of a fragment, S candidate features.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autointerp.config import Config, Records
from autointerp.records import HISTOGRAM_BINS, HISTOGRAM_FLOOR, Source
from autointerp.sampling.dictionaries import Measured
from autointerp.sampling.keys import KEYS, StreamingTop, fragment_hash, uniform
from autointerp.sampling.prepare import Prepared
from sae.corpus import Blocks, choose_documents, tokens_per_document
from sae.errors import UserError
from sae.progress import Report
from sae.subject import unused_tokens

SIDES = ("explain", "score")
TOP_STRIDE = 2
"""Of each side's top 2n fragments every second is taken. Bills et al. 2023 deal the top 20 to four splits in turn and
use two of them (ranks 0, 4, 8, 12, 16 explain, 2, 6, 10, 14, 18 score); with halved documents these are every second
fragment of each half's top 10, from the first on for explaining, from the second on for scoring."""
RESERVOIR = 8
"""Active fragments kept per quantile record that is wanted."""
OVERSAMPLE = 2
"""Candidates per wanted feature that are followed at once."""
SIDE_STREAM, FEATURE_STREAM = 102, 103


@dataclass(frozen=True)
class Fragments:
    """All fragments of the held-out blocks: number m is fragment m % per_block of block m // per_block."""

    length: int
    per_block: int
    usable_M: Tensor
    side_M: Tensor
    document_M: Tensor
    hash_M: Tensor


@dataclass(frozen=True)
class Picked:
    """A chosen fragment and why."""

    fragment: int
    source: Source


@dataclass(frozen=True)
class ChosenFeature:
    """A feature with its statistics over the whole pass and its chosen fragments of each side."""

    index: int
    density: float
    max_activation: float
    histogram: tuple[int, ...]
    explain: tuple[Picked, ...]
    score: tuple[Picked, ...]


@dataclass(frozen=True)
class Chosen:
    """A dictionary's chosen features, and how many candidates were passed over."""

    measured: Measured
    features: tuple[ChosenFeature, ...]
    n_candidates: int
    n_dead: int
    n_rare: int


@dataclass(frozen=True)
class Selection:
    fragments: Fragments
    dictionaries: tuple[Chosen, ...]


def select(prepared: Prepared, config: Config, report: Report) -> Selection:
    """Choose `sampling.features` live features of every dictionary and the fragments of their records.

    Features are taken in a seeded random order of all features; one that is active on too few fragments of either side
    is counted and passed over. Raises UserError if the text gives no dictionary any feature.
    """
    fragments = make_fragments(prepared, config)
    queues = [_order(measured, config.seed) for measured in prepared.dictionaries]
    found: list[list[ChosenFeature]] = [[] for _ in queues]
    passed = [[0, 0, 0] for _ in queues]
    while pending := [i for i, queue in enumerate(queues) if len(queue) and len(found[i]) < config.sampling.features]:
        wanted = OVERSAMPLE * config.sampling.features
        candidates = {i: queues[i][:wanted] for i in pending}
        tallies = stream(prepared, fragments, candidates, config, report)
        for i in pending:
            queues[i] = queues[i][wanted:]
            _take(found[i], passed[i], tallies[i], config)
    if not any(found):
        raise UserError(
            f"the sampled text ({prepared.text.n_tokens:,} tokens) activates no feature often enough; "
            "give more text or ask for fewer records (sampling.explain, sampling.score)"
        )
    chosen = [
        Chosen(measured, tuple(sorted(features, key=lambda feature: feature.index)), *counts)
        for measured, features, counts in zip(prepared.dictionaries, found, passed, strict=True)
    ]
    return Selection(fragments, tuple(chosen))


def make_fragments(prepared: Prepared, config: Config) -> Fragments:
    """Number the fragments, halve the documents, and set aside those that padding or undecodable tokens spoil."""
    blocks, length = prepared.text, config.sampling.fragment
    per_block = blocks.ids_NC.shape[1] // length
    ids_ML = torch.from_numpy(blocks.ids_NC).long().reshape(-1, length)
    start_M = torch.arange(per_block).repeat(len(blocks.ids_NC)) * length
    whole_M = start_M + length <= torch.from_numpy(blocks.length_N).repeat_interleave(per_block)
    unused = unused_tokens(prepared.subject.token_strings())
    document_M = torch.from_numpy(blocks.document_N).repeat_interleave(per_block)
    position_M = torch.from_numpy(_block_rank(blocks)).repeat_interleave(per_block) * blocks.ids_NC.shape[1] + start_M
    rng = np.random.default_rng([config.seed, SIDE_STREAM])
    explains_D = torch.from_numpy(choose_documents(tokens_per_document(blocks), 0.5, rng))
    return Fragments(
        length,
        per_block,
        usable_M=whole_M & ~unused[ids_ML].any(1),
        side_M=torch.where(explains_D[document_M.long()], 0, 1),
        document_M=document_M,
        hash_M=fragment_hash(config.seed, document_M, position_M),
    )


def _block_rank(blocks: Blocks) -> np.ndarray:
    """Each block's number within its document; blocks of a document are consecutive."""
    _, first, counts = np.unique(blocks.document_N, return_index=True, return_counts=True)
    return np.arange(len(blocks.document_N)) - np.repeat(first, counts)


def _order(measured: Measured, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed * 1024 + FEATURE_STREAM)
    return torch.randperm(measured.dictionary.n_features, generator=generator)


class Tally:
    """What one pass keeps of one dictionary's candidate features."""

    def __init__(self, features_S: Tensor, config: Config, device: str) -> None:
        self.features_S = features_S.to(device)
        n = len(features_S)
        self.n_tokens = 0
        self.active_tokens_S = torch.zeros(n, dtype=torch.int64, device=device)
        self.active_fragments_S2 = torch.zeros((n, 2), dtype=torch.int64, device=device)
        self.max_S = torch.zeros(n, device=device)
        self.histogram_SH = torch.zeros((n, HISTOGRAM_BINS), dtype=torch.int64, device=device)
        self.tops = {
            (side, source): StreamingTop(n, keep, device)
            for side, name in enumerate(SIDES)
            for source, keep in kept_per_source(getattr(config.sampling, name)).items()
        }

    def add(self, acts_MLS: Tensor, fragment_M: Tensor, side_M: Tensor, hash_M: Tensor) -> None:
        """Take in the features' activations on a batch of usable fragments, of which there may be none."""
        if not len(fragment_M):
            return
        max_SM = acts_MLS.amax(1).T.contiguous()
        self.n_tokens += acts_MLS.shape[0] * acts_MLS.shape[1]
        self.active_tokens_S += (acts_MLS > 0).sum((0, 1))
        self.max_S = torch.maximum(self.max_S, max_SM.amax(1))
        self._count(max_SM)
        for side in range(2):
            here_M = side_M == side
            max_SN = max_SM[:, here_M]
            self.active_fragments_S2[:, side] += (max_SN > 0).sum(1)
            for salt, (source, key) in enumerate(KEYS.items()):
                if (side, source) in self.tops:
                    uniform_SN = uniform(hash_M[here_M], self.features_S, salt)
                    self.tops[side, source].add(key(max_SN, uniform_SN), max_SN, fragment_M[here_M])

    def _count(self, max_SM: Tensor) -> None:
        bins_SM = (2 * (max_SM / HISTOGRAM_FLOOR).log2()).floor().clamp(0, HISTOGRAM_BINS - 1)
        bins_SM = torch.where(max_SM > 0, bins_SM, 0).long()
        self.histogram_SH.scatter_add_(1, bins_SM, (max_SM > 0).long())


def kept_per_source(records: Records) -> dict[Source, int]:
    """How many fragments to keep for each wanted source, with spares for those an earlier source has taken."""
    wanted: dict[Source, int] = {source: getattr(records, source) for source in KEYS if getattr(records, source)}
    keep: dict[Source, int] = {}
    taken = 0
    for source, n in wanted.items():
        each = {"top": TOP_STRIDE * n, "quantile": RESERVOIR * n}.get(source, n)
        keep[source] = each + taken
        taken += n
    return keep


@torch.no_grad()
def stream(
    prepared: Prepared, fragments: Fragments, candidates: dict[int, Tensor], config: Config, report: Report
) -> dict[int, Tally]:
    """One pass of the model over all blocks, feeding every dictionary in `candidates`; a tally for each."""
    device = prepared.subject.device
    tallies = {i: Tally(features_S, config, device) for i, features_S in candidates.items()}
    encoders = {i: prepared.dictionaries[i].dictionary.encoder(tally.features_S) for i, tally in tallies.items()}
    ids_NC = torch.from_numpy(prepared.text.ids_NC).long()
    with report(f"sampling {len(tallies)} dictionaries (tokens)") as progress:
        for start in range(0, len(ids_NC), config.runtime.batch_blocks):
            part_NC = ids_NC[start : start + config.runtime.batch_blocks].to(device)
            number_M = torch.arange(start * fragments.per_block, (start + len(part_NC)) * fragments.per_block)
            usable_M = number_M[fragments.usable_M[number_M]]
            acts_NCD = prepared.subject.activations(part_NC, prepared.hook_point)
            acts_MLD = acts_NCD.reshape(-1, fragments.length, acts_NCD.shape[-1])[usable_M - int(number_M[0])]
            for i, tally in tallies.items():
                acts_MLS = encoders[i](acts_MLD.flatten(0, 1)).unflatten(0, acts_MLD.shape[:2])
                tally.add(
                    acts_MLS,
                    usable_M.to(device),
                    fragments.side_M[usable_M].to(device),
                    fragments.hash_M[usable_M].to(device),
                )
            progress.update((start + len(part_NC)) * ids_NC.shape[1], ids_NC.numel())
    return tallies


def _take(found: list[ChosenFeature], passed: list[int], tally: Tally, config: Config) -> None:
    """Append features in the queue's order until there are enough; count candidates, dead and rare ones."""
    needs = [_active_needed(getattr(config.sampling, side)) for side in SIDES]
    active_S2 = tally.active_fragments_S2.tolist()
    for row, index in enumerate(tally.features_S.tolist()):
        if len(found) == config.sampling.features:
            return
        passed[0] += 1
        passed[1] += sum(active_S2[row]) == 0
        rare = any(active < needed for active, needed in zip(active_S2[row], needs, strict=True))
        passed[2] += rare and sum(active_S2[row]) > 0
        if not rare:
            found.append(_chosen(tally, row, index, config))


def _active_needed(records: Records) -> int:
    """Active fragments a side must have so that every record can be drawn."""
    return max(1, TOP_STRIDE * records.top + records.quantile + records.importance)


def _chosen(tally: Tally, row: int, index: int, config: Config) -> ChosenFeature:
    picks = [pick(tally, row, side, getattr(config.sampling, name)) for side, name in enumerate(SIDES)]
    return ChosenFeature(
        index=index,
        density=float(tally.active_tokens_S[row]) / tally.n_tokens,
        max_activation=float(tally.max_S[row]),
        histogram=tuple(tally.histogram_SH[row].tolist()),
        explain=picks[0],
        score=picks[1],
    )


def pick(tally: Tally, row: int, side: int, records: Records) -> tuple[Picked, ...]:
    """The records of one side of one feature, source by source, no fragment twice."""
    taken: list[Picked] = []
    for source in KEYS:
        n = getattr(records, source)
        if not n:
            continue
        used = {picked.fragment for picked in taken}
        kept = [item for item in tally.tops[side, source].kept(row) if item[0] not in used]
        taken += [Picked(fragment, source) for fragment in _choose(kept, source, n, side)]
    return tuple(taken)


def _choose(kept: list[tuple[int, float]], source: Source, n: int, side: int) -> list[int]:
    if source == "top":
        return [fragment for fragment, _ in kept[side : TOP_STRIDE * n : TOP_STRIDE]]
    if source == "quantile":
        ascending = sorted(kept, key=lambda item: (item[1], item[0]))
        places = [(2 * i + 1) * len(ascending) // (2 * n) for i in range(n)] if len(ascending) >= n else []
        return [ascending[place][0] for place in places]
    return [fragment for fragment, _ in kept[:n]]
