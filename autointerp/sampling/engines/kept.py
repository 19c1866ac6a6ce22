"""Keeps what passes have read so far in the cache, so that a sampling that was stopped continues there, on any engine.

A pass has one file, replaced once a minute: the blocks that were read and what they say. What a pass reads in less than
a minute is not kept. Files hold arrays and no pickle. Imports torch.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autointerp.config import Config
from autointerp.sampling.census import CensusPart
from autointerp.sampling.follow import Followed, Pass, merged
from autointerp.sampling.priorities import Largest
from autointerp.sampling.shards import SampledText
from autointerp.sampling.tally import Tallied
from sae.common.files import sha256_of, write_atomic_with
from sae.common.progress import Progress

log = logging.getLogger(__name__)
VERSION = 1
"""Changes whenever a pass finds something else in the same text, or the files have another form."""
SECONDS = 60.0
"""Least time between two writings of a file."""
MOST_WRITING = 0.05
"""Largest share of the time that is spent on writing."""
Arrays = Mapping[str, NDArray[Any]]
STATISTICS = ("features_S", "length", "n_tokens", "active_tokens_S", "active_fragments_S2", "max_S", "histogram_SH")


@dataclass(frozen=True)
class SoFar:
    """Holds which blocks of a text were read, and what they say."""

    cuts: tuple[tuple[int, int], ...] = ()
    """First block and the one after the last."""
    followed: Mapping[int, Followed] | None = None

    def with_part(self, cut: tuple[int, int], followed: Mapping[int, Followed]) -> SoFar:
        """Return the same with more blocks."""
        return SoFar((*self.cuts, cut), followed if self.followed is None else merged(self.followed, followed))

    @property
    def n_blocks(self) -> int:
        """Return how many blocks were read."""
        return sum(end - start for start, end in self.cuts)

    def tell(self, progress: Progress, n_blocks: int) -> None:
        """Tell the user that an earlier process has read some of the text's blocks, if it has."""
        if self.cuts:
            progress.say(f"sampling continues: {self.n_blocks:,} of {n_blocks:,} blocks were read before")

    def missing(self, n_blocks: int) -> list[tuple[int, int]]:
        """Return what of a text of so many blocks was not read, in its order; each part begins with a batch."""
        gaps, at = [], 0
        for start, end in [*sorted(self.cuts), (n_blocks, n_blocks)]:
            if at < start:
                gaps.append((at, start))
            at = end
        return gaps


@dataclass
class KeptPass:
    """Keeps one pass in a file."""

    path: Path
    _last: float
    """When the file was written last, or the pass began."""
    _wait: float = SECONDS

    def load(self) -> SoFar:
        """Return what an earlier process has read; nothing if there is no such file."""
        if not self.path.exists():
            return SoFar()
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return _so_far(dict(arrays))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            log.warning("cannot read %s (%s), so the text is read from its beginning", self.path, error)
            return SoFar()

    def keep(self, so_far: Callable[[], SoFar]) -> None:
        """Write what was read so far, if the last time is long enough ago.

        Raises UserError if the cache cannot be written to.
        """
        begin = time.monotonic()
        if begin - self._last < self._wait:
            return
        arrays = _arrays(so_far())
        write_atomic_with(self.path, partial(_write, arrays))
        self._last = time.monotonic()
        self._wait = max(SECONDS, (self._last - begin) / MOST_WRITING)


@dataclass(frozen=True)
class KeptPasses:
    """Keeps the passes of one sampling."""

    folder: Path
    """Of this sampling alone, by all that its records depend on."""

    def of(self, text: SampledText, one: Pass, config: Config) -> KeptPass:
        """Return where a pass is kept: the same on every engine, while model, text and batches give the same digits."""
        prepared = text.prepared
        about = [VERSION, torch.__version__, prepared.subject.device, config.runtime.batch_blocks, sorted(one.counted)]
        about += [[measured.key for measured in prepared.dictionaries], sorted(one.features)]
        arrays = [np.ascontiguousarray(prepared.text.ids_NC), *(one.features[i] for i in sorted(one.features))]
        key = sha256_of([json.dumps(about).encode(), *(np.ascontiguousarray(array).tobytes() for array in arrays)])
        return KeptPass(self.folder / f"{key[:16]}.npz", time.monotonic(), SECONDS)

    def clear(self) -> None:
        """Remove the files: the records are drawn."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _write(arrays: Arrays, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stubs mix up the arrays with its own flags


def _arrays(so_far: SoFar) -> Arrays:
    arrays: dict[str, NDArray[Any]] = {"cuts": np.array(so_far.cuts, np.int64)}
    for index, followed in (so_far.followed or {}).items():
        tally, parts = followed.tally, followed.census
        arrays |= {f"{index} {name}": np.asarray(getattr(tally, name)) for name in STATISTICS}
        for (side, source), top in tally.tops.items():
            arrays |= {f"{index} top {side} {source} {name}": values for name, values in vars(top).items()}
        if followed.active_fragments_F2 is not None:
            arrays[f"{index} counts"] = followed.active_fragments_F2
        if parts:
            arrays[f"{index} census"] = np.array([(part.first, part.n_tokens) for part in parts])
            arrays[f"{index} bits"] = np.concatenate([part.bits.ravel() for part in parts])
            arrays[f"{index} values"] = np.concatenate([part.values_A for part in parts])
            arrays[f"{index} ends"] = np.stack([part.end_S for part in parts])
    return arrays


def _so_far(arrays: Arrays) -> SoFar:
    indices = sorted({int(name.split()[0]) for name in arrays if name != "cuts"})
    cuts = tuple((start, end) for start, end in arrays["cuts"].tolist())
    return SoFar(cuts, {index: _followed(arrays, index) for index in indices})


def _followed(arrays: Arrays, index: int) -> Followed:
    tops: dict[Any, dict[str, NDArray[Any]]] = {}
    for name, values in arrays.items():
        if name.startswith(f"{index} top "):
            _, _, side, source, column = name.split()
            tops.setdefault((int(side), source), {})[column] = values
    statistics: dict[str, Any] = {name: arrays[f"{index} {name}"] for name in STATISTICS}
    statistics |= {name: int(statistics[name]) for name in ("length", "n_tokens")}
    tally = Tallied(**statistics, tops={key: Largest(**columns) for key, columns in tops.items()})
    return Followed(tally, tuple(_census(arrays, index)), arrays.get(f"{index} counts"))


def _census(arrays: Arrays, index: int) -> list[CensusPart]:
    """Return the parts of the population, which are written one behind the other."""
    parts, bit, value = [], 0, 0
    for number, (first, n_tokens) in enumerate(arrays.get(f"{index} census", np.zeros((0, 2))).tolist()):
        end_S = arrays[f"{index} ends"][number]
        n_bytes, n_values = len(end_S) * -(-n_tokens // 8), int(end_S[-1])
        bits = arrays[f"{index} bits"][bit : bit + n_bytes].reshape(len(end_S), -1)
        values_A = arrays[f"{index} values"][value : value + n_values]
        parts.append(CensusPart(first, n_tokens, bits, values_A, end_S))
        bit, value = bit + n_bytes, value + n_values
    return parts
