"""What the README says of the judges' speed: calls a second through the real SDKs, and cached answers a second.

    python tests/benchmarks/judges.py

A fake server on loopback, in its own process, answers after 200 ms; 100 calls are under way at once, so that 500 calls
a second are ideal, unless one core cannot do them: then 1 / (CPU seconds a call) is. Not a test: it asserts nothing.
"""

import asyncio
import logging
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from autointerp.asking import Completion, Message, Question, Request
from autointerp.config import Runtime
from autointerp.llm.session import Session
from tests.fakes import JudgeServer

CALLS, CONCURRENCY, LATENCY = 4000, 100, 0.2


def requests(model: str, count: int, first: int = 0) -> list[Request]:
    """Prompts as long as a simulation's: few-shots of 1,500 characters, and 64 token lines."""
    static = Message("system", "word " * 300)
    lines = "\n".join(f"token{n}" for n in range(64))
    return [
        Request(model, (static, Message("user", f"{number}\n{lines}")), 900, static=1)
        for number in range(first, first + count)
    ]


async def timed(session: Session, questions: list[Question]) -> tuple[float, float]:
    """Wall and CPU seconds of this process for all answers, so many at once."""
    gate = asyncio.Semaphore(CONCURRENCY)

    async def one(question: Question) -> None:
        async with gate:
            answer = await session.client.answer(question)
        assert isinstance(answer, Completion), answer

    before, began = cpu(), time.perf_counter()
    await asyncio.gather(*map(one, questions))
    return time.perf_counter() - began, cpu() - before


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(model: str) -> None:
    runtime = Runtime(concurrency=CONCURRENCY)
    with tempfile.TemporaryDirectory() as folder, Session([model], runtime, Path(folder)) as session:
        run: Any = session._runner.run
        run(timed(session, list(requests(model, 400, CALLS))))  # connections, slow start
        wall, spent = run(timed(session, list(requests(model, CALLS))))
        ideal = min(CONCURRENCY / LATENCY, CALLS / spent)
        print(f"{model}: {CALLS / wall:.0f} calls/s, {1000 * spent / CALLS:.2f} ms CPU a call, ", end="")
        print(f"{wall and CALLS / wall / ideal:.1%} of the ideal {ideal:.0f} (one core: {CALLS / spent:.0f})")
        wall, spent = run(timed(session, list(requests(model, CALLS))))
        print(f"    cached: {CALLS / wall:.0f} answers/s, {1000 * spent / CALLS:.2f} ms CPU each")


def main() -> None:
    logging.disable(logging.INFO)
    with JudgeServer(latency=LATENCY) as server:
        os.environ |= {"ANTHROPIC_BASE_URL": server.url, "OPENAI_BASE_URL": server.openai_url}
        os.environ |= {"ANTHROPIC_API_KEY": "test-key", "OPENAI_API_KEY": "test-key", "AUTOINTERP_API_KEY": "test-key"}
        for model in ("anthropic/claude-haiku-4-5", "openai/gpt-4o-mini", f"{server.openai_url}#local"):
            measure(model)


if __name__ == "__main__":
    main()
