"""Fixtures for whole runs with judges: records sampled once, the fake server scripted for our prompts."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autointerp.store import LOG
from tests.conftest import autointerp, make_once
from tests.fakes import FakeApis

KEY = "sk-test-0123456789abcdef"
EXPLAINER, SIMULATOR = "anthropic/claude-haiku-4-5", "openai/gpt-4o-mini"
JUDGED = (
    "run", "smoke", "--explainer", EXPLAINER, "--simulator", SIMULATOR, "--scorers", "simulation,detection",
    "--features", "3", "--baselines", "neurons", "--set", "sampling.score.inactive=5",
    "--set", "sampling.score.weighted=2", "--set", "sampling.score.top=2", "--set", "sampling.score.random=2",
    "--set", "runtime.first_wait=0.001",
    "--set", "explanation.max_tokens=100", "--set", "simulation.reasoning_tokens=0",
    "--set", "judgement.reasoning_tokens=0", "--no-check",
    "--set", "runtime.pictures=[]", "--no-site",
)  # fmt: skip
"""A run of 192 calls."""


@pytest.fixture(scope="session")
def sampled(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A run folder with the records of JUDGED and no results: made by a dry run, without a key."""

    def make(folder: Path) -> None:
        done = autointerp(*JUDGED, "--out", folder / "run", "--dry-run", cwd=folder)
        assert done.returncode == 0, done.stderr

    return make_once(tmp_path_factory, "sampled", make) / "run"


@pytest.fixture
def server() -> Iterator[FakeApis]:
    with FakeApis(script="tests.autointerp.llm.judge", key=KEY) as running:
        yield running


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApis]:
    """A server without a script of ours, and the environment that leads to it."""
    with FakeApis() as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test-key")
        monkeypatch.setenv("OPENAI_API_KEY", "test-key")
        yield server


@pytest.fixture
def judged(server: FakeApis, monkeypatch: pytest.MonkeyPatch) -> FakeApis:
    for variable, value in (("ANTHROPIC_BASE_URL", server.url), ("OPENAI_BASE_URL", server.openai_url)):
        monkeypatch.setenv(variable, value)
    for variable in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "AUTOINTERP_API_KEY"):
        monkeypatch.setenv(variable, KEY)
    return server


class RunSession:
    """Runs of one config against one server, each from the sampled records, in its own folder and cache."""

    def __init__(self, server: FakeApis | None, sampled: Path, folder: Path) -> None:
        self._server, self._sampled, self.folder = server, sampled, folder

    @property
    def server(self) -> FakeApis:
        assert self._server is not None
        return self._server

    def environment(self, cache: str) -> dict[str, str]:
        """Return this process's with the server's addresses and a cache without answers, but with the toy subject."""
        for made in ("dictionaries", "subjects", "tokens"):
            link = self.folder / cache / made
            if not link.exists():
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(Path(os.environ["AUTOINTERP_CACHE"], made))
        return os.environ | {
            "ANTHROPIC_BASE_URL": self.server.url, "OPENAI_BASE_URL": self.server.openai_url,
            "ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY, "AUTOINTERP_CACHE": str(self.folder / cache),
        }  # fmt: skip

    def prepare(self, out: str) -> Path:
        """The run folder, with records."""
        path = self.folder / out
        if not path.exists():
            shutil.copytree(self._sampled, path)
        return path

    def command(self, out: str, *flags: object) -> list[str]:
        """Other features than the fixture's are sampled again."""
        path = self.folder / out if "--features" in flags else self.prepare(out)
        return [sys.executable, "-m", "autointerp", *map(str, (*JUDGED, "--out", path, *flags))]

    def run(
        self, out: str, *flags: object, cache: str = "cache", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end in this process; `command` and `environment` are for a process of its own."""
        _, _, _, *arguments = self.command(out, *flags)
        return autointerp(*arguments, cwd=self.folder, environment=self.environment(cache) | environment)

    def results(self, out: str) -> dict[str, dict[str, Any]]:
        """By feature."""
        lines = (self.folder / out / "results.jsonl").read_text("utf-8").split("\n")[:-1]
        rows = [json.loads(line) for line in lines]
        return {f"{row['feature']['dictionary']}/{row['feature']['index']}": row for row in rows}

    def files(self, out: str) -> dict[str, bytes]:
        """All files but the log."""
        files = [path for path in (self.folder / out).rglob("*") if path.is_file() and path.name != LOG]
        return {path.name: path.read_bytes() for path in files}


@pytest.fixture
def session(server: FakeApis, sampled: Path, tmp_path: Path) -> RunSession:
    return RunSession(server, sampled, tmp_path)


@dataclass(frozen=True)
class Finished:
    """Holds an undisturbed run of JUDGED, shared by all workers: nothing in its folder may be changed."""

    session: RunSession
    """Its run is `one`, its cache `cache`; its server is gone."""
    estimate: str
    """What a dry run printed before."""
    calls: list[dict[str, Any]]
    addresses: dict[str, str]
    """Environment variables with the addresses of its server, which answers no more."""

    def copy_cache(self, to: Path) -> None:
        """Copy the answers into another session's folder."""
        shutil.copytree(self.session.folder / "cache", to, symlinks=True)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, sampled: Path) -> Finished:
    def make(folder: Path) -> None:
        with FakeApis(script="tests.autointerp.llm.judge", key=KEY) as server:
            session = RunSession(server, sampled, folder)
            estimate = session.run("one", "--dry-run")
            assert not server.calls()
            done = session.run("one")
            assert (estimate.returncode, done.returncode) == (0, 0), estimate.stderr + done.stderr
            addresses = {"ANTHROPIC_BASE_URL": server.url, "OPENAI_BASE_URL": server.openai_url}
            (folder / "about.json").write_text(json.dumps([estimate.stdout, server.calls(), addresses]))

    folder = make_once(tmp_path_factory, "finished", make)
    return Finished(RunSession(None, sampled, folder), *json.loads((folder / "about.json").read_text()))
