"""Where calls meet the wire: no more of them at once than the endpoint bears. Knows no API.

A call holds its place from its request's first byte to its response's last. What a client does before (building the
request) and after (reading the answer) is done outside, while another call has the place.
"""

from typing import Any

import httpx2

from autointerp.llm.limits import AdaptiveLimit


class Gate(httpx2.AsyncClient):
    """Put in front of an SDK's own HTTP client class; `limit` is set by whoever makes one."""

    limit: AdaptiveLimit

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        async with self.limit.in_flight():
            response = await super().send(request, **options)
            await response.aread()
            return response
