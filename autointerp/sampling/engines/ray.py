"""Runs passes in the processes of Ray, on this machine or on a cluster.

Every worker holds the model and the dictionaries and reads shard after shard; this process merges what they return as
it comes. The merge gives the same whatever the shards and their order, and each shard begins with a batch of the
undivided text, so that the records equal the local engine's byte for byte on hardware of one kind. A shard whose worker
is killed is read again by another. Imports torch and ray inside functions only.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError, shortened

if TYPE_CHECKING:
    from autointerp.config import Config
    from autointerp.sampling.follow import Followed, Pass, Reader
    from autointerp.sampling.shards import SampledText, Shard
    from sae.common.progress import Progress, Report
    from sae.dictionary import Dictionary

log = logging.getLogger(__name__)
MISSING = "runtime.engine=ray needs the ray package; run: pip install 'autointerp[ray]'"
SHARDS_PER_WORKER = 4
"""More shards make workers finish together and lose less when one is killed; fewer make fewer bytes to merge."""
TRIES = 3
"""Workers that may die on one shard, or each worker's start, before the run is stopped."""


class RayEngine:
    """Joins a Ray cluster, or starts one of this machine, for as long as it is open."""

    def __init__(self, address: str | None, processing: Mapping[str, Any]) -> None:
        """Look for Ray.

        Args:
            address: as `runtime.ray_address`.
            processing: the weight processing under which workers boot the model.

        Raises UserError if Ray is not installed.
        """
        try:
            import ray
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] != "ray":
                raise
            raise UserError(MISSING) from error
        self._ray, self._address, self._processing = ray, address, processing
        self._is_own = not ray.is_initialized()
        self._workers: _Workers | None = None

    def __enter__(self) -> RayEngine:
        """Join the cluster; one that the calling program has joined already is used. Raises UserError if that fails."""
        if self._is_own:
            try:
                self._ray.init(self._address, include_dashboard=False, log_to_driver=False, logging_level="error")
            except (ConnectionError, ValueError, RuntimeError, OSError) as error:
                where = self._address or "RAY_ADDRESS, or on this machine"
                raise UserError(f"cannot use Ray ({where}): {_one_line(error)}; see runtime.ray_address") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._workers = None
        if self._is_own:
            self._ray.shutdown()

    def follow(self, text: SampledText, one: Pass, config: Config, report: Report) -> dict[int, Followed]:
        """Return what the text says of the dictionaries that a pass follows, by their index.

        Raises UserError if no machine of the cluster is large enough, a worker cannot boot the model, or workers die
        again and again.
        """
        from autointerp.sampling.shards import boundaries

        with report(f"sampling {len(one.features)} dictionaries (tokens)") as progress:
            self._workers = self._workers or _Workers.of(self._ray, text, config, self._processing)
            cuts = boundaries(text.n_blocks, config.runtime.batch_blocks, SHARDS_PER_WORKER * self._workers.n)
            return _Work(self._ray, self._workers, text, self._ray.put(one), progress).done(cuts)


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
    def of(cls, ray: Any, text: SampledText, config: Config, processing: Mapping[str, Any]) -> _Workers:
        """Size the workers: one GPU each where the device is cuda, else as many cores as this process computes with.

        Raises UserError if the cluster has no GPU.
        """
        import torch

        from sae.models.subject import one_name

        subject, nodes = text.prepared.subject, [node["Resources"] for node in ray.nodes() if node["Alive"]]
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
        return self._reader.read(shard, one, lambda done: None)


@dataclass
class _Work:
    """Gives shards to workers and merges what they return."""

    ray: Any
    workers: _Workers
    text: SampledText
    one: Any
    """The reference to the pass."""
    progress: Progress
    running: dict[Any, tuple[Any, tuple[int, int] | None]] = field(default_factory=dict)
    """What is awaited: its worker, and the blocks that it reads; None while it boots the model."""
    deaths: Counter[tuple[int, int] | None] = field(default_factory=Counter)

    def done(self, cuts: Sequence[tuple[int, int]]) -> dict[int, Followed]:
        """Read the text between all cuts, and return what it says."""
        from autointerp.sampling.follow import merged

        queue, total, n_read = deque(cuts), None, 0
        for _ in range(min(len(cuts), self.workers.n) - len(self.workers.idle)):
            self._start()
        while n_read < self.text.n_blocks:
            self._give(queue)
            (ready,), _ = self.ray.wait(list(self.running), num_returns=1)
            worker, cut = self.running.pop(ready)
            try:
                followed = self.ray.get(ready)
            except self.ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise UserError(str(error.cause)) from error
                raise
            except self.ray.exceptions.RayError as error:
                self._buried(cut, queue, error)
                continue
            self.workers.idle.append(worker)
            if cut is not None:
                total = followed if total is None else merged(total, followed)
                n_read += cut[1] - cut[0]
            self._show(n_read)
        return total or {}

    def _start(self) -> None:
        worker = self.workers.start()
        self.running[worker.open.remote()] = (worker, None)

    def _give(self, queue: deque[tuple[int, int]]) -> None:
        while queue and self.workers.idle:
            worker, cut = self.workers.idle.pop(), queue.popleft()
            self.running[worker.read.remote(self.text.shard(*cut), self.one)] = (worker, cut)

    def _buried(self, cut: tuple[int, int] | None, queue: deque[tuple[int, int]], error: Exception) -> None:
        """Have the blocks of a worker that died read again. Raises UserError if that has happened too often."""
        self.deaths[cut] += 1
        what = f"blocks {cut[0]} to {cut[1] - 1}" if cut else "the model"
        self.progress.say(f"a Ray worker died on {what} and is replaced: {_one_line(error)}")
        if self.deaths[cut] >= TRIES * (1 if cut else self.workers.n):
            raise UserError(f"Ray workers die again and again on {what}: {_one_line(error)}; `ray logs` says more")
        if cut is not None:
            queue.appendleft(cut)
        self._start()

    def _show(self, n_read: int) -> None:
        blocks = self.text.prepared.text.ids_NC
        n_workers = len(self.workers.idle) + sum(cut is not None for _, cut in self.running.values())
        self.progress.update(n_read * blocks.shape[1], blocks.size, f"{n_workers} of {self.workers.n} Ray workers")


def _one_line(error: Exception) -> str:
    """Return the last line, which says what was raised where the error quotes a traceback."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return shortened(lines[-1].strip(), 200)
