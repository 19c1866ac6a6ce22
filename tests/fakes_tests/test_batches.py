"""The fake APIs' batches through the real SDKs."""

import json
from typing import Any

import anthropic
import openai
import pytest

from tests.fakes import FakeApis
from tests.fakes_tests.calls import anthropic_client, openai_client, run


def anthropic_items(*names: str) -> list[Any]:
    params = {"model": "m", "max_tokens": 100}
    return [{"custom_id": name, "params": params | {"messages": [{"role": "user", "content": name}]}} for name in names]


def test_an_anthropic_batch_from_creation_to_results() -> None:
    names = [f"item-{i}" for i in range(40)]

    async def create(server: FakeApis) -> str:
        async with anthropic_client(server) as client:
            batch = await client.messages.batches.create(requests=anthropic_items(*names))
            assert (batch.processing_status, batch.request_counts.processing) == ("in_progress", 40)
            return batch.id

    async def collect(server: FakeApis, name: str) -> None:
        async with anthropic_client(server) as client:
            batch = await client.messages.batches.retrieve(name)
            assert batch.processing_status == "ended"
            results = [result async for result in await client.messages.batches.results(name)]
        assert all(result.custom_id != name for result, name in zip(results, names, strict=True))
        kinds = {result.custom_id: result.result.type for result in results}
        assert set(kinds) == set(names)
        assert set(kinds.values()) == {"succeeded", "errored", "expired"}
        counts = batch.request_counts
        assert counts.succeeded == list(kinds.values()).count("succeeded")
        assert counts.succeeded + counts.errored + counts.expired == 40
        errors = {result.result.error.error.type for result in results if result.result.type == "errored"}
        assert errors == {"api_error", "invalid_request_error"}

    with FakeApis(batch_seconds=60, batch_faults={"errored": 0.2, "expired": 0.2, "invalid": 0.2}) as server:
        name = run(create(server))
        server.configure(batch_seconds=0)
        run(collect(server, name))


def test_anthropic_batches_listed_canceled_and_refused() -> None:
    async def story(server: FakeApis) -> None:
        async with anthropic_client(server) as client:
            batches = client.messages.batches
            ids = [(await batches.create(requests=anthropic_items("a", "b"))).id for _ in range(3)]
            page = await batches.list(limit=2)
            assert ([each.id for each in page.data], page.has_more) == ([ids[2], ids[1]], True)
            assert [each.id async for each in batches.list(limit=2)] == ids[::-1]
            assert (await batches.cancel(ids[0])).processing_status == "canceling"
            assert (await batches.retrieve(ids[0])).request_counts.canceled == 2
            assert [each.result.type async for each in await batches.results(ids[0])] == ["canceled"] * 2
            for wrong in (["a", "a"], ["a b"], ["x" * 65], []):
                with pytest.raises(anthropic.BadRequestError, match="requests"):
                    await batches.create(requests=anthropic_items(*wrong))
            with pytest.raises(anthropic.NotFoundError):
                await batches.retrieve("msgbatch_nowhere")

    with FakeApis(batch_seconds=60) as server:
        run(story(server))


def openai_lines(*names: str, model: str = "m") -> bytes:
    endpoint = {"method": "POST", "url": "/v1/chat/completions"}
    bodies = {name: {"model": model, "messages": [{"role": "user", "content": name}]} for name in names}
    return b"".join(
        json.dumps({"custom_id": name, "body": body} | endpoint).encode() + b"\n" for name, body in bodies.items()
    )


async def openai_batch(client: openai.AsyncOpenAI, lines: bytes) -> openai.types.Batch:
    file = await client.files.create(file=("requests.jsonl", lines), purpose="batch")
    assert (await client.files.content(file.id)).content == lines
    endpoint: Any = "/v1/chat/completions"
    return await client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", metadata={"run": "7"}
    )


async def read_jsonl(client: openai.AsyncOpenAI, name: str | None) -> list[Any]:
    assert name is not None
    return [json.loads(line) for line in (await client.files.content(name)).text.splitlines()]


def test_an_openai_batch_from_file_to_files() -> None:
    names = [f"item-{i}" for i in range(40)]

    async def story(server: FakeApis) -> None:
        async with openai_client(server) as client:
            batch = await openai_batch(client, openai_lines(*names))
            assert (batch.status, batch.metadata) == ("validating", {"run": "7"})
        server.configure(batch_seconds=0)
        async with openai_client(server) as client:
            done = await client.batches.retrieve(batch.id)
            assert done.status == "completed"
            output, errors = [await read_jsonl(client, name) for name in (done.output_file_id, done.error_file_id)]
            assert [each.id async for each in client.batches.list()] == [batch.id]
        assert sorted(line["custom_id"] for line in output + errors) == sorted(names)
        assert (done.request_counts.completed, done.request_counts.failed) == (len(output), len(errors))
        assert output[0]["response"]["body"]["choices"][0]["message"]["content"].startswith("echo ")
        assert {line["response"]["status_code"] for line in errors} == {400, 500}

    with FakeApis(batch_seconds=600, batch_faults={"errored": 0.2, "invalid": 0.2}) as server:
        run(story(server))


def test_openai_batches_that_expire_fail_or_are_cancelled() -> None:
    async def story(server: FakeApis) -> None:
        async with openai_client(server) as client:
            expired = await openai_batch(client, openai_lines("a", "b"))
            assert (expired.status, expired.output_file_id) == ("expired", None)
            errors = await read_jsonl(client, expired.error_file_id)
            assert {(line["error"]["code"], line["response"]) for line in errors} == {("batch_expired", None)}
            for lines, code in (
                (openai_lines("a") + openai_lines("a"), "duplicate_custom_id"),
                (openai_lines("a") + openai_lines("b", model="other"), "mismatched_model"),
                (b"{\n", "invalid_json_line"),
            ):
                failed = await openai_batch(client, lines)
                assert (failed.status, failed.errors.data[0].code) == ("failed", code)
            server.configure(batch_seconds=60)
            running = await openai_batch(client, openai_lines("a", "b"))
            assert (await client.batches.cancel(running.id)).status == "cancelling"
            assert (await client.batches.retrieve(running.id)).status == "cancelled"
            assert (await client.models.list()).data[0].object == "model"

    with FakeApis(batch_faults={"expired": 1}) as server:
        run(story(server))


def test_a_batch_whose_creation_went_unanswered_exists() -> None:
    async def story(server: FakeApis) -> None:
        async with anthropic_client(server) as client:
            with pytest.raises(anthropic.APIConnectionError):
                await client.messages.batches.create(requests=anthropic_items("a"))
            server.configure(faults={})
            assert len((await client.messages.batches.list()).data) == 1

    with FakeApis(faults={"drop": 1}, faults_on="everything") as server:
        run(story(server))
