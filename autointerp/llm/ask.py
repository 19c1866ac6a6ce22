"""Pure requests in, answers out: how tasks ask language models, read their answers, and combine.

An `LLMTask[T]` is a generator that yields tuples of requests, is sent the tuple of their answers, and returns a T. The
same task runs against a live API, the cache, a provider's batch, a dry run or a test.
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
    """Ask, read the answer, and if it cannot be read ask once more with the reason.

    Args:
        parse: reads a completion, or raises AnswerError with the reason.
        again: words the second question from the reason.

    Raises:
        AnswerError: no answer, or one that cannot be read after its second chance.
    """
    completion = yield from _completion(request)
    try:
        return parse(_whole(completion, request))
    except AnswerError as error:
        said = Message("assistant", completion.text.strip() or "(nothing)")
        longer = 2 if completion.stop == "length" else 1
        second = replace(
            request,
            messages=(*request.messages, said, Message("user", again(str(error)))),
            max_tokens=longer * request.max_tokens,
        )
    completion = yield from _completion(second)
    return parse(_whole(completion, second))


def ask_once(request: Request, parse: Callable[[Completion], T]) -> LLMTask[T]:
    """As `ask`, for requests in which nothing is generated: the same question would get the same answer."""
    completion = yield from _completion(request)
    return parse(completion)


def embed(request: EmbeddingRequest) -> LLMTask[tuple[tuple[float, ...], ...]]:
    """The embeddings of texts. Raises AnswerError if there is no answer."""
    (answer,) = yield (request,)
    if isinstance(answer, Failure):
        raise AnswerError(answer.reason)
    assert isinstance(answer, Vectors), "an embedding request was answered by something else"
    if len(answer.vectors) != len(request.texts):
        raise AnswerError(f"{len(answer.vectors)} vectors for {len(request.texts)} texts")
    return answer.vectors


def _completion(request: Request) -> LLMTask[Completion]:
    (answer,) = yield (request,)
    if isinstance(answer, Failure):
        raise AnswerError(answer.reason)
    assert isinstance(answer, Completion), "a request was answered by something else"
    return answer


def _whole(completion: Completion, request: Request) -> Completion:
    """Raises AnswerError for a refusal or an answer that was cut off."""
    if completion.stop == "refusal":
        raise AnswerError("the model refused to answer")
    if completion.stop == "length":
        raise AnswerError(f"the answer was cut off at {request.max_tokens} tokens")
    return completion


@dataclass(frozen=True)
class Ended(Generic[T]):
    """An task has returned this."""

    value: T


def step(task: LLMTask[T], answers: tuple[Answer, ...] | None) -> tuple[Question, ...] | Ended[T]:
    """What an task wants to know next, given the last round's answers (None: it begins), or that it has ended."""
    try:
        return task.send(answers)  # type: ignore[arg-type]  # None starts a generator
    except StopIteration as stop:
        return Ended(stop.value)


def attempt(task: LLMTask[T]) -> LLMTask[T | AnswerError]:
    """The same, with AnswerError as an outcome beside others."""
    try:
        return (yield from task)
    except AnswerError as error:
        return error


def together(tasks: Iterable[LLMTask[T]]) -> LLMTask[list[T]]:
    """Several at once: every round yields the requests of all that still ask. An AnswerError of one ends all."""
    waiting = list(tasks)
    results: dict[int, T] = {}
    answers: dict[int, tuple[Answer, ...] | None] = dict.fromkeys(range(len(waiting)))
    while True:
        asked: dict[int, tuple[Question, ...]] = {}
        for place, given in answers.items():
            questions = step(waiting[place], given)
            if isinstance(questions, Ended):
                results[place] = questions.value
            else:
                asked[place] = questions
        if not asked:
            return [results[place] for place in range(len(waiting))]
        replies = yield tuple(question for questions in asked.values() for question in questions)
        answers = dict(zip(asked, _dealt(replies, [len(questions) for questions in asked.values()]), strict=True))


def _dealt(replies: Sequence[Answer], counts: Sequence[int]) -> list[tuple[Answer, ...]]:
    taken = iter(replies)
    return [tuple(next(taken) for _ in range(count)) for count in counts]


def metered(task: LLMTask[T]) -> Generator[tuple[Question, ...], tuple[Answer, ...], tuple[T, Usage]]:
    """The same with its usage; wrap `attempt` in it, so that failures are metered as well."""
    usage = Usage()
    answers: tuple[Answer, ...] | None = None
    while not isinstance(questions := step(task, answers), Ended):
        answers = yield questions
        usage = sum((answer.usage for answer in answers), usage)
    return questions.value, usage


def answered_by(task: LLMTask[T], answer: Callable[[Question], Answer]) -> T:
    """Drive one task with a plain function: for dry runs, tests, and whoever asks nobody."""
    answers: tuple[Answer, ...] | None = None
    while not isinstance(questions := step(task, answers), Ended):
        answers = tuple(answer(question) for question in questions)
    return questions.value
