"""Models are asked for a token before anything slow: dead servers, redirects, refused log-probabilities, abilities."""

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

import autointerp as package
from autointerp.api import check
from autointerp.llm.budget import BudgetReached
from autointerp.llm.efforts import RequestSettings
from autointerp.llm.faults import CallError, chain_of
from autointerp.llm.limits import Limits
from autointerp.llm.resolver import LiveResolver, make_provider
from autointerp.llm.types import Message, Request
from autointerp.llm.uses import Use
from autointerp.sections import Runtime
from sae.common.errors import UserError
from tests.autointerp.llm.conftest import EXPLAINER, KEY, SIMULATOR, RunSession
from tests.autointerp.llm.rubbish import answering, http
from tests.fakes import FakeApis

DEAD = "http://127.0.0.1:9/v1#m"


@pytest.fixture
def judged_session(session: RunSession, monkeypatch: pytest.MonkeyPatch) -> RunSession:
    for name, value in session.environment("cache").items():
        monkeypatch.setenv(name, value)
    return session


def resolver(folder: Path, *models: str, **runtime: Any) -> LiveResolver:
    return LiveResolver(models, Runtime(**runtime), folder, RequestSettings())


@pytest.mark.parametrize(
    ("model", "cause"), [(DEAD, "connection refused"), ("http://no-such-host.invalid/v1#m", "no address for this host")]
)
def test_a_dead_server_is_told_at_once_with_its_cause(
    model: str,
    cause: str,
    judged: FakeApis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)  # the waits of a run would be 4 minutes
    began = time.monotonic()
    changes = {"explainers": [EXPLAINER], "simulator": model}
    with pytest.raises(UserError) as caught:
        package.run("smoke", changes, out=tmp_path / "run")
    assert time.monotonic() - began < 120
    assert str(caught.value).startswith(f"{model}: ")
    assert cause in str(caught.value)
    assert "--no-check" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists(), "sampling had begun"


@pytest.mark.slow
def test_a_silent_server_is_told_soon(judged: FakeApis, tmp_path: Path) -> None:
    judged.configure(faults={"timeout": 1.0})
    began = time.monotonic()
    with resolver(tmp_path, SIMULATOR) as opened, pytest.raises(UserError, match="no answer in time"):
        opened.check([Use(SIMULATOR, "judging")])
    assert time.monotonic() - began < 60


def test_each_model_is_asked_once_and_one_that_is_busy_is_alive(
    judged: FakeApis,
    tmp_path: Path,
) -> None:
    with resolver(tmp_path, EXPLAINER, SIMULATOR) as opened:
        assert opened.check([Use(EXPLAINER, "explaining"), Use(SIMULATOR, "simulating", logprobs=True)]) == [True, True]
        assert [call["path"] for call in judged.calls()] in (
            ["/v1/messages", "/v1/chat/completions"], ["/v1/chat/completions", "/v1/messages"],
        )  # fmt: skip
        assert {tuple(sorted(body)) for body in judged.bodies().values()} == {
            ("max_tokens", "messages", "model"),
            ("logprobs", "max_completion_tokens", "messages", "model", "temperature", "top_logprobs"),
        }
        assert opened.tally.paid.cost_usd
        judged.configure(faults={"429": 1.0})
        assert opened.check([Use(SIMULATOR, "judging")]) == [True]


def test_the_check_keeps_to_the_budget(judged: FakeApis, tmp_path: Path) -> None:
    with resolver(tmp_path, SIMULATOR, max_cost=1e-9) as opened, pytest.raises(BudgetReached):
        opened.check([Use(SIMULATOR, "judging")])
    assert not judged.calls()


@pytest.mark.slow
def test_refused_log_probabilities_are_read_as_text_for_the_whole_run(
    judged_session: RunSession, caplog: pytest.LogCaptureFixture
) -> None:
    server = judged_session.server
    server.configure(refuses=["logprobs"])
    flags = ("--set", "runtime.check=true", "--set", "detection.logprobs=true", "--set", "controls=0")
    done = judged_session.run("asked", "--features", 1, *flags)
    assert done.returncode == 0, done.stderr
    assert caplog.text.count("openai/gpt-4o-mini refuses log-probabilities; its answers are read as text") == 1
    folder = judged_session.folder / "asked"
    about = json.loads((folder / "run.json").read_text())
    assert about["log_probabilities_refused_by"] == [SIMULATOR]
    assert about["config"]["simulation"]["method"] == "text"
    assert about["config"]["detection"]["logprobs"] is False
    assert "simulator/lines" not in {label.split("@")[0] for label in about["prompts"]}
    assert len([call for call in server.calls() if call["status"] == 400]) == 1
    (folder / "run.json").write_text(json.dumps(about | {"status": "scoring"}))
    again = judged_session.run("asked", "--features", 1, *flags)
    assert again.returncode == 0, again.stderr
    assert len([call for call in server.calls() if call["status"] == 400]) == 1, "it was remembered"


def test_a_server_without_json_schema_is_asked_without_one(
    judged: FakeApis,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    judged.configure(refuses=["response_format"])
    model = f"{judged.openai_url}#m"
    requests = [Request(model, (Message("user", f"{n}"),), 30, schema='{"type": "object"}') for n in range(3)]

    async def ask() -> list[str]:
        provider = make_provider(model, Runtime(), Limits(9))
        try:
            return [(await provider.complete(request)).text for request in requests]
        finally:
            await provider.close()

    assert all(asyncio.run(ask()))
    assert [call["status"] for call in judged.calls()] == [400, 200, 200, 200]
    assert caplog.text.count("takes no JSON schema") == 1


def test_abilities_are_found_out_by_asking(judged: FakeApis, tmp_path: Path) -> None:
    local = f"{judged.openai_url}#m"
    judged.configure(refuses=["response_format"])
    changes = {"explainers": [EXPLAINER, "openai/gpt-5.4"], "simulator": local, "scorers": ["simulation"]}
    claude, gpt, own = check("judged", changes)
    assert (claude.model, claude.schema, claude.logprobs, claude.echo) == (EXPLAINER, "yes", "-", "-")
    assert claude.efforts == {"off": "yes", "low": "-", "medium": "-", "high": "-"}
    assert (gpt.model, gpt.schema, gpt.logprobs, gpt.echo) == ("openai/gpt-5.4", "no", "yes", "-")
    assert set(gpt.efforts.values()) == {"yes"}
    assert (own.model, own.schema, own.logprobs, own.echo) == (local, "no", "yes", "yes")
    judged.configure(refuses=["reasoning_effort"])
    (own,) = check("judged", {"explainers": ["rules-5"], "simulator": local})
    assert set(own.efforts.values()) == {"no"}


def test_the_command_prints_a_row_per_model(session: RunSession) -> None:
    from tests.conftest import autointerp

    words = ("check", "smoke", "--explainer", EXPLAINER, "--simulator", SIMULATOR)
    done = autointerp(*words, cwd=session.folder, environment=session.environment("cache"))
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [EXPLAINER, "yes", "-", "-", "yes", "-", "-", "-"] in rows
    assert [SIMULATOR, "yes", "yes", "-", "yes", "-", "-", "-"] in rows
    assert done.stdout.splitlines()[-1] == f"next: autointerp run {' '.join(words[1:])} --dry-run"
    dead = autointerp("check", "--simulator", DEAD, "--explainer", DEAD, cwd=session.folder, environment={})
    assert (dead.returncode, dead.stderr.count("\n")) == (2, 1)
    assert "connection refused" in dead.stderr
    rules = autointerp("check", "demo", cwd=session.folder)
    assert "asks no model" in rules.stdout


async def redirected(location: str, status: int) -> tuple[CallError | None, list[str]]:
    """What a call comes to whose server redirects, and the paths that were asked there."""
    paths: list[str] = []

    def reply(path: str) -> bytes:
        paths.append(path)
        answer = {"choices": [{"finish_reason": "stop", "message": {"content": "so"}}], "usage": {}}
        if path.startswith("/new"):
            return http(json.dumps(answer).encode())
        return http(b"", status, b"location: " + location.encode())

    async with answering(reply) as url:
        provider = make_provider(f"{url}/v1#m", Runtime(), Limits(4))
        try:
            await provider.complete(Request("m", (Message("user", "secret prompt"),), 10))
        except CallError as error:
            return error, paths
        finally:
            await provider.close()
    return None, paths


def test_redirects_stay_at_the_host() -> None:
    for status in (301, 307, 308):
        error, paths = asyncio.run(redirected("http://user:pw@elsewhere.example/v1/chat/completions", status))
        assert error is not None
        assert error.kind == "fatal"
        assert "redirects to elsewhere.example, which is refused" in str(error)
        assert "pw" not in str(error)
        assert "\n" not in str(error)
        assert paths == ["/v1/chat/completions"]
    error, paths = asyncio.run(redirected("/new/path", 307))
    assert (error, paths) == (None, ["/v1/chat/completions", "/new/path"])
    error, paths = asyncio.run(redirected("/v1/chat/completions", 307))
    assert error is not None
    assert len(paths) == 6


def test_no_exception_of_an_sdk_shows_the_key(judged: FakeApis) -> None:
    judged.configure(key="another", echo_key=True)

    async def ask(model: str) -> None:
        provider = make_provider(model, Runtime(), Limits(4))
        try:
            await provider.complete(Request(model, (Message("user", "hello"),), 10))
        finally:
            await provider.close()

    for model in (EXPLAINER, SIMULATOR, f"{judged.openai_url}#m"):
        with pytest.raises(CallError) as caught:
            asyncio.run(ask(model))
        chain = chain_of(caught.value)
        assert len(chain) > 1
        for error in chain:
            assert KEY not in f"{error!r} {error} {vars(error)} {error.args}"


@pytest.mark.parametrize("key", ["sk-\n-key", "sk-schlüssel", "sk-\x00"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(
    key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.environ", {"OPENAI_API_KEY": key, "PATH": ""})
    with pytest.raises(UserError, match="OPENAI_API_KEY holds") as caught:
        make_provider("openai/m", Runtime(), Limits(1))
    assert "sk-" not in str(caught.value)
