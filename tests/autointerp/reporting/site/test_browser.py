"""The pages in headless Chromium, from file://: what a reader does with mouse and keys, and that nothing else happens.

Needs the package playwright and Debian's chromium; axe-core's violations are looked for where AXE_CORE names its
axe.min.js (`npm pack axe-core`).
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autointerp.prompting import rules
from autointerp.prompting.predict_text import predict_fragments
from autointerp.prompting.rules import Rule
from autointerp.reporting.site.write import write_runs
from autointerp.scorers.slices import correlation
from tests.autointerp.reporting.site import made
from tests.conftest import make_once

slow = pytest.mark.slow
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not CHROMIUM:
    pytest.skip("no chromium here: apt-get install chromium", allow_module_level=True)
AXE = os.environ.get("AXE_CORE", "")
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
        self.page.set_default_timeout(15_000)
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
    end = time.monotonic() + 15
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


def test_the_leaderboard_sorts_filters_and_draws(visit: Visit) -> None:
    page = visit.open("index.html")
    assert [line[0] for line in rows(page)] == ["topk", "neurons"]
    head = page.locator("#board thead th").all_inner_texts()
    assert all(re.fullmatch(r"\W?\d\.\d\d", line[head.index("mismatched")]) for line in rows(page))
    page.get_by_role("button", name="dictionary").click()
    assert [line[0] for line in rows(page)] == ["neurons", "topk"]
    page.get_by_role("button", name="dictionary").click()
    assert [line[0] for line in rows(page)] == ["topk", "neurons"]
    assert page.locator("#board th[aria-sort=descending]").inner_text().startswith("dictionary")
    page.get_by_label("kind").select_option("neurons")
    assert [line[0] for line in rows(page)] == ["neurons"]
    assert page.locator("#scores .mean").count() == 1
    page.get_by_label("kind").select_option("")
    page.get_by_role("button", name="points").click()
    assert page.locator("#scores .point").count() == 120
    page.get_by_label("score", exact=True).select_option(label="detection")
    assert "chance level 0.5" in page.locator("#scores-caption").inner_text()
    page.get_by_label("x", exact=True).select_option(label="top")
    assert page.locator("#against .point").count() == 120


@slow
def test_a_point_opens_its_feature_by_click_and_by_keys(visit: Visit) -> None:
    page = visit.open("index.html")
    page.wait_for_selector("#against .point")
    page.locator("#against svg").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    title = page.locator("#tip div").first.inner_text()
    page.keyboard.press("Enter")
    page.wait_for_selector("#feature-view h1")
    assert page.locator("#feature-view h1").inner_text() == title
    page.go_back()
    page.locator("#against .point").nth(40).click(force=True)
    page.wait_for_selector("#feature-view h1")
    assert re.fullmatch(r"#\d+", page.evaluate("location.hash"))


@slow
def test_the_list_sorts_filters_and_searches(visit: Visit) -> None:
    page = visit.open("features.html")
    assert names(page)[:2] == ["topk/0", "topk/1"]
    assert page.locator("#count").inner_text() == "120 features"
    assert len(names(page)) == 100
    page.get_by_role("button", name="Next page").click()
    until(page, "document.querySelectorAll('#list tbody a').length === 20")
    page.get_by_role("button", name="population").click()
    page.wait_for_selector("#list th[aria-sort=descending]")
    assert names(page)[:2] == ["topk/59", "neurons/59"]
    page.get_by_label("dictionary", exact=True).select_option(label="neurons")
    until(page, "document.querySelector('#count').textContent === '60 of 120 features'")
    assert names(page)[:2] == ["neurons/59", "neurons/58"]
    page.keyboard.press("/")
    page.keyboard.type("number 7 ")
    until(page, "document.querySelectorAll('#list tbody a').length === 1")
    assert names(page) == ["neurons/7"]


def test_keys_alone_find_read_and_leave_a_feature(visit: Visit) -> None:
    page = visit.open("features.html")
    names(page)
    page.keyboard.press("/")
    page.keyboard.type("topk/1")
    until(page, "document.querySelectorAll('#list tbody a').length === 11")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#feature-view h1')?.textContent === 'topk/10'")
    page.keyboard.press("j")
    until(page, "document.querySelector('#feature-view h1').textContent === 'topk/11'")
    page.keyboard.press("ArrowLeft")
    until(page, "document.querySelector('#feature-view h1').textContent === 'topk/10'")
    page.locator(".excerpt").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip div").all_inner_texts() == [" cat", "activation 2", "predicted 5.0 of 10"]
    assert page.locator("#feature-view h1").inner_text() == "topk/10"
    page.keyboard.press("Escape")
    until(page, "document.activeElement.textContent === 'topk/10'")
    assert len(names(page)) == 11


@slow
def test_shading_order_and_neighbours_of_a_feature(visit: Visit) -> None:
    page = visit.open("features.html#1")
    page.wait_for_selector("#scored .token")
    token = page.locator("#scored .excerpt").first.locator(".token").nth(1)
    shade = "node => [node.dataset.shade, node.style.getPropertyValue('--v')]"
    assert token.evaluate(shade) == ["true", "100%"]  # 2.0 of 2.0
    page.get_by_role("button", name="predicted", exact=True).click()
    assert token.evaluate(shade) == ["over", "56%"]  # 5 of 10, from 12% for the least to 100%
    page.get_by_role("button", name="difference").click()
    assert token.evaluate(shade) == ["under", "56%"]
    token.hover()
    assert page.locator("#tip div").all_inner_texts() == [" cat", "activation 2", "predicted 5.0 of 10"]
    page.get_by_role("button", name="worst predicted first").click()
    about = page.locator("#scored .caption").all_inner_texts()
    assert [text.split(" · ")[0] for text in about] == ["Strongest", "At random", "Silent"]
    assert "detection: active (0.90)" in about[0]
    assert page.locator("details", has_text="% of tokens").count() > 5
    assert page.locator("#effect").inner_text().startswith("Loss without it: +0.2500 nats on its 3 active tokens.")
    assert page.locator("#effect .chip").all_inner_texts()[-2:] == ["␣on\u22120.2", "␣mat0.01"]
    link = page.locator(".near a").first
    link.click()
    until(page, "document.querySelector('#feature-view h1').textContent !== 'topk/1'")


@slow
def test_an_edited_rule_is_scored_as_python_scores_it(visit: Visit) -> None:
    page = visit.open("features.html#1")
    page.locator(".explanation summary").first.click()
    box = page.get_by_label("Explanation, to be edited").first
    named = [
        Rule("token", (" cat",), 8.0), Rule("pair", (" cat", " sat"), 9.0), Rule("after", ("\n",), 3.0),
        Rule("near", (" cat",), 1.5),
    ]  # fmt: skip
    for listed in (named, named[:1], named[3:], []):
        box.fill(rules.to_text(listed))
        edited = page.get_by_text("Edited:").first.inner_text()
        records = made.feature("topk", 1).score
        predicted = predict_fragments(listed, [record.tokens for record in records])
        top = correlation(records[0].activations, predicted[0])
        expected = 0.0 if top == "failed" else top
        assert f"top {expected:.3f}".replace("-", "\u2212") in edited
    box.fill("free prose")
    assert page.get_by_text("Not worded as token rules").first.is_visible()


@slow
def test_questions_and_answers_are_loaded_when_they_are_opened(visit: Visit) -> None:
    page = visit.open("features.html#1")
    page.locator(".explanation summary").first.click()
    assert not [url for url in visit.read if "/asked/" in url]
    page.get_by_text("Questions and answers").first.click()
    page.wait_for_selector(".explanation pre")
    assert page.locator(".explanation pre").all_inner_texts() == ["Which?\nnumber 1 of topk", '{"answers": [1]}']


@slow
def test_the_map_follows_the_search_and_opens_a_feature(visit: Visit) -> None:
    page = visit.open("features.html")
    page.wait_for_selector("#map .point")
    assert page.locator("#map .point").count() == 120
    page.locator("#map-colour").select_option("density")
    until(page, "document.querySelector('#map-note').textContent.includes('Orange')")
    page.fill("#search", "number 7 ")
    until(page, "document.querySelectorAll('#map .faded').length === 118")
    page.locator("#map svg").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    until(page, "/[/]7$/.test(document.querySelector('#feature-view h1')?.textContent)")


@slow
def test_a_touch_shows_both_numbers(browser: Any, site: Path) -> None:
    opened = Visit(browser, site, has_touch=True, viewport={"width": 390, "height": 800})
    page = opened.open("features.html#1")
    page.locator("#scored .token").nth(1).tap()
    assert page.locator("#tip div").all_inner_texts() == [" cat", "activation 2", "predicted 5.0 of 10"]
    page.locator("#scored h3").first.tap()
    assert page.locator("#tip").is_hidden()
    opened.close()


@slow
def test_the_theme_follows_the_system_and_the_switch(browser: Any, site: Path) -> None:
    opened = Visit(browser, site, color_scheme="dark")
    page = opened.open("index.html")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    page.get_by_role("button", name="Switch between").click()
    light = page.evaluate(colour)
    assert dark != light == "rgb(255, 255, 255)"
    opened.open("features.html")
    assert page.evaluate(colour) == light
    opened.close()


@slow
@pytest.mark.parametrize("width", [390, 1920])
@pytest.mark.parametrize("name", PAGES)
def test_every_page_fits_its_window_and_stays_where_it_is(browser: Any, site: Path, name: str, width: int) -> None:
    """Nothing moves although the page has been painted when its data come, each of them late."""
    opened = Visit(browser, site, viewport={"width": width, "height": 900})
    page = opened.page
    page.route("**/data/**", lambda route: (time.sleep(0.2), route.continue_()))
    page.add_init_script(
        "window.shift = 0; new PerformanceObserver((list) => { for (const one of list.getEntries()) window.shift += "
        "one.value; }).observe({ type: 'layout-shift', buffered: true });"
    )
    opened.open(name)
    drawn(page, name)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.shift") < 0.1
    opened.close()


def test_hostile_text_runs_nothing_and_is_shown(browser: Any, tmp_path: Path) -> None:
    write_runs([made.hostile()], tmp_path / "pages")
    opened = Visit(browser, tmp_path / "pages", viewport={"width": 390, "height": 800})
    for name in ("index.html", "run.html", "features.html", "features.html#0", "features.html#5"):
        page = opened.open(name)
        page.wait_for_timeout(500)
        assert page.evaluate("[window.hacked, document.querySelectorAll('img, iframe, main script').length]") == [
            None,
            0,
        ]
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x00]", page.evaluate("document.body.innerText"))
    tokens = page.locator(".excerpt").first.locator(".token").all_inner_texts()
    assert tokens[0] == made.HOSTILE[0]
    assert tokens[3:5] == ["\\u{202e}override\\u{202c}\\u{2066}", "\\u{0}\\u{7}\\u{1b}[31m"]
    assert tokens[5:7] == ["\\u{d800}", "\\u{2028}\\u{2029}"]
    assert tokens[8:12] == ["∅", "␣", "⏎", "⇥"]
    page.get_by_role("link", name="all features").click()
    assert len(names(page)) == 6
    opened.close()


@slow
def test_an_error_is_shown_with_its_reason(browser: Any, tmp_path: Path) -> None:
    write_runs([made.run(2, status="error")], tmp_path / "pages")
    opened = Visit(browser, tmp_path / "pages")
    page = opened.open("features.html#0")
    page.wait_for_selector(".explanation")
    assert page.get_by_text("simulation: no answer").first.is_visible()
    assert page.locator("#scored .excerpt").count() == 3
    assert page.get_by_role("button", name="predicted", exact=True).count() == 0
    page = opened.open("index.html")
    page.wait_for_selector("#scores text")
    assert "no score" in page.locator("#scores").inner_text()
    opened.close()


@slow
@pytest.mark.parametrize("state", ["unfinished", "empty"])
def test_runs_without_results_are_true_pages(browser: Any, tmp_path: Path, state: str) -> None:
    write_runs([getattr(made, state)()], tmp_path / "pages")
    opened = Visit(browser, tmp_path / "pages")
    page = opened.open("index.html")
    page.wait_for_selector("#scores > *")
    assert ("There are no results yet." in page.locator("#scores").inner_text()) == (state == "empty")
    page = opened.open("features.html")
    until(page, "document.querySelector('#count').textContent")
    assert page.locator("#count").inner_text() == ("0 features" if state == "empty" else "6 features")
    if state == "unfinished":
        assert page.locator("#list").inner_text().count("no result yet") == 4
        page = opened.open("features.html#1")
        page.wait_for_selector("text=There is no result of this feature yet.")
    opened.close()


@slow
def test_a_hundred_thousand_features(browser: Any, tmp_path: Path) -> None:
    write_runs([made.run(50_000, explainers=("rules-5",), with_population=False)], tmp_path / "pages")
    opened = Visit(browser, tmp_path / "pages")
    for name, ready in (("index.html", "#board tbody tr"), ("features.html", "#list tbody tr")):
        opened.read.clear()
        page = opened.open(name)
        page.wait_for_selector(ready)
        assert page.evaluate("performance.now()") < 2000
        assert sum(opened.read.values()) < 300_000
    page.get_by_role("button", name="population").click()
    page.wait_for_selector("#list th[aria-sort=descending]")
    first = names(page)[0]
    assert int(first.split("/")[1]) > 49_900  # scores are kept with four digits
    page.locator("#list tbody a").first.click()
    until(page, f"document.querySelector('#feature-view h1')?.textContent === '{first}'")
    opened.close()


@slow
@pytest.mark.skipif(not AXE, reason="AXE_CORE does not name axe.min.js")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_violation(browser: Any, site: Path, name: str, scheme: str) -> None:
    opened = Visit(browser, site, color_scheme=scheme)
    page = opened.open(name)
    drawn(page, name)
    page.evaluate(Path(AXE).read_text("utf-8"))
    violations = page.evaluate("axe.run(document, { preload: false }).then((found) => found.violations)")
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in violations] == []
    opened.close()
