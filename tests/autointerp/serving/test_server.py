"""The loopback server: who is refused, what pages may do, what an edited explanation scores."""

import html
import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from autointerp.reporting.site.write import write
from autointerp.runs.rescore import Cost, Rescorer
from autointerp.serving.pages import PagesApp
from autointerp.serving.server import LONGEST_BODY, App, LoopbackServer
from autointerp.store import RunFolder
from tests.autointerp.serving.conftest import say

Serve = Callable[[App], str]


@pytest.fixture
def url(folder: RunFolder, serve: Serve) -> str:
    write([folder], folder.path / "site")
    return serve(PagesApp(folder.path / "site", [folder]))


def test_only_whoever_has_the_token_gets_pages(url: str) -> None:
    parts = urlsplit(url)
    assert parts.hostname == "127.0.0.1"
    assert len(parts.path) > 30
    assert say(url).status == 200
    for path in ("/", "/index.html", "/x" + parts.path[2:], parts.path.upper()):
        assert say(f"http://{parts.netloc}{path}").status == 404, path


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "evil.example:80", ""])
def test_a_foreign_host_is_refused(url: str, host: str) -> None:
    assert say(url, Host=host).status == 403


def test_a_foreign_origin_is_refused(url: str) -> None:
    own = f"http://{urlsplit(url).netloc}"
    question = json.dumps({"n": 0, "explainer": "rules-5", "text": "x", "agreed": False}).encode()
    assert say(url, Origin="https://evil.example").status == 403
    assert say(url, Origin=own).status == 200
    for origin in ("https://evil.example", "null", own.replace("http", "https")):
        assert say(url + "score", question, Origin=origin).status == 403
    assert say(url + "score", question).status == 403  # no page of ours asks without an origin
    assert say(url + "score", question, Origin=own).status == 200


@pytest.mark.parametrize(
    "path",
    ["../run.json", "..%2frun.json", "static/../../run.json", "%2fetc%2fpasswd", "data", "a%00b", "a" * 5000],
)
def test_nothing_beside_the_pages_is_served(url: str, path: str) -> None:
    assert say(url + path).status == 404


def test_pages_may_ask_this_server_and_nobody_else(url: str) -> None:
    page = say(url + "features.html")
    assert "default-src 'none'; connect-src 'self'; script-src 'self'" in page.text
    assert 'src="static/serve.js"' in page.text
    assert "fetch(" in say(url + "static/serve.js").text
    assert page.headers["X-Frame-Options"] == "DENY"


def test_a_page_of_many_files_connects_while_the_server_is_busy(folder: RunFolder) -> None:
    with LoopbackServer(PagesApp(folder.path, [folder])) as server, ExitStack() as open_:
        for _ in range(40):  # nobody accepts them yet
            connection = socket.create_connection(("127.0.0.1", urlsplit(server.url).port), timeout=0.5)
            open_.enter_context(connection)


def test_a_question_that_is_too_long_or_no_question_is_refused(url: str) -> None:
    own = f"http://{urlsplit(url).netloc}"
    assert say(url + "score", b"x" * (LONGEST_BODY + 1), Origin=own).status == 413
    for wrong in (b"", b"[]", b'{"n": -1}', b"\xff"):
        assert say(url + "score", wrong, Origin=own).status == 400
    assert say(url + "other", b"{}", Origin=own).status == 404


def test_an_edited_explanation_gets_the_scores_of_a_run(url: str) -> None:
    """The texts of these features are the same eight tokens, active on ` cat`."""
    own = f"http://{urlsplit(url).netloc}"

    def scores(text: str, n: int = 0, explainer: str = "rules-5") -> dict[str, dict[str, float | str]]:
        question = {"n": n, "explainer": explainer, "text": text, "agreed": False}
        return dict(say(url + "score", json.dumps(question).encode(), Origin=own).json)

    right = scores('Active on the token " cat" (10.0).')
    assert right["scores"]["simulation/top"] == pytest.approx(1.0)
    assert scores('Active on the token "the" (10.0).')["scores"]["simulation/top"] == pytest.approx(-1 / 7)
    assert "does not begin with" in str(scores("free prose")["errors"])
    assert "no feature 12" in str(scores("x", 12))
    assert "no explainer" in str(scores("x", 0, "other"))


def test_money_is_asked_for_first(
    folder: RunFolder, serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    costs: list[bool] = []
    monkeypatch.setattr(Rescorer, "cost", lambda *_: Cost(3, 0.01, 0.02))
    monkeypatch.setattr(Rescorer, "score", lambda *_: costs.append(True))
    write([folder], tmp_path / "site")
    url = serve(PagesApp(tmp_path / "site", [folder]))
    question = json.dumps({"n": 0, "explainer": "rules-5", "text": "x", "agreed": False}).encode()
    said = say(url + "score", question, Origin=f"http://{urlsplit(url).netloc}").json
    assert said == {"calls": 3, "cost": "about $0.0100, at most $0.0200"}
    assert costs == []


def test_a_text_that_cannot_be_read_says_why_on_the_page(url: str) -> None:
    own = f"http://{urlsplit(url).netloc}"
    page = say(url + "index.html").text
    assert '<a href="try.html">Your text</a>' in page
    form = say(url + "try.html").text
    assert "form-action 'self'" in html.unescape(form)
    for body, status in ((b"text=%3Cscript%3E&run=7", 409), (b"text=%3Cscript%3E", 409), (b"text=", 400), (b"", 400)):
        said = say(url + "try", body, Origin=own)
        assert (said.status, "<script>" in said.text, 'role="alert"' in said.text) == (status, False, True), said.text
    assert say(url + "try", b"text=x").status == 403
