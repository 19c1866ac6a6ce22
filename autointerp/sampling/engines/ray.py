"""Runs passes in the processes of Ray, on this machine or on a cluster.

Every worker holds the model and the dictionaries and reads shard after shard; this process merges what they return as
it comes. The merge gives the same whatever the shards and their order, and each shard begins with a batch of the
undivided text, so that the records equal the local engine's byte for byte on hardware of one kind. A shard whose worker
is killed is read again by another; what has been read is kept for a run that is stopped (`engines.kept`). Imports torch
and ray inside functions only.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from autointerp.cluster import Cluster, one_line
from sae.common.errors import UserError

if TYPE_CHECKING:
    from autointerp.config import Config
    from autointerp.sampling.engines.kept import KeptPass, KeptPasses, SoFar
    from autointerp.sampling.follow import Followed, Pass, Reader
    from autointerp.sampling.shards import SampledText, Shard
    from sae.common.progress import Progress, Report
    from sae.dictionary import Dictionary

log = logging.getLogger(__name__)
SHARDS_PER_WORKER = 4
"""More shards make workers finish together and lose less when one is killed; fewer make fewer bytes to merge."""
TRIES = 3
"""Workers that may die on one shard, or each worker's start, before the run is stopped."""


class RayEngine:
    """Joins a Ray cluster, or starts one of this machine, for as long as it is open."""

    def __init__(self, address: str | None, processing: Mapping[str, Any], kept: KeptPasses) -> None:
        """Look for Ray.

        Args:
            address: as `runtime.ray_address`.
            processing: the weight processing under which workers boot the model.
            kept: where passes are kept, so that one that was stopped continues.

        Raises UserError if Ray is not installed.
        """
        self._cluster, self._processing, self._kept = Cluster(address), processing, kept
        self._workers: _Workers | None = None

    def __enter__(self) -> RayEngine:
        """Join the cluster. Raises UserError if that fails."""
        self._cluster.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._workers = None
        self._cluster.__exit__(kind, error, at)

    def follow(self, text: SampledText, one: Pass, config: Config, report: Report) -> dict[int, Followed]:
        """Return what the text says of the dictionaries that a pass follows, by their index.

        Raises UserError if no machine of the cluster is large enough, a worker cannot boot the model, or workers die
        again and again.
        """
        kept = self._kept.of(text, one, config)
        so_far = kept.load()
        with report(f"sampling {len(one.features)} dictionaries (tokens)") as progress:
            so_far.tell(progress, text.n_blocks)
            workers = self._workers = self._workers or _Workers.of(self._cluster, text, config, self._processing)
            cuts = _cuts(so_far.missing(text.n_blocks), config.runtime.batch_blocks, SHARDS_PER_WORKER * workers.n)
            return _Work(self._cluster, workers, text, workers.ray.put(one), progress, kept, so_far).done(cuts)


def _cuts(parts: Sequence[tuple[int, int]], at_once: int, n_shards: int) -> list[tuple[int, int]]:
    """Divide parts of a text into about so many shards."""
    from autointerp.sampling.shards import boundaries

    n_blocks = sum(end - start for start, end in parts)
    each = ((start, boundaries(end - start, at_once, -(-n_shards * (end - start) // n_blocks))) for start, end in parts)
    return [(start + first, start + last) for start, cuts in each for first, last in cuts]


@dataclass
class _Workers:
    """Starts workers and keeps those that wait for work."""

    ray: Any
    n: int
    """How many the cluster has room for."""
    options: Mapping[str, float]
    """The resources of each."""
    setup: Any
    """The reference to a `_Setup`."""
    idle: list[Any] = field(default_factory=list)
    """Those that have booted the model and have nothing to do."""

    @classmethod
    def of(cls, cluster: Cluster, text: SampledText, config: Config, processing: Mapping[str, Any]) -> _Workers:
        """Size the workers: one GPU each where the device is cuda, else as many cores as this process computes with.

        Raises UserError if the cluster has no GPU.
        """
        import torch

        from sae.models.subject import one_name

        subject, nodes, ray = text.prepared.subject, cluster.nodes(), cluster.ray
        on_gpu, threads = subject.device.startswith("cuda"), torch.get_num_threads()
        largest = int(max(node.get("CPU", 0) for node in nodes))
        options = {"num_cpus": 1, "num_gpus": 1} if on_gpu else {"num_cpus": min(threads, largest)}
        kind, each = ("GPU", 1) if on_gpu else ("CPU", max(1, options["num_cpus"]))
        counts = [int(node.get(kind, 0) // each) for node in nodes]
        if not sum(counts):
            remedy = "start its machines with `ray start`, or use --engine local"
            raise UserError(f"the Ray cluster has no {kind}; {remedy}")
        dictionaries = [measured.dictionary.to("cpu") for measured in text.prepared.dictionaries]
        device = "cuda" if on_gpu else subject.device  # Ray shows each worker its own GPU only
        hook_points = tuple(name for dictionary in dictionaries for name in dictionary.reads)
        model = (one_name(subject.name), device, subject.prepend_bos, dict(processing), hook_points)
        return cls(ray, sum(counts), options, ray.put(_Setup(model, threads, dictionaries, config)))

    def start(self) -> Any:
        """Start another worker, as soon as there is room for it."""
        return self.ray.remote(**self.options)(_Worker).remote(self.setup)


@dataclass(frozen=True)
class _Setup:
    """Holds what a worker needs before it reads its first shard."""

    model: tuple[str, str, bool, dict[str, Any], tuple[str, ...]]
    """The arguments of `sae.models.subject.boot`."""
    threads: int
    """Cores that this process computes with: another number could give other last digits."""
    dictionaries: Sequence[Dictionary]
    config: Config


class _Worker:
    """Reads shards in a process of its own."""

    def __init__(self, setup: _Setup) -> None:
        self._setup = setup
        self._reader: Reader | None = None

    def open(self) -> None:
        """Boot the model. Raises UserError, with the machine's name, if that fails here."""
        import socket

        import torch

        from autointerp.sampling.follow import Reader
        from sae.models.subject import boot

        setup = self._setup
        torch.set_num_threads(setup.threads)
        try:
            subject = boot(*setup.model)
        except UserError as error:
            remedy = "every machine needs the model: from the hub, or on a shared disk (AUTOINTERP_CACHE)"
            raise UserError(f"Ray worker on {socket.gethostname()}: {error} ({remedy})") from error
        dictionaries = [dictionary.to(subject.device) for dictionary in setup.dictionaries]
        self._reader = Reader(subject, dictionaries, setup.config)

    def read(self, shard: Shard, one: Pass) -> dict[int, Followed]:
        """Return what a shard says of the dictionaries that a pass follows."""
        if self._reader is None:
            raise RuntimeError("a shard came before the model was booted")
        return self._reader.read(shard, one, lambda n_read, now: None)


@dataclass
class _Work:
    """Gives shards to workers and merges what they return."""

    cluster: Cluster
    workers: _Workers
    text: SampledText
    one: Any
    """The reference to the pass."""
    progress: Progress
    kept: KeptPass
    so_far: SoFar
    running: dict[Any, tuple[Any, tuple[int, int] | None]] = field(default_factory=dict)
    """What is awaited: its worker, and the blocks that it reads; None while it boots the model."""
    deaths: Counter[tuple[int, int] | None] = field(default_factory=Counter)

    def done(self, cuts: Sequence[tuple[int, int]]) -> dict[int, Followed]:
        """Read the text between all cuts, and return what it and what was read before say."""
        queue = deque(cuts)
        for _ in range(min(len(cuts), self.workers.n) - len(self.workers.idle)):
            self._start()
        while self.so_far.n_blocks < self.text.n_blocks:
            self._give(queue)
            (ready,), _ = self.workers.ray.wait(list(self.running), num_returns=1)
            worker, cut = self.running.pop(ready)
            try:
                followed = self.cluster.result(ready)
            except self.workers.ray.exceptions.RayTaskError:
                raise
            except self.workers.ray.exceptions.RayError as error:
                self._replaced(cut, queue, error)
                continue
            self.workers.idle.append(worker)
            if cut is not None:
                self.so_far = self.so_far.with_part(cut, followed)
                self.kept.keep(lambda: self.so_far)
            self._show()
        return dict(self.so_far.followed or {})

    def _start(self) -> None:
        worker = self.workers.start()
        self.running[worker.open.remote()] = (worker, None)

    def _give(self, queue: deque[tuple[int, int]]) -> None:
        while queue and self.workers.idle:
            worker, cut = self.workers.idle.pop(), queue.popleft()
            self.running[worker.read.remote(self.text.shard(*cut), self.one)] = (worker, cut)

    def _replaced(self, cut: tuple[int, int] | None, queue: deque[tuple[int, int]], error: Exception) -> None:
        """Start a worker instead of one that died, and queue its blocks again. Raises UserError after too many."""
        self.deaths[cut] += 1
        what = f"blocks {cut[0]} to {cut[1] - 1}" if cut else "the model"
        self.progress.say(f"a Ray worker died on {what} and is replaced: {one_line(error)}")
        if self.deaths[cut] >= TRIES * (1 if cut else self.workers.n):
            raise UserError(f"Ray workers die again and again on {what}: {one_line(error)}; `ray logs` says more")
        if cut is not None:
            queue.appendleft(cut)
        self._start()

    def _show(self) -> None:
        blocks = self.text.prepared.text.ids_NC
        n_workers = len(self.workers.idle) + sum(cut is not None for _, cut in self.running.values())
        n_tokens = self.so_far.n_blocks * blocks.shape[1]
        self.progress.update(n_tokens, blocks.size, f"{n_workers} of {self.workers.n} Ray workers")
