"""Shares what providers behind an official SDK need: a key, an address, a concurrency limit, errors as CallErrors."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import aiohttp

from autointerp.llm import faults, keys
from autointerp.llm.efforts import merged
from autointerp.llm.faults import CallError
from autointerp.llm.limits import Limits
from autointerp.llm.providers import PROVIDERS, Provider
from autointerp.llm.providers.gate import Gate
from autointerp.llm.reading import UNREADABLE
from autointerp.llm.specs import ModelSpec
from autointerp.llm.types import Request
from sae.common.files import sha256_of

log = logging.getLogger(__name__)
SHORTEST_SECRET = 16
"""Characters of a key that an answer must not repeat; what servers of one's own take may be a word, such as EMPTY."""


class HostedProvider(Provider):
    """Asks a model through its official SDK."""

    SDK: ClassVar[type[Any]]
    """The SDK's asynchronous client."""
    Http: ClassVar[type[Gate]]
    """The SDK's aiohttp client behind a gate."""
    ApiError: ClassVar[type[Exception]]
    """The base class of the SDK's exceptions."""
    StatusError: ClassVar[type[Any]]
    """Its exception for HTTP errors."""
    NotFoundError: ClassVar[type[Exception]]
    """Its exception for HTTP 404."""

    def __init__(self, spec: ModelSpec, seconds: float, limits: Limits) -> None:
        """Open a model with the key from the environment. Raises UserError if there is none.

        Args:
            seconds: timeout of one attempt.
            limits: the run's concurrency limits, one per endpoint.
        """
        self.spec = spec
        self.secret = keys.find(spec)
        self.url = keys.address(spec)
        account = sha256_of([self.secret.get_secret_value().encode()])[:8]
        super().__init__(f"{self.url} {account}", keys.fingerprint(spec))
        if self.fingerprint:
            log.info("%s is asked at %s", spec.text, self.url)
        http = self.Http(timeout=seconds)
        http.limit = limits.of(self.endpoint)
        self.sdk = self.SDK(
            api_key=self.secret.get_secret_value(), base_url=self.url, max_retries=0, timeout=seconds, http_client=http
        )

    def fault(self, error: Exception) -> CallError:
        """Return the CallError for an exception of the SDK, whose own texts lose the key."""
        chain = faults.chain_of(error)
        for each in chain:
            keys.redact_error(each, self.secret)
        if isinstance(error, self.StatusError):
            body, variable = error.response.text or error.message, PROVIDERS.get(self.spec.provider).key_variable
            return faults.status_error(
                self.spec, self.secret, variable or "", error.status_code, body, error.response.headers
            )
        was_sent = not any(isinstance(each, aiohttp.ClientConnectorError) for each in chain)
        return faults.broken(self.spec, self.secret, error, was_sent)

    def broken(self, what: str | Exception) -> CallError:
        """Return the error for a call that brought no whole answer."""
        return faults.broken(self.spec, self.secret, what)

    def reason(self, text: str) -> str:
        """Return on one line, without the key, what a server gives as its reason."""
        return faults.one_line(keys.redact(text, self.secret))

    def require_no_key(self, text: str) -> None:
        """Raise CallError if an answer repeats the key, as servers for debugging do: answers are kept and shown."""
        key = self.secret.get_secret_value()
        if len(key) >= SHORTEST_SECRET and key in text:
            reason = f"{self.spec.text}: the answer repeats the API key and is not kept"
            raise CallError("rejected", reason, may_cost=True)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn what reading an answer of an unexpected form raises into a CallError."""
        try:
            yield
        except UNREADABLE as error:
            raise self.broken(f"an answer that cannot be read ({error!r})") from None

    async def close(self) -> None:
        """Close the SDK's connections."""
        await self.sdk.close()


def with_extra(body: dict[str, Any], request: Request) -> dict[str, Any]:
    """Return a request's body with its further fields; objects are merged, other values replaced."""
    return merged(body, json.loads(request.extra)) if request.extra else body
