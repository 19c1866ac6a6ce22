"""Serves the static pages, with a script that asks for the score of an edited explanation."""

from __future__ import annotations

import json
import mimetypes
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from autointerp.runs.rescore import Rescorer
from autointerp.serving.server import Reply
from sae.common.errors import UserError

SCRIPTS = Path(__file__).parent / "static"
OFFLINE, ONLINE = "default-src 'none';", "default-src 'none'; connect-src 'self';"
"""How the policy of the static pages begins, and how it does where they may ask this server."""


class Edited(BaseModel):
    """Describes an edited explanation, as the page sends it."""

    n: Annotated[int, Field(ge=0)]
    """The feature's number in the site."""
    explainer: str
    text: Annotated[str, Field(max_length=20_000)]
    agreed: bool
    """Whether the cost has been agreed to."""


class PagesApp:
    """Serves the pages in a folder, of runs whose features are numbered one after the other."""

    def __init__(self, folder: Path, rescorers: Sequence[Rescorer]) -> None:
        self._folder, self._rescorers = folder.resolve(), rescorers
        self._scoring = threading.Lock()

    def get(self, path: str) -> Reply | None:
        """Return a page or another file of the folder."""
        if path == "static/serve.js":
            return Reply((SCRIPTS / "serve.js").read_bytes(), "text/javascript")
        file = (self._folder / (path or "index.html")).resolve()
        if not file.is_relative_to(self._folder) or not file.is_file():
            return None
        content, kind = file.read_bytes(), mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        return Reply(_asking(content), "text/html; charset=utf-8") if kind == "text/html" else Reply(content, kind)

    def post(self, path: str, body: bytes) -> Reply | None:
        """Score an edited explanation, or say first what that costs."""
        if path != "score":
            return None
        try:
            edited = Edited.model_validate_json(body)
            with self._scoring:
                return _json(self._score(edited))
        except ValidationError:
            return _json({"error": "not a question of these pages"}, 400)
        except UserError as error:
            return _json({"error": str(error)}, 409)

    def _score(self, edited: Edited) -> dict[str, object]:
        n = edited.n
        for rescorer in self._rescorers:
            if n < rescorer.n_features:
                cost = rescorer.cost(n, edited.explainer, edited.text)
                if cost.calls and not edited.agreed:
                    return {"calls": cost.calls, "cost": cost.words}
                scored = rescorer.score(n, edited.explainer, edited.text, cost)
                return {"scores": scored.scores, "errors": scored.errors}
            n -= rescorer.n_features
        raise UserError(f"there is no feature {edited.n}")


def _asking(page: bytes) -> bytes:
    """Let a page ask this server, and load the script that does."""
    script = b'<script src="static/serve.js" defer></script>\n</body>'
    return page.replace(OFFLINE.encode(), ONLINE.encode(), 1).replace(b"</body>", script, 1)


def _json(value: dict[str, object], status: int = 200) -> Reply:
    return Reply(json.dumps(value).encode(), "application/json", status)
