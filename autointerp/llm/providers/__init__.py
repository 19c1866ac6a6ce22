"""Lists the providers of language models and embeddings by name, with what each of them can do.

One file or package here is one provider. It registers a `ProviderType` on import, without loading an SDK or torch, and
opens a `Provider` when a run needs one. Other distributions add providers through the entry-point group
`autointerp.providers`:

    class EchoProvider(Provider):
        async def complete(self, request: Request) -> Completion:
            return Completion(request.messages[-1].content)

    def open_echo(spec: ModelSpec, runtime: Runtime, limits: Limits) -> Provider:
        return EchoProvider(endpoint="echo")

    PROVIDERS.register("echo", ProviderType("echo", "echo/MODEL", "repeats the question", open_echo))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from autointerp.llm.types import Completion, EmbeddingRequest, Request, Vectors
from sae.common.errors import UserError
from sae.common.registry import Registry

if TYPE_CHECKING:
    from autointerp.llm.limits import Limits
    from autointerp.llm.providers.batches import Batches
    from autointerp.llm.specs import ModelSpec
    from autointerp.sections import Runtime

Support = Literal["always", "depends", "never"]
"""Whether a provider has something: with every model, with some models or servers, or with none."""


@dataclass(frozen=True)
class Capabilities:
    """States what a provider's models can do."""

    logprobs: Support = "never"
    """Log-probabilities of generated tokens."""
    prompt_logprobs: Support = "never"
    """Log-probabilities of the prompt's own tokens: at slots; if "always", of its end as well (likelihood_from)."""
    json_schema: bool = False
    """Whether an answer can be held to a JSON schema."""
    batches: bool = False
    """Whether there is a batch API: half the price, within a day."""
    temperature: bool = True
    """Whether a temperature may be set."""
    embeddings: bool = False
    """Whether it embeds texts, and does nothing else."""
    in_process: bool = False
    """Whether its models run in this process: their calls are free, and a temperature of None means 0."""


class Target(NamedTuple):
    """Holds what a model spec names, apart from its provider."""

    model: str
    base_url: str | None = None


def after_prefix(text: str) -> Target:
    """Read NAME/MODEL as the model MODEL, which may hold more slashes."""
    return Target(text.partition("/")[2])


@dataclass(frozen=True)
class ProviderType:
    """Describes one kind of provider: how its model specs are written, what it can do, and how it is opened."""

    name: str
    form: str
    """How its model specs are written, for help and errors, such as anthropic/MODEL."""
    help: str
    """What a user must know about it, in a few words, for help."""
    open: Callable[[ModelSpec, Runtime, Limits], Provider]
    """Opens a model. SDKs and torch load here. Raises UserError for a missing key, package or model."""
    capabilities: Capabilities = Capabilities()
    capabilities_of: Callable[[str], Capabilities] | None = None
    """From a model's name, what that model can do, where its provider's models differ; None: `capabilities`."""
    prefixes: tuple[str, ...] = ()
    """How its model specs begin; by default with its name and a slash."""
    parse: Callable[[str], Target] = after_prefix
    """Reads a model spec that begins with a prefix. An empty model in the result is refused. Raises UserError."""
    key_variable: str | None = None
    """The environment variable with its API key; None if it needs no key."""
    is_key_required: bool = True
    """Whether it can only be used with a key."""
    url: str = ""
    """The base URL of its API. Empty: the model spec holds it, or there is none."""
    url_variable: str = ""
    """The environment variable that gives another base URL."""
    token_factor: Callable[[str], float] = lambda model: 1.0
    """From a model's name, how many more tokens it makes of a text than GPT-4 does, for the estimates of dry runs."""

    def matches(self, text: str) -> bool:
        """Return whether a text begins like this provider's model specs."""
        return text.startswith(self.prefixes or f"{self.name}/")


class Provider:
    """Answers the requests of one model spec, one attempt each.

    The client does the retries, the cache, the concurrency limit and the budget. A provider of another package derives
    from this class and overrides `complete` or `embed`.
    """

    batches: Batches | None = None
    """The batch API, if there is one."""
    takes_schema: bool = True
    """Whether no request was rejected for its JSON schema so far."""

    def __init__(self, endpoint: str, fingerprint: str = "", has_timeout: bool = True) -> None:
        self.endpoint = endpoint
        """What shares a rate limit, such as a base URL with a hash of the account's key."""
        self.fingerprint = fingerprint
        """What changes answers besides the request (weights, another base URL); part of the cache's key."""
        self.has_timeout = has_timeout
        """Whether an attempt ends after attempt_seconds. A model in this process has no timeout: it has a queue."""

    async def complete(self, request: Request) -> Completion:
        """Make one attempt at a completion. Raises CallError."""
        raise UserError(f"{request.model} embeds texts and writes none; use it as embedding.model")

    async def embed(self, request: EmbeddingRequest) -> Vectors:
        """Make one attempt at embeddings. Raises CallError."""
        raise UserError(f"{request.model} embeds no texts; set embedding.model to a sentence-transformers model")

    async def close(self) -> None:
        """Free connections, threads and memory."""


PROVIDERS: Registry[ProviderType] = Registry(
    "provider",
    "autointerp.llm.providers",
    order=("anthropic", "openai", "google", "compatible", "hf", "vllm", "embedding"),
    shared=("batches", "gate", "hosted"),
    group="autointerp.providers",
)
"""All providers; the built-in ones first."""
