"""Opens pages in headless Chromium, from file://, and looks at what happens there.

Needs the package playwright and Debian's chromium; axe-core's violations are looked for where the package
axe-playwright-python is installed, which brings it.
"""

import shutil
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from autointerp.reporting.site.write import write_runs
from tests.autointerp.reporting.site import made
from tests.conftest import make_once

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not CHROMIUM:
    pytest.skip("no chromium here: apt-get install chromium", allow_module_level=True)
AXE = find_spec("axe_playwright_python")
MOST_SECONDS = 120
"""A page that is not drawn by then hangs, however busy the machine is."""
PAGES = ("index.html", "features.html", "features.html#1", "run.html")
TITLES = {"index.html": "Leaderboard", "features.html": "Features", "features.html#1": "topk/1", "run.html": "What was"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_once(tmp_path_factory, "site", lambda folder: write_runs([made.run(60)], folder / "pages")) / "pages"


class Visit:
    """Opens pages and keeps what must not happen: errors, dialogs, requests for anything but files."""

    def __init__(self, browser: Any, folder: Path, **context: Any) -> None:
        self.folder, self.faults, self.read = folder, list[str](), dict[str, int]()
        self.page = browser.new_context(**context).new_page()
        self.page.set_default_timeout(MOST_SECONDS * 1000)
        self.page.on("console", lambda message: self.faults.append(message.text) if message.type != "log" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.faults.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        if url.startswith("file://"):
            path = Path(url.removeprefix("file://").split("#")[0])
            self.read[url] = path.stat().st_size
        elif url != "data:,":
            self.faults.append(url)

    def open(self, name: str) -> Any:
        self.page.goto(f"file://{self.folder}/{name}")
        return self.page

    def close(self) -> None:
        assert self.faults == []
        self.page.context.close()


@pytest.fixture
def visit(browser: Any, site: Path) -> Iterator[Visit]:
    opened = Visit(browser, site, viewport={"width": 1280, "height": 900})
    yield opened
    opened.close()


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true in the page, whose policy forbids playwright's own way to wait for that."""
    end = time.monotonic() + MOST_SECONDS
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(30)


def drawn(page: Any, name: str) -> None:
    """Wait until a page shows its data, and has been painted with them."""
    until(page, f"document.title.startsWith({TITLES[name]!r}) && document.documentElement.dataset.busy === undefined")
    page.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 100))))"
    )


def names(page: Any) -> list[str]:
    page.wait_for_selector("#list tbody tr")
    page.wait_for_selector("#list:not([aria-busy])")
    return [str(text) for text in page.locator("#list tbody a").all_inner_texts()]


def rows(page: Any) -> list[list[str]]:
    """The leaderboard's rows, cell by cell."""
    page.wait_for_selector("#board tbody tr")
    lines = page.locator("#board tbody tr").all()
    return [[str(cell) for cell in line.locator("th, td").all_inner_texts()] for line in lines]


def violations(page: Any) -> list[tuple[str, list[str]]]:
    """What axe-core finds on a page: the rules, each with the elements that break it."""
    if not AXE or not AXE.origin:
        pytest.skip("axe-core is not installed: pip install axe-playwright-python")
    page.evaluate((Path(AXE.origin).parent / "axe.min.js").read_text("utf-8"))
    every = page.evaluate("axe.run(document, { preload: false }).then((found) => found.violations)")
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in every]
