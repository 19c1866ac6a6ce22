"""Defines the frozen values of LLM calls: requests, completions, usage."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

T = TypeVar("T")
StopReason = Literal["stop", "length", "refusal"]


@dataclass(frozen=True)
class Message:
    """Holds one turn; the system's, if there is one, comes first."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Usage:
    """Counts what answers took, in tokens and USD, when they were made.

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
    """Holds a generated token and the log-probabilities of the likeliest tokens at its position, itself among them."""

    token: str
    top: Mapping[str, float]


@dataclass(frozen=True)
class Completion:
    """Holds a language model's answer."""

    text: str
    stop: StopReason = "stop"
    usage: Usage = Usage()
    logprobs: tuple[TokenLogprobs, ...] = ()
    """Log-probabilities of each generated token, if the request has top_logprobs; the tokens concatenate to `text`. For
    a request with likelihood_from: of each token of the prompt from there on, itself alone."""
    slots: tuple[Mapping[str, float], ...] = ()
    """For each of the request's slots, the log-probabilities of the likeliest tokens that begin there."""
    is_counted: bool = True
    """Whether the server counted its tokens; if not, `usage` holds the most that they can have been."""


@dataclass(frozen=True)
class Vectors:
    """Holds the embedding of each text."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage = Usage()


@dataclass(frozen=True)
class Failure:
    """Says why there is no answer: the provider rejects the request, or gave none within the retry policy."""

    reason: str
    usage: Usage = Usage()


@dataclass(frozen=True)
class Request:
    """Holds one LLM call. What changes the answer is in the cache's key; `static`, `stage` and `example` are not."""

    model: str
    """The model's spec, such as anthropic/MODEL."""
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float | None = None
    """None: the provider's default."""
    top_logprobs: int = 0
    """For each generated token, of how many likeliest tokens to return the log-probability."""
    schema: str | None = None
    """A JSON schema, as text, that the answer obeys where the provider can enforce one."""
    slots: tuple[int, ...] = ()
    """Character offsets in the only message: the log-probabilities of the tokens that begin there are returned, and
    nothing is generated."""
    sample: int = 0
    """Tells repeated samples of one prompt apart."""
    extra: str = ""
    """A JSON object, as text, of further fields of the API's body, such as how much the model may think."""
    likelihood_from: int | None = None
    """Character offset in the only message: the log-probability of each token from there on is returned, in `logprobs`,
    and nothing is generated."""
    static: int = field(default=0, compare=False)
    """How many leading messages all requests of this kind share."""
    stage: str = field(default="", compare=False)
    """What the call is for, in accounts."""
    example: Completion = field(default=Completion(""), compare=False)
    """A well-formed answer of the usual length, for dry runs."""

    @property
    def only_reads(self) -> bool:
        """Whether it asks for log-probabilities of the prompt only, and nothing is generated."""
        return bool(self.slots) or self.likelihood_from is not None


@dataclass(frozen=True)
class EmbeddingRequest:
    """Asks a sentence embedding model to embed texts."""

    model: str
    texts: tuple[str, ...]
    stage: str = field(default="", compare=False)


Question: TypeAlias = Request | EmbeddingRequest
Answer: TypeAlias = Completion | Vectors | Failure
LLMTask: TypeAlias = Generator[tuple[Question, ...], tuple[Answer, ...], T]
"""A generator that makes LLM calls: it yields tuples of questions, is sent their answers, and returns a T."""
