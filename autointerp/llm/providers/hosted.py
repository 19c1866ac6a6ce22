"""What the hosted judges share: a key, an address, a place in the endpoint's limit, and their SDK's errors as ours."""

from typing import Any, ClassVar

from autointerp.llm import faults, keys
from autointerp.llm.faults import CallError
from autointerp.llm.limits import Limits
from autointerp.llm.providers.gate import Gate
from autointerp.llm.specs import ModelSpec
from sae.common.files import sha256_of


class HostedJudge:
    """A judge behind an official SDK.

    SDK: its async client. Http: its aiohttp client behind a gate. StatusError: its HTTP errors.
    """

    has_timeout = True
    SDK: ClassVar[type[Any]]
    Http: ClassVar[type[Gate]]
    StatusError: ClassVar[type[Any]]

    def __init__(self, spec: ModelSpec, seconds: float, limits: Limits) -> None:
        self.spec = spec
        self.secret = keys.find(spec)
        self.url = keys.address(spec)
        self.endpoint = f"{self.url} {sha256_of([self.secret.reveal().encode()])[:8]}"
        self.fingerprint = keys.fingerprint(spec)
        http = self.Http(timeout=seconds)
        http.limit = limits.of(self.endpoint)
        with keys.only_for(spec):
            self.sdk = self.SDK(
                api_key=self.secret.reveal(), base_url=self.url, max_retries=0, timeout=seconds, http_client=http
            )

    def fault(self, error: Exception) -> CallError:
        """The SDK's exception as one of ours."""
        if isinstance(error, self.StatusError):
            body, variable = error.response.text or error.message, keys.VARIABLES[self.spec.provider]
            return faults.status_error(
                self.spec, self.secret, variable, error.status_code, body, error.response.headers
            )
        return self.broken(error)

    def broken(self, what: str | Exception) -> CallError:
        """The error for a call that brought no whole answer."""
        return faults.broken(self.spec, self.secret, what)

    async def close(self) -> None:
        await self.sdk.close()
