"""Foretells what sampling at scale takes: time, memory and bytes merged, by arithmetic from sizes and rates.

What is counted is what `select`, `follow` and the engines do: at most two passes, of which the first follows twice the
sampled features of every dictionary (of wide dictionaries it also counts all features), and the second what is missing.
Imports torch, with the rooms whose sizes it reads.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from autointerp.config import Config
from autointerp.records import HISTOGRAM_BINS
from autointerp.sampling.engines.ray import SHARDS_PER_WORKER
from autointerp.sampling.follow import ELEMENTS
from autointerp.sampling.fragments import SIDES
from autointerp.sampling.priorities import WAITING_ENTRIES
from autointerp.sampling.select import FOLLOWED, OVERSAMPLE
from autointerp.sampling.tally import kept_per_source

STATISTICS = 8 + 8 + 2 * 8 + 4 + 8 * HISTOGRAM_BINS
"""Bytes of a followed feature's index, counts, maximum and histogram."""
ENTRY = 8 + 8 + 4 + 8
"""Bytes of a kept fragment's key, number, maximum and start; its activations come on top."""
FRAGMENT = 1 + 4 * 8
"""Bytes that this process holds of every fragment of the text."""


@dataclass(frozen=True)
class Size:
    """Describes what is to be sampled."""

    tokens: int
    """Tokens that records are drawn from."""
    features: int
    """Features of each dictionary."""
    layers: int
    """Dictionaries, one for each layer."""
    gpus: int
    """Workers; one: this process alone, which merges nothing."""
    width: int
    """Width of what each dictionary reads."""
    parameters: int
    """Parameters of the model that every token passes."""
    l0: float
    """Active features of a token."""


@dataclass(frozen=True)
class Rates:
    """Holds what one worker does in a second, and the merging process."""

    product: float
    """Floating-point operations of a matrix product."""
    count: float
    """Activations that are computed from products and counted, of all features of a dictionary."""
    follow: float
    """Activations of followed features that are taken into statistics and kept."""
    merge: float
    """Bytes of shards' results that are merged."""
    record: float
    """Records that are picked and written, by one process."""


@dataclass(frozen=True)
class PassCost:
    """Holds what one pass takes."""

    followed: int
    """Features of each dictionary that are followed."""
    counts_all: bool
    """Whether all features' active fragments are counted as well."""
    shards: int
    compute_seconds: float
    merge_seconds: float
    bytes_merged: int


@dataclass(frozen=True)
class Projection:
    """Holds what sampling takes. Everything is an upper bound but the first pass, which is always needed."""

    passes: tuple[PassCost, ...]
    worker_bytes: int
    """Memory of each worker."""
    merging_bytes: int
    """Memory of the process that merges and builds the records."""
    sampled: int
    """Features of all dictionaries that are sampled."""
    records: int
    """Their records."""
    record_seconds: float
    """Time for drawing and writing them."""

    @property
    def seconds(self) -> float:
        """Return the time of all passes and records."""
        return sum(one.compute_seconds + one.merge_seconds for one in self.passes) + self.record_seconds


def project(config: Config, size: Size, rates: Rates) -> Projection:
    """Compute what sampling takes."""
    sampling = config.sampling
    passes = tuple(_pass_cost(config, size, rates, *one) for one in _passes(config, size))
    sampled = size.layers * min(sampling.features, size.features)
    records = sampled * (sampling.explain.n_records + sampling.score.n_records)
    most = max(one.followed for one in passes)
    held = size.layers * (most * feature_bytes(config) + _counted_bytes(size, passes[0].counts_all))
    model = 4 * (size.parameters + size.layers * (2 * size.width * size.features + size.features + size.width))
    merging = model + 3 * held + size.layers * most * census_bytes(config, size)
    merging += size.tokens // sampling.fragment * FRAGMENT + records * sampling.fragment * 8
    working = model + held + _working_bytes(config, size)
    return Projection(passes, working, merging, sampled, records, records / rates.record)


def feature_bytes(config: Config) -> int:
    """Return the bytes of one followed feature in a shard's result, without the population."""
    return STATISTICS + sum(keep * entry for keep, entry in _kept(config))


def census_bytes(config: Config, size: Size) -> int:
    """Return the bytes of one followed feature on the whole population: bits, active values, and where they end."""
    population = _population(config, size)
    n_parts = min(_parts(config, size), population // config.sampling.fragment)
    return round(population / 8 + 4 * population * size.l0 / size.features + n_parts * 9)


def _population(config: Config, size: Size) -> int:
    return min(config.sampling.population, size.tokens // 2)


def _parts(config: Config, size: Size) -> int:
    """Return in how many parts the dictionaries encode the text."""
    blocks = -(-size.tokens // config.corpus.context)
    at_once = max(1, ELEMENTS["cpu"] // (config.corpus.context * size.features))
    return -(-blocks // min(at_once, config.runtime.batch_blocks))


def _kept(config: Config) -> Iterator[tuple[int, int]]:
    """List, for each source of each side, how many fragments are kept of a feature, and the bytes of each."""
    length = config.sampling.fragment
    for side in SIDES:
        for source, keep in kept_per_source(getattr(config.sampling, side)).items():
            yield keep, ENTRY + (0 if source == "inactive" else 4 * length)


def _passes(config: Config, size: Size) -> list[tuple[int, bool]]:
    """List how many features each pass follows of a dictionary, and whether it counts all."""
    sampled = min(config.sampling.features, size.features)
    if config.sampling.draw == "first":
        return [(sampled, False)]
    first = min(OVERSAMPLE * config.sampling.features, size.features)
    is_wide = size.features - first > FOLLOWED
    second = sampled if is_wide else size.features - first
    return [(first, is_wide), *([(second, False)] if second else [])]


def _pass_cost(config: Config, size: Size, rates: Rates, followed: int, counts_all: bool) -> PassCost:
    flops = 2 * size.parameters + size.layers * 2 * size.width * size.features
    activations = size.layers * (size.features / rates.count + followed / rates.follow)
    compute = size.tokens * (flops / rates.product + activations) / size.gpus
    batches = -(-size.tokens // (config.corpus.context * config.runtime.batch_blocks))
    shards = 1 if size.gpus == 1 else min(SHARDS_PER_WORKER * size.gpus, batches)
    each = followed * feature_bytes(config) + _counted_bytes(size, counts_all)
    merged = 0 if shards == 1 else size.layers * (shards * each + followed * census_bytes(config, size))
    return PassCost(followed, counts_all, shards, compute, merged / rates.merge, merged)


def _counted_bytes(size: Size, counts_all: bool) -> int:
    return 16 * size.features if counts_all else 0


def _working_bytes(config: Config, size: Size) -> int:
    """Return the memory of a batch: what is read, what is encoded, and the entries that wait to be merged."""
    waiting = size.layers * sum(WAITING_ENTRIES * (entry + 8) for _, entry in _kept(config))
    tokens = config.corpus.context * config.runtime.batch_blocks
    return waiting + 4 * tokens * size.width * size.layers + 4 * 4 * max(*ELEMENTS.values(), size.features)
