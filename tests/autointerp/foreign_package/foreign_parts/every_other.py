"""A provider whose models answer every question about texts with 1, 0, 1, ..., whatever the texts are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autointerp.llm.providers import PROVIDERS, Provider, ProviderType
from autointerp.llm.types import Completion, Request, Usage

if TYPE_CHECKING:
    from autointerp.llm.limits import Limits
    from autointerp.llm.specs import ModelSpec
    from autointerp.sections import Runtime


class EveryOther(Provider):
    """Counts the texts of a question and answers in the form that detection asks for."""

    async def complete(self, request: Request) -> Completion:
        """Answer one request."""
        answers = [1 - index % 2 for index in range(request.messages[-1].content.count("Text "))]
        return Completion(f'{{"answers": {answers}}}', usage=Usage(calls=1))


def open_model(spec: ModelSpec, runtime: Runtime, limits: Limits) -> Provider:
    """Open a model; there is only one."""
    return EveryOther(endpoint="every_other")


PROVIDERS.register(
    "every_other", ProviderType("every_other", "every_other/MODEL", "answers 1, 0, 1, ... without reading", open_model)
)
