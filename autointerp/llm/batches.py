"""Answers LLM tasks by provider batches, round by round: all open questions of a round are one batch per model.

A batch is recorded in the cache's `batches` folder before it is submitted, so that a run that is stopped while it is
under way finds it again. A batch's answers go to the cache, and only the rest is submitted again.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from autointerp.llm.ask import Ended, step
from autointerp.llm.cache import canonical, is_clean, key_of
from autointerp.llm.client import Client
from autointerp.llm.faults import CallError
from autointerp.llm.providers import Provider
from autointerp.llm.providers.batches import Batches, Lost, Outcome
from autointerp.llm.types import Answer, Completion, Failure, LLMTask, Question, Request
from autointerp.llm.waits import BatchState
from sae.common.errors import UserError
from sae.common.files import sha256_of, write_atomic

T = TypeVar("T")
SUBMISSIONS = 3
"""How often a request is submitted if its batches end without doing it."""
MOST_BYTES = 150_000_000
"""Bytes of requests in one batch: OpenAI takes files of 200 MB, Anthropic batches of 256 MB."""
REQUEST_FRAME = 1000
"""More bytes than a request has in a batch beside its texts: names, its key, the model."""
log = logging.getLogger(__name__)
NOT_DONE = CallError("transient", "not among its batch's results")


@dataclass(frozen=True)
class Entry:
    """Records one batch on disk."""

    judge: str
    """The model's spec; files of batches under way have this name."""
    tag: str
    keys: tuple[str, ...]
    submitted: float
    batch: str | None = None
    """The provider's id; None until the provider has answered the submission."""


class Ledger:
    """Keeps the records of the batches under way, a small file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, entry: Entry) -> None:
        """Record a batch, or what is new about it."""
        write_atomic(self._path(entry), json.dumps(asdict(entry)))

    def drop(self, entry: Entry) -> None:
        """Delete a batch's record."""
        self._path(entry).unlink(missing_ok=True)

    def entries(self) -> list[Entry]:
        """Read the records of all batches."""
        entries = map(self._read, sorted(self._folder.glob("*.json")))
        return [entry for entry in entries if entry is not None]

    @staticmethod
    def _read(path: Path) -> Entry | None:
        try:
            values = json.loads(path.read_text("utf-8"))
            return Entry(**values | {"keys": tuple(values["keys"])})
        except FileNotFoundError:  # deleted by another process just now
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}, the record of a batch under way, is damaged; look the batch up at the provider, delete this "
                "file, then run the same command"
            ) from error

    def _path(self, entry: Entry) -> Path:
        return self._folder / f"{entry.tag}.json"


async def drive_in_batches(
    tasks: Sequence[LLMTask[T]],
    done: Callable[[int, T], None],
    client: Client,
    provider_of: Callable[[Question], Provider],
    poll_seconds: float,
) -> None:
    """Drive all tasks in step, with one batch per model and round.

    Args:
        done: receives the index and the result of each task as it ends.
        poll_seconds: between two looks at a batch.
    """
    rounds = BatchRounds(client, provider_of, poll_seconds)
    answers: dict[int, tuple[Answer, ...] | None] = dict.fromkeys(range(len(tasks)))
    while answers:
        open_questions: dict[int, tuple[Question, ...]] = {}
        for index, last_answers in answers.items():
            questions = step(tasks[index], last_answers)
            if isinstance(questions, Ended):
                done(index, questions.value)
            else:
                open_questions[index] = questions
        replies = await rounds.answers(question for questions in open_questions.values() for question in questions)
        answers = {
            index: tuple(replies[question] for question in questions) for index, questions in open_questions.items()
        }


class BatchRounds:
    """Answers a round's questions: from the cache, from batches, and live where a model has no batches."""

    def __init__(self, client: Client, provider_of: Callable[[Question], Provider], poll_seconds: float) -> None:
        self._client, self._provider_of, self._poll_seconds = client, provider_of, poll_seconds
        self._ledger = Ledger(client.cache.path.parent / "batches")

    async def answers(self, questions: Iterable[Question]) -> dict[Question, Answer]:
        """Answer every distinct question."""
        answers: dict[Question, Answer] = {}
        missing: dict[str, dict[str, Request]] = {}
        live: list[Question] = []
        prepared = {question: self._client.settings.prepared(question) for question in questions}
        for question in dict.fromkeys(prepared.values()):
            key = self._key(question)
            known = self._client.known(key)
            if known is not None:
                self._client.tally.cached += 1
                answers[question] = self._client.priced(question, known)
            elif isinstance(question, Request) and not question.only_reads and self._provider_of(question).batches:
                missing.setdefault(question.model, {})[key] = question
            else:
                live.append(question)
        batches, replies = await asyncio.gather(
            asyncio.gather(*(self._submitted(model, requests) for model, requests in missing.items())),
            asyncio.gather(*map(self._client.answer, live)),
        )
        for outcomes, requests in zip(batches, missing.values(), strict=True):
            answers |= {requests[key]: self._answer(requests[key], outcome) for key, outcome in outcomes.items()}
        answers |= dict(zip(live, replies, strict=True))
        return {question: answers[each] for question, each in prepared.items()}

    def _key(self, question: Question) -> str:
        return key_of(canonical(question, self._provider_of(question).fingerprint))

    async def _submitted(self, model: str, requests: dict[str, Request]) -> dict[str, Outcome]:
        """Return every request's outcome: first from batches that are under way already, then from new ones."""
        api = self._provider_of(next(iter(requests.values()))).batches
        assert api is not None
        outcomes: dict[str, Outcome] = {}
        for entry in self._ledger.entries():
            if entry.judge == model and set(entry.keys) & set(requests):
                outcomes |= await self._collect(api, entry, requests)
        for _ in range(SUBMISSIONS):
            open_keys = [key for key in requests if _is_open(outcomes.get(key))]
            while open_keys:
                chunk, open_keys = await self._affordable(api, open_keys, requests)
                outcomes |= await self._new_batch(api, model, {key: requests[key] for key in chunk})
        return {key: outcomes.get(key, NOT_DONE) for key in requests}

    async def _affordable(
        self, api: Batches, keys: list[str], requests: Mapping[str, Request]
    ) -> tuple[list[str], list[str]]:
        """Split off as many keys as one batch may have and the budget allows.

        If that is none, wait for what other batches have reserved. Raises BudgetReached if that does not help.
        """
        budget, bounds = self._client.budget, [self._bound(requests[key]) for key in keys[: api.most]]
        budget.settle(await budget.reserve(bounds[0]), 0.0)
        left, room, chunk = budget.left, MOST_BYTES, list[str]()
        for key, bound in zip(keys, bounds, strict=False):
            left, room = left - bound, room - _size(requests[key])
            if chunk and min(left, room) < 0:  # the first one fits: it has been waited for
                break
            chunk.append(key)
        return chunk, keys[len(chunk) :]

    def _bound(self, request: Request) -> float:
        """Return the most that a request in a batch can cost in USD; 0 without a price."""
        return self._client.prices.bound(request, batch=True) or 0.0

    async def _new_batch(self, api: Batches, model: str, requests: dict[str, Request]) -> dict[str, Outcome]:
        tag = sha256_of(key.encode() for key in requests)[:32]
        entry = Entry(model, tag, tuple(requests), time.time())
        reserved = await self._client.budget.reserve(sum(map(self._bound, requests.values())))
        spent = 0.0
        try:
            self._ledger.write(entry)
            entry = await self._submit(api, entry, requests)
            outcomes = await self._collect(api, entry, requests)
            spent = sum(self._cost(requests[key], outcome) for key, outcome in outcomes.items())
        finally:
            self._client.budget.settle(reserved, spent)
        return outcomes

    async def _submit(self, api: Batches, entry: Entry, requests: dict[str, Request]) -> Entry:
        """Submit once: before a failed submission is repeated, look up whether the provider has the batch after all."""

        async def attempt() -> str:
            known = await self._find(api, entry) if tried else None
            tried.append(True)
            return known or await api.submit(requests, entry.tag)

        tried: list[bool] = []
        batch = await self._persistently(attempt)
        submitted = replace(entry, batch=batch)
        self._ledger.write(submitted)
        return submitted

    async def _collect(self, api: Batches, entry: Entry, requests: Mapping[str, Request]) -> dict[str, Outcome]:
        """Wait for a batch, keep its answers, and delete its record."""
        batch = entry.batch or await self._persistently(lambda: self._find(api, entry))
        if batch is None:  # it was never submitted
            self._ledger.drop(entry)
            return {}
        entry = replace(entry, batch=batch)
        self._ledger.write(entry)
        needed = {key: requests[key] for key in entry.keys if key in requests}
        try:
            await self._end_of(api, entry, batch)
            outcomes = await self._persistently(lambda: api.results(batch, needed))
        except Lost as error:
            log.warning("autointerp: %s; its requests are submitted again", error)
            outcomes = {}
        for key, outcome in outcomes.items():
            self._keep(key, needed[key], outcome)
        # The record stays while the batch has answers that this run does not need, for a run that does.
        if not outcomes or all(key in needed or self._client.known(key) for key in entry.keys):
            self._ledger.drop(entry)
        return outcomes

    async def _find(self, api: Batches, entry: Entry) -> str | None:
        """Find the id of a batch that may have been submitted; those of other records are not it."""
        others = {other.batch for other in self._ledger.entries() if other.batch}
        return await api.find(entry.tag, len(entry.keys), entry.submitted, others)

    async def _end_of(self, api: Batches, entry: Entry, batch: str) -> None:
        """Wait until a batch has ended. Raises UserError if the provider refused it."""
        waits = self._client.waits.batches
        try:
            while not (state := await self._persistently(lambda: api.progress(batch))).ended:
                waits[batch] = BatchState(state.done, state.total, entry.submitted)
                await asyncio.sleep(self._poll_seconds)
        finally:
            waits.pop(batch, None)
        if state.refused:
            self._ledger.drop(entry)
            raise UserError(
                f"{entry.judge}: batch {batch} was refused: {state.refused}; fix this, then run the same command"
            )

    def _keep(self, key: str, request: Request, outcome: Outcome) -> None:
        self._client.tally.calls += 1
        if isinstance(outcome, Completion):
            self._client.charge(request, outcome)
            if is_clean(outcome):
                form = canonical(request, self._provider_of(request).fingerprint)
                self._client.cache.put(key, form, outcome)
        elif outcome.may_cost:
            self._client.charge_unread(self._client.prices.bound(request, batch=True))

    def _cost(self, request: Request, outcome: Outcome) -> float:
        """Return what an outcome costs in USD; the most that it can cost where the answer is not read."""
        if isinstance(outcome, CallError):
            return self._bound(request) if outcome.may_cost else 0.0
        return self._client.priced(request, outcome).usage.cost_usd or 0.0

    def _answer(self, request: Request, outcome: Outcome) -> Answer:
        """Return a request's answer. Raises UserError if no request can be answered until the user does something."""
        if not isinstance(outcome, CallError):
            return self._client.priced(request, outcome)
        if outcome.kind == "fatal":
            raise UserError(str(outcome))
        return Failure(str(outcome))

    async def _persistently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._client.persistently(attempt)
        except Lost:
            raise
        except CallError as error:
            raise UserError(f"{error}; the batches keep running; run the same command to collect them") from error


def _is_open(outcome: Outcome | None) -> bool:
    return outcome is None or (isinstance(outcome, CallError) and outcome.kind in ("transient", "rate_limit"))


def _size(request: Request) -> int:
    """Return the bytes that a request has in a batch, at most."""
    texts = sum(len(json.dumps(message.content)) for message in request.messages)
    return texts + len(request.schema or "") + len(request.extra) + REQUEST_FRAME
