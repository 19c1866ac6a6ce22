"""Records a step once as a CUDA graph and replays it from then on. Experimental: it has never run on a GPU.

It is done only with `runtime.experimental=true`, on one GPU; otherwise the step is called as it is.

A recording keeps what the step read from Python (numbers, lengths, which tensors) as it was. What changes from step to
step must lie in tensors that are changed in place, and the step may not wait for the device.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor

from sae.training.architectures.base import Workspace

T = TypeVar("T")
WARM_UP = 3
"""Steps before recording, in which libraries choose their kernels and working memory is made."""
_ALIVE: defaultdict[str, "WeakSet[torch.cuda.CUDAGraph]"] = defaultdict(WeakSet)
"""The recordings of each device. They share memory for what is temporary in them, since they run one by one."""


@dataclass(frozen=True)
class Recording(Generic[T]):
    """Holds a graph, the tensor it reads the batch from, and the tensors it leaves its result in."""

    graph: torch.cuda.CUDAGraph
    x_BD: Tensor
    result: T


class Captured(Generic[T]):
    """Runs `step(x)`, whose result is a dataclass of tensors; replayed, they are the same tensors every time.

    A batch of another shape is warmed up for and recorded by itself.
    """

    def __init__(self, step: Callable[[Tensor], T], workspace: Workspace) -> None:
        self._step, self._device = step, workspace.device
        self._possible = workspace.experimental and workspace.device.startswith("cuda") and workspace.ranks.world == 1
        self._warmed: dict[Any, list[T]] = {}
        """Results of the warm-up steps by the batch's shape and type."""
        self._recordings: dict[Any, Recording[T]] = {}

    def __call__(self, x_BD: Tensor, replay: bool) -> T:
        """Run the step; with `replay` false not from the recording (it would do something else this time)."""
        if not self._possible or not replay:
            return self._step(x_BD)
        key = (x_BD.shape, x_BD.dtype)
        if key not in self._recordings:
            warmed = self._warmed.setdefault(key, [])
            if len(warmed) < WARM_UP:
                warmed.append(self._beside(x_BD))
                return warmed[-1]
            self._recordings[key] = self._record(x_BD, self._warmed.pop(key)[-1])
        recording = self._recordings[key]
        recording.x_BD.copy_(x_BD)
        recording.graph.replay()
        return recording.result

    def _beside(self, x_BD: Tensor) -> T:
        """Run the step on the stream that it will be recorded on: what libraries keep per stream is made before,
        then.
        """
        here, side = torch.cuda.current_stream(self._device), side_stream(self._device)
        side.wait_stream(here)
        with torch.cuda.stream(side):
            result = self._step(x_BD)
        here.wait_stream(side)
        return result

    def _record(self, x_BD: Tensor, result: T) -> Recording[T]:
        """Record the step as a graph. Recording runs nothing: it does not change the weights.

        Args:
            result: of a step that was not recorded. Later results are copied to its memory, which, unlike the
                recordings' own, no other recording uses for what is temporary.
        """
        graph, static_BD = torch.cuda.CUDAGraph(), x_BD.clone()
        pool = next((other.pool() for other in _ALIVE[self._device]), None)
        # thread_local: what other threads do meanwhile (pin memory, read files) is not recorded and may continue
        with torch.cuda.graph(graph, pool, side_stream(self._device), capture_error_mode="thread_local"):
            for name, tensor in vars(self._step(static_BD)).items():
                getattr(result, name).copy_(tensor)
        _ALIVE[self._device].add(graph)
        return Recording(graph, static_BD, result)


@cache
def side_stream(device: str) -> torch.cuda.Stream:
    """Return the stream of all warm-ups and recordings on a device."""
    return torch.cuda.Stream(device)
