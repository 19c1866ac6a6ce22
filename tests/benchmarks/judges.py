"""Measures the speed of LLM calls for the README: calls a second through the real SDKs, and cached answers a second.

    python tests/benchmarks/judges.py

A fake server on loopback, in its own process, answers after 200 ms; 100 calls may be under way at once, so that 500 a
second are ideal. One core allows 100 / (0.2 s + its own seconds a call), and never more than one call in those seconds.
Not a test: it asserts nothing.
"""

import logging
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from autointerp.llm.ask import ask_once
from autointerp.llm.resolver import LiveResolver, drive_live
from autointerp.llm.types import Completion, Message, Request
from autointerp.sections import Runtime
from tests.fakes import FakeApis

CALLS, CONCURRENCY, LATENCY = 6000, 100, 0.2


def requests(model: str, count: int, first: int = 0) -> list[Request]:
    """Prompts as long as a simulation's: few-shots of 1,500 characters, and 64 token lines."""
    static = Message("system", "word " * 300)
    lines = "\n".join(f"token{n}" for n in range(64))
    return [
        Request(model, (static, Message("user", f"{number}\n{lines}")), 900, static=1)
        for number in range(first, first + count)
    ]


class Measured(NamedTuple):
    """calls a second between a tenth and nine tenths of the answers, and CPU seconds of this process for each."""

    rate: float
    cpu: float


def drive(session: LiveResolver, asked: list[Request]) -> Measured:
    """Drive requests as a run drives its features."""
    ends: list[float] = []

    def done(index: int, answer: Completion) -> None:
        ends.append(time.perf_counter())

    before = cpu()
    tasks = [ask_once(request, lambda completion: completion) for request in asked]
    session._run(drive_live(tasks, done, session.client.answer, 2 * CONCURRENCY))
    first, last = len(ends) // 10, 9 * len(ends) // 10
    return Measured((last - first) / (ends[last] - ends[first]), (cpu() - before) / len(ends))


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(model: str) -> None:
    runtime = Runtime(concurrency=CONCURRENCY)
    with tempfile.TemporaryDirectory() as folder, LiveResolver([model], runtime, Path(folder)) as session:
        drive(session, requests(model, 400, CALLS))  # connections, slow start
        live = drive(session, requests(model, CALLS))
        ideal = min(CONCURRENCY / (LATENCY + live.cpu), 1 / live.cpu)
        print(f"{model}: {live.rate:.0f} calls/s, {1000 * live.cpu:.2f} ms CPU a call, ", end="")
        print(f"{live.rate * LATENCY / CONCURRENCY:.1%} of 500, {live.rate / ideal:.1%} of what one core allows")
        cached = drive(session, requests(model, CALLS))
        print(f"    cached: {cached.rate:.0f} answers/s, {1000 * cached.cpu:.2f} ms CPU each")


def main() -> None:
    logging.disable(logging.INFO)
    with FakeApis(latency=LATENCY) as server:
        os.environ |= {"ANTHROPIC_BASE_URL": server.url, "OPENAI_BASE_URL": server.openai_url}
        os.environ |= {"ANTHROPIC_API_KEY": "test-key", "OPENAI_API_KEY": "test-key", "AUTOINTERP_API_KEY": "test-key"}
        for model in ("anthropic/claude-haiku-4-5", "openai/gpt-4o-mini", f"{server.openai_url}#local"):
            measure(model)


if __name__ == "__main__":
    main()
