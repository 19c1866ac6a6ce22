"""The pages in headless Chromium: what a reader does with mouse and keys."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autointerp.prompting import rules
from autointerp.prompting.predict_text import predict_fragments
from autointerp.prompting.rules import Rule
from autointerp.reporting.site.write import write_runs
from autointerp.scorers.slices import correlation
from tests.autointerp.reporting.site import made
from tests.autointerp.reporting.site.visits import (
    PAGES,
    Visit,
    browser,
    drawn,
    names,
    rows,
    site,
    until,
    violations,
    visit,
)

__all__ = ["browser", "site", "visit"]
slow = pytest.mark.slow


def test_the_leaderboard_sorts_filters_and_draws(visit: Visit) -> None:
    page = visit.open("index.html")
    assert [line[0] for line in rows(page)] == ["topk", "neurons"]
    head = page.locator("#board thead th").all_inner_texts()
    assert all(re.fullmatch(r"\W?\d\.\d\d", line[head.index("mismatched")]) for line in rows(page))
    assert page.locator("#board th[aria-sort=descending]").inner_text().startswith("score")
    page.get_by_role("button", name="dictionary").click()
    assert [line[0] for line in rows(page)] == ["neurons", "topk"]
    assert page.locator("#scores .name").all_text_contents() == ["neurons", "topk"]
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


def test_each_dictionary_has_the_chance_level_of_its_own_run(browser: Any, site: Path, tmp_path: Path) -> None:
    shutil.copytree(site, tmp_path / "pages")
    data = tmp_path / "pages/data/index.js"
    prefix, _, text = data.read_text("utf-8").partition("=")
    index = json.loads(text.strip().removesuffix(";"))
    column = index["board"]["columns"].index("chance")
    for row in index["board"]["rows"]:
        row[column] = (0.2, 0.25)[row[0]]
    data.write_text(f"{prefix}={json.dumps(index)}", "utf-8")
    visit = Visit(browser, tmp_path / "pages")
    page = visit.open("index.html")
    page.wait_for_selector("#scores .mean")
    assert "chance level 0.2, 0.25." in page.locator("#scores-caption").inner_text()
    ends = [(line.get_attribute("x1"), line.get_attribute("y2")) for line in page.locator("#scores .chance").all()]
    assert len(set(ends)) == len({x for x, _ in ends}) == 2
    visit.close()


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


def test_data_that_come_late_change_nothing(browser: Any, tmp_path: Path) -> None:
    """Another explainer's chunks come after a newer list was drawn: the first a filter's, then a plain list's."""
    one = made.run(3)
    results = {
        name: [own[0], replace(own[1], status="failed", explanation=replace(own[1].explanation, text="late"))]
        for name, own in one.results.items()
        if own[1].explanation
    }
    write_runs([replace(one, results=results)], tmp_path / "pages")
    opened = Visit(browser, tmp_path / "pages")
    held: list[Any] = []
    opened.page.route("**/list/1/*.js", lambda route: held.append(route))
    page = opened.open("features.html")
    before = names(page)
    for label, option in (("status", "failed"), ("explainer", "other"), ("status", "all"), ("explainer", "rules-5")):
        page.get_by_label(label).select_option(label=option)
    names(page)
    assert len(held) == 1
    held[0].continue_()
    page.wait_for_timeout(200)
    assert page.evaluate("Object.keys(data).includes('list/1/0')")
    assert names(page) == before
    assert "late" not in page.locator("#list").inner_text()
    assert page.evaluate("list.order.length") == len(before)
    opened.close()


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
    drawn(page, "features.html#1")
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


QUICK = [("index.html", "light"), ("features.html#1", "light")]
"""Pages and schemes that are looked at at every change."""
OTHERS = sorted({(name, scheme) for name in PAGES for scheme in ("light", "dark")} - {*QUICK})


@pytest.mark.parametrize(("name", "scheme"), [*QUICK, *(pytest.param(*one, marks=slow) for one in OTHERS)])
def test_axe_finds_no_violation(browser: Any, site: Path, name: str, scheme: str) -> None:
    opened = Visit(browser, site, color_scheme=scheme)
    page = opened.open(name)
    drawn(page, name)
    assert violations(page) == []
    opened.close()
