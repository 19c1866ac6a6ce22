"""Completes the tasks of rules in the processes of Ray, on this machine or on a cluster.

Only tasks without LLM calls: those of a judged run stay in one process, which owns the limits and the budget of every
account. A group whose process is killed is completed by another. Results are handed on in the tasks' order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

from autointerp.cluster import Cluster
from autointerp.llm.types import LLMTask
from autointerp.runs.offline import GROUP, Offline, completed

T = TypeVar("T")
AHEAD = 2
"""Groups that wait for each core: what is in flight does not grow with the number of tasks."""


class OnRay(Offline):
    """Completes tasks that make no LLM calls and have not been started."""

    def __init__(self, address: str | None) -> None:
        """Look for Ray.

        Args:
            address: as `runtime.ray_address`.

        Raises UserError if Ray is not installed.
        """
        self._cluster = Cluster(address)

    def __enter__(self) -> OnRay:
        """Join the cluster. Raises UserError if that fails."""
        self._cluster.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._cluster.__exit__(*error)

    def results(self, tasks: Sequence[LLMTask[T]], stack: ExitStack) -> Iterator[T]:
        """Yield the tasks' results in their order. Raises the UserError that a task raises."""
        group_of = self._cluster.ray.remote(num_cpus=1, max_retries=3)(_complete)
        most = AHEAD * max(1, int(sum(node.get("CPU", 0) for node in self._cluster.nodes())))
        waiting: deque[Any] = deque()
        for start in range(0, len(tasks), GROUP):
            waiting.append(group_of.remote(list(tasks[start : start + GROUP])))
            if len(waiting) == most:
                yield from self._cluster.result(waiting.popleft())
        while waiting:
            yield from self._cluster.result(waiting.popleft())


def _complete(tasks: Sequence[LLMTask[Any]]) -> list[Any]:
    return [completed(task) for task in tasks]
