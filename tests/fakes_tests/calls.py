"""Questions to the fake APIs through the real SDKs."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import anthropic
import openai

from tests.fakes import FakeApis

HELLO = "echo 2cf24dba"
"""The default script's answer to "hello"."""

SCHEMA = {
    "type": "object",
    "properties": {"scores": {"type": "array", "items": {"type": "integer"}}},
    "required": ["scores"],
    "additionalProperties": False,
}


def anthropic_client(server: FakeApis, key: str = "test-key", timeout: float = 120) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=server.url, api_key=key, max_retries=0, timeout=timeout)


def openai_client(server: FakeApis, key: str = "test-key", timeout: float = 120) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=server.openai_url, api_key=key, max_retries=0, timeout=timeout)


async def ask_anthropic(server: FakeApis, content: Any = "hello", **more: Any) -> anthropic.types.Message:
    async with anthropic_client(server, more.pop("key", "test-key"), more.pop("timeout", 120)) as client:
        request = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": content}]} | more
        return await client.messages.create(**request)


async def ask_openai(server: FakeApis, content: Any = "hello", **more: Any) -> openai.types.chat.ChatCompletion:
    async with openai_client(server, more.pop("key", "test-key"), more.pop("timeout", 120)) as client:
        request = {"model": "m", "messages": [{"role": "user", "content": content}]} | more
        return await client.chat.completions.create(**request)


ASK = {"anthropic": ask_anthropic, "openai": ask_openai}


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)
