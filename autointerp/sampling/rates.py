"""Measures how fast this machine does the parts of sampling, in a few seconds, by the functions that sampling calls.

Imports torch. Shape suffixes: M fragments, L tokens of a fragment, F all features of a dictionary, S followed ones.
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from autointerp import record_files
from autointerp.config import Config
from autointerp.record_arrays import RecordArrays
from autointerp.records import FeatureId, FeatureRecord
from autointerp.sampling.follow import count_active
from autointerp.sampling.fragments import SIDES, Fragments
from autointerp.sampling.priorities import fragment_hash
from autointerp.sampling.projection import Rates
from autointerp.sampling.tally import Tallied, Tally, pick
from sae.common.seeds import torch_generator
from sae.models.device import choose_device

SECONDS = 0.5
"""Time for each measurement."""
FRAGMENTS, COUNTED, FOLLOWED, ROWS = 64, 4096, 256, 2048
DENSITY = 0.01
"""Share of active tokens in what is measured."""


@torch.no_grad()
def measure(config: Config, device: str) -> Rates:
    """Measure all rates with the config's records, on activations of a density of one percent.

    Args:
        device: as `runtime.device`.

    Raises UserError if there is no such device.
    """
    device, _ = choose_device(device)
    generator = torch_generator(0, "rates")
    length = config.sampling.fragment
    acts_MLF = torch.rand((FRAGMENTS, length, COUNTED), generator=generator)
    acts_MLF = acts_MLF.mul_(torch.rand((FRAGMENTS, length, COUNTED), generator=generator) < DENSITY).to(device)
    fragments, one_MLS = _fragments(length), acts_MLF[:, :, :FOLLOWED].contiguous()
    x_BD, w_DF = (torch.rand(shape, generator=generator).to(device) for shape in ((ROWS, 1024), (1024, ROWS)))
    features_S, number_M = np.arange(FOLLOWED), torch.arange(FRAGMENTS)
    tally = Tally(features_S, config, device)
    return Rates(
        product=2 * ROWS * 1024 * ROWS / _seconds(lambda: x_BD @ w_DF, device),
        count=acts_MLF.numel() / _seconds(lambda: count_active(acts_MLF.relu(), fragments.side_M), device),
        follow=one_MLS.numel() / _seconds(lambda: tally.add(one_MLS, number_M, fragments), device),
        merge=_merge_rate(tally.tallied()),
        record=_record_rate(tally.tallied(), config),
    )


def _merge_rate(tallied: Tallied) -> float:
    arrays = [values for values in vars(tallied).values() if isinstance(values, np.ndarray)]
    n_bytes: int = sum(values.nbytes for values in arrays)
    n_bytes += sum(values.nbytes for top in tallied.tops.values() for values in vars(top).values())
    return n_bytes / _seconds(lambda: tallied.merged(tallied), "cpu")


def _record_rate(tallied: Tallied, config: Config) -> float:
    """Return how many records are picked and written in a second."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "records.parquet"
        n_records = sum(len(one.explain) + len(one.score) for one in _features(tallied, config))
        return max(1, n_records) / _seconds(lambda: record_files.write(path, _features(tallied, config)), "cpu")


def _features(tallied: Tallied, config: Config) -> list[FeatureRecord]:
    """Return the records of all followed features, of a text whose tokens are all the same."""

    def records(row: int, side: int) -> RecordArrays:
        picks = pick(tallied, row, side, getattr(config.sampling, SIDES[side]))
        ids_PL = np.zeros(picks.values_PL.shape, np.int32)
        return RecordArrays((" the",), ids_PL, picks.values_PL, ids_PL[:, 0], picks.sources)

    return [
        FeatureRecord(FeatureId("dictionary", row), records(row, 0), records(row, 1), DENSITY, 1.0, (), 1.0, 0.5)
        for row in range(FOLLOWED)
    ]


def _fragments(length: int) -> Fragments:
    number_M = torch.arange(FRAGMENTS)
    hash_M = fragment_hash(0, number_M, number_M)
    ones_M = torch.ones(FRAGMENTS, dtype=torch.bool)
    return Fragments(length, 1, ones_M, number_M % 2, number_M, hash_M, hash_M.argsort().argsort())


def _seconds(work: Callable[[], object], device: str) -> float:
    """Return how long one call takes, after a first one that does not count."""
    work()
    _wait(device)
    start, n = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        work()
        n += 1
        _wait(device)
    return (time.perf_counter() - start) / n


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
