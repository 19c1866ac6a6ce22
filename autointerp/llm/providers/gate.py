"""Keeps the requests in flight at an endpoint below its concurrency limit, and the prompts at the host they are for.

A permit is held only while the request is in flight, from its first byte to the last of its response. Another call may
hold it while the client builds the next request or reads an answer.
"""

from typing import Any

import aiohttp
import httpx2

from autointerp.llm.limits import AdaptiveLimit

MOST_REDIRECTS = 5


class Gate(httpx2.AsyncClient):
    """Goes in front of an SDK's own HTTP client class, as a base class; set `limit` before the first request."""

    limit: AdaptiveLimit

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request once there is a permit, and read its whole response.

        Raises httpx2.RemoteProtocolError for a response that is no HTTP: the SDKs know only httpx2's exceptions.
        """
        async with self.limit.in_flight():
            try:
                response = await self._answer(request, **options | {"follow_redirects": False})
                await response.aread()
            except (aiohttp.ClientError, ValueError, LookupError) as error:
                raise httpx2.RemoteProtocolError(f"not HTTP: {error}") from error
            return response

    async def _answer(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Follow redirects within the host; return one to another host as it is, which the SDKs raise as an error."""
        response = await super().send(request, **options)
        for _ in range(MOST_REDIRECTS):
            following = response.next_request
            if following is None or _origin(following) != _origin(request):
                break
            await response.aclose()
            response = await super().send(following, **options)
        return response


def _origin(request: httpx2.Request) -> tuple[str, str, int | None]:
    return request.url.scheme, request.url.host, request.url.port
