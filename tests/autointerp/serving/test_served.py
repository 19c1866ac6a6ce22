"""What is served, in headless Chromium through Playwright: as reporting/site/visits.py."""

from collections.abc import Callable
from typing import Any

import pytest

from autointerp import ratings
from autointerp.reporting.site.write import write
from autointerp.serving.pages import PagesApp
from autointerp.serving.rating import RatingApp
from autointerp.serving.server import App
from autointerp.store import RunFolder
from tests.autointerp.llm.conftest import finished, judged, sampled, server
from tests.autointerp.reporting.site.visits import browser, violations
from tests.autointerp.serving.test_rescoring import ask, run, scored, served
from tests.fakes import FakeApis

__all__ = ["browser", "finished", "judged", "run", "sampled", "server"]
pytestmark = pytest.mark.slow
Serve = Callable[[App], str]


def test_a_served_page_scores_by_the_run(browser: Any, folder: RunFolder, serve: Serve) -> None:
    write([folder], folder.path / "site")
    url = serve(PagesApp(folder.path / "site", [folder]))
    page = browser.new_context().new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(url + "features.html#1")
    page.locator(".explanation summary").first.click()
    page.get_by_label("Explanation, to be edited").fill('Active on the token " cat" (10.0).')
    page.get_by_role("button", name="Score the edited explanation").click()
    page.get_by_text("top 1.000").last.wait_for()
    assert faults == []
    page.context.close()


def test_a_served_page_names_the_cost_then_asks_the_runs_models(
    browser: Any, run: RunFolder, judged: FakeApis, serve: Serve
) -> None:
    (n, result, _), url, edited = scored(run), served(run, serve), "the token 'nowhere'"
    page = browser.new_context().new_page()
    page.set_default_timeout(120_000)  # the SDKs are imported meanwhile
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(f"{url}features.html#{n}")
    page.locator(".explanation summary").first.click()
    page.get_by_label("Explanation, to be edited").fill(edited)
    page.get_by_role("button", name="Score the edited explanation").click()
    page.get_by_text("calls, about $").wait_for()
    assert judged.calls() == []
    page.get_by_role("button", name="Score at this cost").click()
    page.locator(".explanation .caption", has_text="detection").wait_for()
    assert judged.calls()
    scores = ask(url, n, result.explainer, edited, agreed=False)["scores"]  # from the cache
    shown = page.locator(".explanation .caption", has_text="detection").inner_text()
    assert f"detection {scores['detection']:.3f}" in shown
    assert faults == []
    page.context.close()


@pytest.mark.parametrize("width", [390, 1920])
def test_rating_by_keyboard(browser: Any, folder: RunFolder, serve: Serve, width: int) -> None:
    url = serve(RatingApp(folder, "rubric", ""))
    page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(url)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for digit in "3521":
        page.keyboard.press(digit)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    (kept,) = ratings.read(folder.path)
    assert kept.answers == {"confidence": 3, "activations": 5, "tokens": 2, "specificity": 1}
    assert "1 of 12 features" in page.locator("[role=status]").inner_text()
    with page.expect_navigation():
        page.keyboard.press("u")
    assert ratings.read(folder.path) == ()
    assert faults == []
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_rating_and_own_texts_are_accessible_and_have_the_switch(
    browser: Any, folder: RunFolder, serve: Serve, scheme: Any
) -> None:
    write([folder], folder.path / "site")
    pages = [serve(RatingApp(folder, "rubric", "")), serve(PagesApp(folder.path / "site", [folder])) + "try.html"]
    for url in pages:
        page = browser.new_context(color_scheme=scheme).new_page()
        page.goto(url)
        assert violations(page) == []
        colour = "getComputedStyle(document.body).backgroundColor"
        before = page.evaluate(colour)
        page.get_by_role("button", name="Switch between").click()
        assert page.evaluate(colour) != before
        page.context.close()
