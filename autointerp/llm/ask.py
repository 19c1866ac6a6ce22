"""Builds LLM tasks: make a call, read its answer, call once more if it cannot be read, combine tasks.

An `LLMTask[T]` is a generator that makes LLM calls: it yields tuples of requests, is sent the tuple of their answers,
and returns a T. The same task runs against a live API, the cache, a provider's batch, a dry run or a test.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic

from autointerp.llm.types import (
    Answer,
    Completion,
    EmbeddingRequest,
    Failure,
    LLMTask,
    Message,
    Question,
    Request,
    T,
    Usage,
    Vectors,
)
from autointerp.records import AnswerError


def ask(request: Request, parse: Callable[[Completion], T], again: Callable[[str], str]) -> LLMTask[T]:
    """Make a call and read the answer; if it cannot be read, make a second call that says why.

    Args:
        parse: reads a completion, or raises AnswerError with the reason.
        again: writes the second question from the reason.

    Raises:
        AnswerError: no answer, or a second one that cannot be read.
    """
    completion = yield from _completion(request)
    try:
        return parse(require_whole(completion, request))
    except AnswerError as error:
        answer = Message("assistant", completion.text.strip() or "(nothing)")
        longer = 2 if completion.stop == "length" else 1
        second = replace(
            request,
            messages=(*request.messages, answer, Message("user", again(str(error)))),
            max_tokens=longer * request.max_tokens,
        )
    completion = yield from _completion(second)
    return parse(require_whole(completion, second))


def ask_once(request: Request, parse: Callable[[Completion], T]) -> LLMTask[T]:
    """Make a call and read the answer. For requests that generate nothing: a second call would get the same answer."""
    completion = yield from _completion(request)
    return parse(completion)


def embed(request: EmbeddingRequest) -> LLMTask[tuple[tuple[float, ...], ...]]:
    """Embed texts. Raises AnswerError if there is no answer."""
    (answer,) = yield (request,)
    if isinstance(answer, Failure):
        raise AnswerError(answer.reason)
    assert isinstance(answer, Vectors), "an embedding request was answered without vectors"
    if len(answer.vectors) != len(request.texts):
        raise AnswerError(f"{len(answer.vectors)} vectors for {len(request.texts)} texts")
    return answer.vectors


def _completion(request: Request) -> LLMTask[Completion]:
    (answer,) = yield (request,)
    if isinstance(answer, Failure):
        raise AnswerError(answer.reason)
    assert isinstance(answer, Completion), "a request was answered without a completion"
    return answer


def require_whole(completion: Completion, request: Request) -> Completion:
    """Return the completion. Raises AnswerError for a refusal or an answer that was cut off."""
    if completion.stop == "refusal":
        raise AnswerError("the model refused to answer")
    if completion.stop == "length":
        raise AnswerError(f"the answer was cut off at {request.max_tokens} tokens")
    return completion


@dataclass(frozen=True)
class Ended(Generic[T]):
    """Holds what a task has returned."""

    value: T


def step(task: LLMTask[T], answers: tuple[Answer, ...] | None) -> tuple[Question, ...] | Ended[T]:
    """Send a task the last round's answers (None to start it); returns its next questions, or what it has returned."""
    try:
        return task.send(answers)  # type: ignore[arg-type]  # None starts a generator
    except StopIteration as stop:
        return Ended(stop.value)


def attempt(task: LLMTask[T]) -> LLMTask[T | AnswerError]:
    """Run a task, and return its AnswerError instead of raising it."""
    try:
        return (yield from task)
    except AnswerError as error:
        return error


def together(tasks: Iterable[LLMTask[T]]) -> LLMTask[list[T]]:
    """Run tasks in step: each round yields the questions of all that still run. An AnswerError of one ends all."""
    running = list(tasks)
    results: dict[int, T] = {}
    answers: dict[int, tuple[Answer, ...] | None] = dict.fromkeys(range(len(running)))
    while True:
        round_: dict[int, tuple[Question, ...]] = {}
        for index, last_answers in answers.items():
            questions = step(running[index], last_answers)
            if isinstance(questions, Ended):
                results[index] = questions.value
            else:
                round_[index] = questions
        if not round_:
            return [results[index] for index in range(len(running))]
        replies = yield tuple(question for questions in round_.values() for question in questions)
        answers = dict(zip(round_, _split(replies, [len(questions) for questions in round_.values()]), strict=True))


def _split(replies: Sequence[Answer], counts: Sequence[int]) -> list[tuple[Answer, ...]]:
    remaining = iter(replies)
    return [tuple(next(remaining) for _ in range(count)) for count in counts]


def metered(task: LLMTask[T]) -> Generator[tuple[Question, ...], tuple[Answer, ...], tuple[T, Usage]]:
    """Run a task and return its result with its usage; wrap `attempt` in it, so that failures are metered as well."""
    usage = Usage()
    answers: tuple[Answer, ...] | None = None
    while not isinstance(questions := step(task, answers), Ended):
        answers = yield questions
        usage = sum((answer.usage for answer in answers), usage)
    return questions.value, usage


def answered_by(task: LLMTask[T], answer: Callable[[Question], Answer]) -> T:
    """Drive one task with a plain function that answers: for dry runs, tests, and tasks that make no calls."""
    answers: tuple[Answer, ...] | None = None
    while not isinstance(questions := step(task, answers), Ended):
        answers = tuple(answer(question) for question in questions)
    return questions.value
