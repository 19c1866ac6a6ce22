"""Measures how fast this machine does the parts of sampling, in a few seconds, by the functions that sampling calls.

Imports torch. Shape suffixes: M fragments, L tokens of a fragment, F all features of a dictionary, S followed ones.
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from autointerp.config import Config
from autointerp.sampling.follow import count_active
from autointerp.sampling.fragments import Fragments
from autointerp.sampling.priorities import fragment_hash
from autointerp.sampling.projection import Rates
from autointerp.sampling.tally import Tallied, Tally
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
    )


def _merge_rate(tallied: Tallied) -> float:
    arrays = [values for values in vars(tallied).values() if isinstance(values, np.ndarray)]
    n_bytes: int = sum(values.nbytes for values in arrays)
    n_bytes += sum(values.nbytes for top in tallied.tops.values() for values in vars(top).values())
    return n_bytes / _seconds(lambda: tallied.merged(tallied), "cpu")


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
