"""Tasks that start later: in another process, or here, like those that are generators."""

from copy import copy

import pytest

from autointerp.llm.ask import answered_by
from autointerp.llm.later import Later
from autointerp.llm.types import LLMTask

started: list[int] = []


def doubled(number: int) -> LLMTask[int]:
    started.append(number)
    return 2 * number
    yield ()


def test_a_task_starts_when_it_is_run_here_or_elsewhere() -> None:
    started.clear()
    task = Later(doubled, 4)
    assert not started
    there = copy(task)  # as pickle does
    for one in (task, there):
        assert answered_by(one, lambda question: None) == 8
    assert started == [4, 4]
    with pytest.raises(TypeError, match="has been started"):
        copy(task)


def test_errors_reach_the_task_and_closing_starts_nothing_twice() -> None:
    def asking() -> LLMTask[str]:
        try:
            yield ()
        except KeyError:
            return "caught"
        return "not asked"

    task = Later(asking)
    next(task)
    with pytest.raises(StopIteration) as ended:
        task.throw(KeyError())
    assert ended.value.value == "caught"
    Later(asking).close()
