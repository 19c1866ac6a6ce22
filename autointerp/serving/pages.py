"""Serves the static pages, with a script that asks for the score of an edited explanation, and a page for own texts."""

from __future__ import annotations

import json
import mimetypes
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs

from pydantic import BaseModel, Field, ValidationError

from autointerp.records import FeatureId
from autointerp.reporting.site import tried
from autointerp.runs.rescore import Rescorer
from autointerp.runs.trying import Trier
from autointerp.serving.server import Reply
from autointerp.store import RunFolder
from sae.common.errors import UserError

SCRIPTS = Path(__file__).parent / "static"
OFFLINE, ONLINE = "default-src 'none';", "default-src 'none'; connect-src 'self';"
"""How the policy of the static pages begins, and how it does where they may ask this server."""
HTML = "text/html; charset=utf-8"


class Edited(BaseModel):
    """Describes an edited explanation, as the page sends it."""

    n: Annotated[int, Field(ge=0)]
    """The feature's number in the site."""
    explainer: str
    text: Annotated[str, Field(max_length=20_000)]
    agreed: bool
    """Whether the cost has been agreed to."""


class Asked(BaseModel):
    """Describes a text of the user's own, as its page sends it."""

    text: Annotated[str, Field(min_length=1, max_length=20_000)]
    run: Annotated[int, Field(ge=0)] = 0


class PagesApp:
    """Serves the pages in a folder, of runs whose features are numbered one after the other."""

    def __init__(self, folder: Path, runs: Sequence[RunFolder]) -> None:
        self._folder, self._names = folder.resolve(), [run.path.resolve().name for run in runs]
        self._rescorers, self._triers = [Rescorer(run) for run in runs], [Trier(run) for run in runs]
        self._working = threading.Lock()

    def get(self, path: str) -> Reply | None:
        """Return a page or another file of the folder."""
        if path == "static/serve.js":
            return Reply((SCRIPTS / "serve.js").read_bytes(), "text/javascript")
        if path == "try.html":
            return _html(tried.served_page(self._names))
        try:
            file = (self._folder / (path or "index.html")).resolve()
            if not file.is_relative_to(self._folder) or not file.is_file():
                return None
        except (OSError, ValueError):  # a name that no file can have: too long, or with a NUL
            return None
        content, kind = file.read_bytes(), mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        return Reply(_asking(content), HTML) if kind == "text/html" else Reply(content, kind)

    def post(self, path: str, body: bytes) -> Reply | None:
        """Score an edited explanation, or say first what that costs; or read a text."""
        with self._working:
            if path == "score":
                return self._answer(body)
            return self._read(body) if path == "try" else None

    def _answer(self, body: bytes) -> Reply:
        try:
            return _json(self._score(Edited.model_validate_json(body)))
        except ValidationError:
            return _json({"error": "not a question of these pages"}, 400)
        except UserError as error:
            return _json({"error": str(error)}, 409)

    def _score(self, edited: Edited) -> dict[str, object]:
        n = edited.n
        for rescorer in self._rescorers:
            if n < len(rescorer.ids):
                cost = rescorer.cost(n, edited.explainer, edited.text)
                if cost.calls and not edited.agreed:
                    return {"calls": cost.calls, "cost": cost.words}
                scored = rescorer.score(n, edited.explainer, edited.text, cost)
                return {"scores": scored.scores, "errors": scored.errors}
            n -= len(rescorer.ids)
        raise UserError(f"there is no feature {edited.n}")

    def _read(self, body: bytes) -> Reply:
        """Read a text with a run's model and dictionaries and return the page about it."""
        fields = parse_qs(body.decode("utf-8", "replace"))
        try:
            asked = Asked.model_validate({name: values[0] for name, values in fields.items()})
        except ValidationError:
            return _html(tried.served_page(self._names, error="give a text of at most 20,000 characters"), 400)
        if asked.run >= len(self._names):
            return _html(tried.served_page(self._names, text=asked.text, error="there is no such run"), 409)
        text = asked.text.replace("\r\n", "\n")  # as forms send the end of a line
        try:
            trial = self._triers[asked.run].try_text(text)
        except UserError as error:
            return _html(tried.served_page(self._names, asked.run, text, error=str(error)), 409)
        return _html(tried.served_page(self._names, asked.run, text, trial, self._numbers(asked.run)))

    def _numbers(self, run: int) -> dict[FeatureId, int]:
        """Return the numbers that a run's features have in the site."""
        first = sum(len(rescorer.ids) for rescorer in self._rescorers[:run])
        return {feature: first + n for n, feature in enumerate(self._rescorers[run].ids)}


def _asking(page: bytes) -> bytes:
    """Let a page ask this server, load the script that does, and link the page for own texts."""
    script = b'<script src="static/serve.js" defer></script>\n</body>'
    own_text = b'  <a href="try.html">Your text</a>\n  </nav>'
    online = page.replace(OFFLINE.encode(), ONLINE.encode(), 1).replace(b"</body>", script, 1)
    return online.replace(b"</nav>", own_text, 1)


def _html(page: str, status: int = 200) -> Reply:
    return Reply(page.encode("utf-8", "replace"), HTML, status)


def _json(value: dict[str, object], status: int = 200) -> Reply:
    return Reply(json.dumps(value).encode(), "application/json", status)
