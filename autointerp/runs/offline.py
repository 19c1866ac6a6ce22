"""Completes the tasks of rules, which make no LLM calls: in this process, or many of them on all cores.

A process forked for each core sees the tasks as they stand, computes every n-th group of them and sends the results
back. They are handed on in the tasks' order, so that files are written as by one process.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from autointerp.llm.ask import answered_by
from autointerp.llm.types import LLMTask
from autointerp.llm.uses import Use
from sae.common.errors import UserError

T = TypeVar("T")
GROUP = 48
"""Tasks that a process completes before it sends their results: the explanations of several lengths of one feature are
learnt together, and should stay so."""
FEWEST_GROUPS = 4
"""Fewer are completed sooner than processes have started."""
MOST_PROCESSES = 8
"""Each comes to hold a copy of the features that it reads."""
KILL_WITH_PARENT = 1
"""`PR_SET_PDEATHSIG` of Linux's prctl: nothing of a killed run lives on."""


class Offline:
    """Completes tasks that make no LLM calls."""

    def resolve(self, tasks: Sequence[LLMTask[T]], done: Callable[[int, T], None], tick: Callable[[], None]) -> None:
        """Run all tasks; results are handed on in their order."""
        with ExitStack() as stack:
            for index, result in enumerate(self.results(tasks, stack)):
                done(index, result)
                tick()

    def results(self, tasks: Sequence[LLMTask[T]], stack: ExitStack) -> Iterator[T]:
        """Yield the tasks' results in their order; what is still at work when `stack` closes is stopped."""
        return _results(tasks, stack)

    def note(self) -> str:
        """Return nothing: nothing is spent."""
        return ""

    def check(self, uses: Sequence[Use]) -> list[bool]:
        """Ask nobody: there are no models."""
        return [True] * len(uses)


def _results(tasks: Sequence[LLMTask[T]], stack: ExitStack) -> Iterator[T]:
    """Yield the tasks' results in their order; processes that are still at work when `stack` closes are stopped."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1  # elsewhere a fork is not safe
    groups = [tasks[start : start + GROUP] for start in range(0, len(tasks), GROUP)]
    if cores == 1 or len(groups) < FEWEST_GROUPS:
        yield from map(completed, tasks)
        return
    n = min(cores, len(groups), MOST_PROCESSES)
    receivers = [_fork(groups[number::n], stack) for number in range(n)]
    for number in range(len(groups)):
        yield from _received(receivers[number % n])


def _received(receiver: Connection) -> Any:
    """Wait for the results of a process's next group."""
    try:
        received = receiver.recv()
    except EOFError as error:
        raise RuntimeError("a process that scores has ended; its own traceback is above") from error
    if isinstance(received, UserError):
        raise received
    return received


def _fork(groups: Sequence[Sequence[LLMTask[T]]], stack: ExitStack) -> Connection:
    """Start a process for some groups and return where its results arrive, a list for each group."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(groups, sender, os.getpid()), daemon=True)
    process.start()
    sender.close()  # ours: the process has its own, and when it dies, waiting for results ends with an EOFError
    stack.callback(process.join)
    stack.callback(process.terminate)
    stack.enter_context(closing(receiver))
    return receiver


def _work(groups: Sequence[Sequence[LLMTask[T]]], sender: Connection, parent: int) -> None:
    ctypes.CDLL(None).prctl(KILL_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        return  # it died before that call
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which stops its processes
    try:
        for group in groups:
            sender.send([completed(task) for task in group])
    except UserError as error:  # raised again in the parent; a bug's traceback is printed here
        sender.send(error)


def completed(task: LLMTask[T]) -> T:
    """Run a task that makes no LLM calls."""
    return answered_by(task, _refuse)


def _refuse(request: object) -> Any:
    raise AssertionError(f"a run without language models made an LLM call: {request}")
