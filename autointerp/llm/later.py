"""Holds tasks that start when they are first asked, and can be sent to another process until then."""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Generic

from autointerp.llm.types import Answer, LLMTask, Question, T


class Later(Generator[tuple[Question, ...], tuple[Answer, ...], T], Generic[T]):
    """Is an LLM task: that which `make` returns for its arguments."""

    def __init__(self, make: Callable[..., LLMTask[T]], *arguments: Any) -> None:
        self._make, self._arguments = make, arguments
        self._task: LLMTask[T] | None = None

    def send(self, answers: Any) -> tuple[Question, ...]:
        """Send answers, None at the start; return the next questions."""
        if self._task is None:
            self._task = self._make(*self._arguments)
        return self._task.send(answers)

    def throw(self, kind: Any, error: Any = None, at: TracebackType | None = None) -> tuple[Question, ...]:
        """Raise an error where the task waits; return the next questions."""
        if self._task is None:
            self._task = self._make(*self._arguments)
        return self._task.throw(kind if error is None else error)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._task is not None:
            raise TypeError("a task that has been started cannot be sent to another process")
        return Later, (self._make, *self._arguments)
