"""Opens the models that a run needs, and drives many LLM tasks at once over one event loop, live or in batches."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from autointerp.llm import specs
from autointerp.llm.ask import Ended, step
from autointerp.llm.budget import Budget
from autointerp.llm.cache import AnswerCache
from autointerp.llm.client import Client, Tally
from autointerp.llm.efforts import AS_IT_IS, RequestSettings
from autointerp.llm.limits import Limits
from autointerp.llm.preflight import Abilities, abilities_of, require_answers
from autointerp.llm.pricing import load_prices
from autointerp.llm.providers import PROVIDERS, Provider
from autointerp.llm.retries import RetryPolicy
from autointerp.llm.types import Answer, LLMTask, Question
from autointerp.llm.uses import Use
from autointerp.sections import Runtime
from sae.common.errors import UserError

T = TypeVar("T")
Done = Callable[[int, T], None]
"""Receives the index and the value of each task as it ends."""
RARE_COLLECTIONS = (3000, 20, 50)
"""gc's thresholds while answers come in."""
TICK_SECONDS = 0.2
DRAIN_SECONDS = 20.0
"""How long calls under way may still bring their paid answers when a run is stopped."""
INTERRUPTED_SECONDS = 2.0
"""The same after Ctrl-C, where somebody waits for the end."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let the garbage collector run rarely, and not look at what is loaded by now (SDKs, records).

    A collection between two answers holds all other answers up.
    """
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*RARE_COLLECTIONS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


class LiveResolver:
    """Answers a run's tasks, as a context manager."""

    def __init__(
        self,
        models: Sequence[str],
        runtime: Runtime,
        cache: Path,
        settings: RequestSettings = AS_IT_IS,
        budget: Budget | None = None,
    ) -> None:
        """Open the models.

        Args:
            models: their specs.
            cache: the folder of the response cache.
            settings: what is filled into every request.
            budget: what other runs have a share in; None: one of this resolver's own, of `runtime.max_cost`.

        Raises:
            UserError: a missing key, a model that cannot be loaded, or, with a budget, an unknown price.
        """
        self._runtime = runtime
        self._providers: dict[str, Provider] = {}
        prices, limits = load_prices(runtime.prices), Limits(runtime.concurrency)
        for model in models:
            if runtime.max_cost is not None and model not in prices:
                raise UserError(f"no price is known for {model}, so --max-cost cannot be kept: {prices.advice(model)}")
            self._providers[model] = make_provider(model, runtime, limits)
        self.client = Client(
            self.provider_of,
            AnswerCache(cache),
            prices,
            budget or Budget(runtime.max_cost),
            RetryPolicy(runtime.tries, runtime.call_seconds, runtime.attempt_seconds, runtime.first_wait),
            limits,
            settings,
        )
        self._runner = asyncio.Runner()  # makes its loop when it first runs
        self._driving: asyncio.Task[Any] | None = None
        self._exits = ExitStack()

    def provider_of(self, question: Question) -> Provider:
        """Return the provider of a question's model."""
        return self._providers[question.model]

    @property
    def tally(self) -> Tally:
        return self.client.tally

    def note(self) -> str:
        """Say what this invocation has spent and done, and what it waits for if no call is in flight."""
        tally, paid = self.tally, self.tally.paid
        cost = "price unknown" if paid.cost_usd is None else f"${paid.cost_usd:.4f}"
        parts = [cost, f"{tally.calls:,} calls", f"{tally.cached:,} from the cache"]
        parts += [f"{tally.retries:,} retries"] if tally.retries else []
        parts += [f"{tally.failures:,} failed"] if tally.failures else []
        if tally.uncounted:
            most = f"${tally.uncounted_usd:.4f} of it at most"
            parts += [f"{most} for {tally.uncounted:,} calls whose tokens nobody counted"]
        parts += [f"{paid.tokens_in:,} + {paid.tokens_out:,} tokens", self.client.waiting()]
        return ", ".join(filter(None, parts))

    def resolve(self, tasks: Sequence[LLMTask[T]], done: Done[T], tick: Callable[[], None]) -> None:
        """Drive all tasks to their ends; call `tick` several times a second. An exception of `done` stops the rest."""
        self._run(self._ticking(self._drive_all(tasks, done), tick))

    def check(self, uses: Sequence[Use]) -> list[bool]:
        """Ask each model of an API for one token; see `preflight.require_answers`."""
        results: list[bool] = []

        async def ask() -> None:
            results.extend(await require_answers(self.client, uses))

        self._run(ask())
        return results

    def abilities(self, models: Sequence[str]) -> list[Abilities]:
        """Find out what each model of an API can do by a few requests; see `preflight.abilities_of`."""
        results: list[Abilities] = []

        async def ask() -> None:
            results.extend(await asyncio.gather(*(abilities_of(self.client, model) for model in models)))

        self._run(ask())
        return results

    async def _drive_all(self, tasks: Sequence[LLMTask[T]], done: Done[T]) -> None:
        if self._runtime.batch:
            from autointerp.llm.batches import drive_in_batches

            await drive_in_batches(tasks, done, self.client, self.provider_of, self._runtime.poll_seconds)
        else:
            await drive_live(tasks, done, self.client.answer, 2 * self._runtime.concurrency)

    async def _ticking(self, work: Coroutine[Any, Any, None], tick: Callable[[], None]) -> None:
        self._driving = asyncio.current_task()
        ticker = asyncio.create_task(_forever(tick))
        try:
            await work
        except (UserError, asyncio.CancelledError) as error:
            await self.client.drain(DRAIN_SECONDS if isinstance(error, UserError) else INTERRUPTED_SECONDS)
            raise
        finally:
            ticker.cancel()
            tick()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run on this resolver's event loop."""
        _apart(lambda: self._runner.run(work), self._interrupt)

    def _interrupt(self) -> None:
        """Cancel the tasks that are driven, from another thread than the event loop's."""
        if self._driving:
            self._runner.get_loop().call_soon_threadsafe(self._driving.cancel)

    def __enter__(self) -> "LiveResolver":
        self._exits.enter_context(rare_collections())
        self._exits.callback(_apart, self._runner.close)
        self._exits.callback(lambda: self._run(self._close()))
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    async def _close(self) -> None:
        await self.client.close()
        for provider in self._providers.values():
            await provider.close()


def _apart(work: Callable[[], None], interrupt: Callable[[], None] = lambda: None) -> None:
    """Run here, or in a thread of its own if the caller already runs an event loop (a notebook).

    Args:
        interrupt: makes the work end soon; called at Ctrl-C, which no other thread than the main one gets.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        work()
        return
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(work)
        try:
            ended.result()
        except KeyboardInterrupt:
            interrupt()
            raise


def make_provider(model: str, runtime: Runtime, limits: Limits) -> Provider:
    """Open a model by its spec; its SDK, or torch, loads only here. Raises UserError."""
    spec = specs.parse(model)
    return PROVIDERS.get(spec.provider).open(spec, runtime, limits)


async def drive_live(
    tasks: Sequence[LLMTask[T]], done: Done[T], answer: Callable[[Question], Awaitable[Answer]], at_once: int
) -> None:
    """Drive tasks with live answers, in their order, `at_once` of them at a time."""
    waiting = iter(enumerate(tasks))

    async def work() -> None:
        for index, task in waiting:
            done(index, await drive(task, answer))

    workers = [asyncio.create_task(work()) for _ in range(min(at_once, len(tasks)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()


async def drive(task: LLMTask[T], answer: Callable[[Question], Awaitable[Answer]]) -> T:
    """Drive one task to its end, with the questions of a round at once."""
    answers: tuple[Answer, ...] | None = None
    while not isinstance(questions := step(task, answers), Ended):
        answers = tuple(await asyncio.gather(*map(answer, questions)))
    return questions.value


async def _forever(tick: Callable[[], None]) -> None:
    while True:
        tick()
        await asyncio.sleep(TICK_SECONDS)
