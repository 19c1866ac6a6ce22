"""Pure requests in, answers out: what can be asked of a judge, what comes back, and how questions combine.

An `Asking[T]` is a generator that yields tuples of requests, is sent the tuple of their answers, and returns a T. Who
answers (a live API, the cache, a provider's batch, a dry run, a test) is none of its business. Knows no provider, no
disk, no clock.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, TypeAlias, TypeVar

from autointerp.records import AnswerError

T = TypeVar("T")
StopReason = Literal["stop", "length", "refusal"]


@dataclass(frozen=True)
class Message:
    """One turn; the system's, if there is one, comes first."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Usage:
    """What answers took, in tokens and USD, when they were made.

    tokens_in: all tokens of the prompts, cached or not. cache_read, cache_write: those among them that the provider's
    prompt cache gave or took. cost_usd: None if the price of a model is not known. batch: answers from a provider's
    batch, at its price.
    """

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cache_read: int = 0
    cache_write: int = 0
    batch: int = 0
    cost_usd: float | None = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        known = self.cost_usd is not None and other.cost_usd is not None
        return Usage(
            self.calls + other.calls,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.batch + other.batch,
            (self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
        )


@dataclass(frozen=True)
class TokenLogprobs:
    """A generated token and the log-probabilities of the likeliest tokens in its place, itself among them."""

    token: str
    top: Mapping[str, float]


@dataclass(frozen=True)
class Completion:
    """A judge's answer.

    logprobs: of each generated token, if asked for; their texts concatenate to `text`. slots: for each slot of the
    request, the log-probabilities of the likeliest tokens there.
    """

    text: str
    stop: StopReason = "stop"
    usage: Usage = Usage()
    logprobs: tuple[TokenLogprobs, ...] = ()
    slots: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True)
class Vectors:
    """The embedding of each text."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage = Usage()


@dataclass(frozen=True)
class Failure:
    """No answer, for a reason: a request that the judge rejects, or no answer within the tries it has."""

    reason: str
    usage: Usage = Usage()


@dataclass(frozen=True)
class Request:
    """One call of a judge. What changes the answer is in the cache's key; `static`, `stage`, `example` are not.

    model: the judge's spec, such as anthropic/MODEL. temperature: None for the provider's default. top_logprobs: how
    many log-probabilities of each generated token are wanted. schema: a JSON schema (as text) the answer obeys where
    the provider can enforce one. slots: offsets in the only message, a plain text: the log-probabilities of the tokens
    that begin there are wanted and nothing is generated. sample: tells repeated samples of one prompt apart.
    static: how many leading messages all requests of this kind share. stage: what the call is for, in accounts.
    example: a well-formed answer of the usual length, for dry runs.
    """

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float | None = None
    top_logprobs: int = 0
    schema: str | None = None
    slots: tuple[int, ...] = ()
    sample: int = 0
    static: int = field(default=0, compare=False)
    stage: str = field(default="", compare=False)
    example: Completion = field(default=Completion(""), compare=False)


@dataclass(frozen=True)
class EmbeddingRequest:
    """Texts to embed with a sentence embedding model."""

    model: str
    texts: tuple[str, ...]
    stage: str = field(default="", compare=False)


Question: TypeAlias = Request | EmbeddingRequest
Answer: TypeAlias = Completion | Vectors | Failure
Asking: TypeAlias = Generator[tuple[Question, ...], tuple[Answer, ...], T]


def ask(request: Request, parse: Callable[[Completion], T], again: Callable[[str], str]) -> Asking[T]:
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


def ask_once(request: Request, parse: Callable[[Completion], T]) -> Asking[T]:
    """As `ask`, for requests in which nothing is generated: the same question would get the same answer."""
    completion = yield from _completion(request)
    return parse(completion)


def embed(request: EmbeddingRequest) -> Asking[tuple[tuple[float, ...], ...]]:
    """The embeddings of texts. Raises AnswerError if there is no answer."""
    (answer,) = yield (request,)
    if isinstance(answer, Failure):
        raise AnswerError(answer.reason)
    assert isinstance(answer, Vectors), "an embedding request was answered by something else"
    if len(answer.vectors) != len(request.texts):
        raise AnswerError(f"{len(answer.vectors)} vectors for {len(request.texts)} texts")
    return answer.vectors


def _completion(request: Request) -> Asking[Completion]:
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
    """An asking has returned this."""

    value: T


def step(asking: Asking[T], answers: tuple[Answer, ...] | None) -> tuple[Question, ...] | Ended[T]:
    """What an asking wants to know next, given the last round's answers (None: it begins), or that it has ended."""
    try:
        return asking.send(answers)  # type: ignore[arg-type]  # None starts a generator
    except StopIteration as stop:
        return Ended(stop.value)


def attempt(asking: Asking[T]) -> Asking[T | AnswerError]:
    """The same, with AnswerError as an outcome beside others."""
    try:
        return (yield from asking)
    except AnswerError as error:
        return error


def together(askings: Iterable[Asking[T]]) -> Asking[list[T]]:
    """Several at once: every round yields the requests of all that still ask. An AnswerError of one ends all."""
    waiting = list(askings)
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


def metered(asking: Asking[T]) -> Generator[tuple[Question, ...], tuple[Answer, ...], tuple[T, Usage]]:
    """The same with its usage; wrap `attempt` in it, so that failures are metered as well."""
    usage = Usage()
    answers: tuple[Answer, ...] | None = None
    while not isinstance(questions := step(asking, answers), Ended):
        answers = yield questions
        usage = sum((answer.usage for answer in answers), usage)
    return questions.value, usage


def answered_by(asking: Asking[T], answer: Callable[[Question], Answer]) -> T:
    """Drive one asking with a plain function: for dry runs, tests, and whoever asks nobody."""
    answers: tuple[Answer, ...] | None = None
    while not isinstance(questions := step(asking, answers), Ended):
        answers = tuple(answer(question) for question in questions)
    return questions.value
