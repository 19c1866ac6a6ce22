"""An edited explanation is scored by the run's own models: from the page's question to a fake API, by the real SDKs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from autointerp.records import FeatureResult
from autointerp.reporting.site.write import write
from autointerp.serving.pages import PagesApp
from autointerp.serving.server import App
from autointerp.store import RunFolder
from tests.autointerp.llm.conftest import Finished, finished, judged, sampled, server
from tests.autointerp.serving.conftest import say
from tests.fakes import FakeApis

__all__ = ["finished", "judged", "sampled", "server"]
Serve = Callable[[App], str]


@pytest.fixture
def run(finished: Finished, judged: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that two models explained and scored, whose answers no cache holds; they answer at another address now."""
    monkeypatch.setenv("AUTOINTERP_CACHE", str(tmp_path / "cache"))
    shutil.copytree(finished.session.folder / "one", tmp_path / "run")
    write([RunFolder(tmp_path / "run")], tmp_path / "run" / "site")
    return RunFolder(tmp_path / "run")


def served(run: RunFolder, serve: Serve) -> str:
    return serve(PagesApp(run.path / "site", [run]))


def scored(run: RunFolder) -> tuple[int, FeatureResult, str]:
    """The number of a feature that the models scored, its result and its explanation."""
    for n, result in enumerate(run.results()):
        if result.explanation and result.status == "ok":
            return n, result, result.explanation.text
    raise AssertionError("no feature has a score")


def ask(url: str, n: int, explainer: str, text: str, agreed: bool) -> Any:
    question = {"n": n, "explainer": explainer, "text": text, "agreed": agreed}
    return say(url + "score", json.dumps(question).encode(), Origin=f"http://{urlsplit(url).netloc}").json


def test_the_cost_is_asked_first_then_the_models_score(run: RunFolder, judged: FakeApis, serve: Serve) -> None:
    """The explanation of the run gets the run's scores again: asked anew, then from the cache, which costs nothing."""
    url = served(run, serve)
    n, result, text = scored(run)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    cost = ask(url, n, result.explainer, text, agreed=False)
    assert cost["calls"] > 0
    assert cost["cost"].startswith("about $")
    assert judged.calls() == []
    again = ask(url, n, result.explainer, text, agreed=True)
    assert again == {"scores": dict(result.scores), "errors": {}}
    assert len(judged.calls()) == cost["calls"]
    assert {call["model"] for call in judged.calls()} == {"gpt-4o-mini"}
    assert ask(url, n, result.explainer, text, agreed=False) == again
    assert len(judged.calls()) == cost["calls"]
    other = ask(url, n, result.explainer, "the token 'nowhere'", agreed=True)
    assert other["scores"].keys() == again["scores"].keys()
    assert other != again
    assert {path: path.read_bytes() for path in before} == before


def test_a_model_that_cannot_be_asked_is_one_line(
    run: RunFolder, serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("OPENAI_API_KEY", "AUTOINTERP_API_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # where no .env holds a key
    n, result, text = scored(run)
    reply = ask(served(run, serve), n, result.explainer, text, agreed=True)
    assert set(reply) == {"error"}
    assert "OPENAI_API_KEY" in reply["error"]
    assert "\n" not in reply["error"]
