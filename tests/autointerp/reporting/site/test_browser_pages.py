"""The pages in headless Chromium: they fit, and hold what is empty, wrong or much."""

import time
from pathlib import Path
from typing import Any

import pytest

from autointerp.reporting.site.write import write_runs
from tests.autointerp.reporting.site import made
from tests.autointerp.reporting.site.visits import PAGES, Visit, browser, drawn, names, site, until

__all__ = ["browser", "site"]
slow = pytest.mark.slow


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
    assert ("There are no results." in page.locator("#scores").inner_text()) == (state == "empty")
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
