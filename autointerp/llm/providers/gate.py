"""Keeps the requests in flight at an endpoint below its concurrency limit.

A permit is held only while the request is in flight, from its first byte to the last of its response. Another call may
hold it while the client builds the next request or reads an answer.
"""

from typing import Any

import httpx2

from autointerp.llm.limits import AdaptiveLimit


class Gate(httpx2.AsyncClient):
    """Goes in front of an SDK's own HTTP client class, as a base class; set `limit` before the first request."""

    limit: AdaptiveLimit

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request once there is a permit, and read its whole response."""
        async with self.limit.in_flight():
            response = await super().send(request, **options)
            await response.aread()
            return response
