"""Rating by a person: blinded, resumed, summed up; the browser is in reporting/site/test_browser.py."""

import json
import re
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

import pytest

from autointerp import ratings
from autointerp.ratings import Rating
from autointerp.reporting import human
from autointerp.serving.rating import RatingApp, key_of
from autointerp.serving.server import App
from autointerp.store import RATINGS, RunFolder
from sae.common.errors import UserError
from tests.autointerp.serving.conftest import Said, say
from tests.conftest import autointerp

Serve = Callable[[App], str]
GOOD = {"confidence": "3", "activations": "5", "tokens": "2", "specificity": "1"}


def send(url: str, path: str, **answers: str) -> Said:
    return say(url + path, urlencode(answers).encode(), Origin=f"http://{urlsplit(url).netloc}")


def item(page: Said) -> str:
    found = re.search(r'name="item" value="(\w+)"', page.text)
    assert found
    return found[1]


def test_answers_are_kept_one_by_one_and_resume(folder: RunFolder, serve: Serve) -> None:
    url = serve(RatingApp(folder, "rubric", ""))
    first = item(say(url))
    said = send(url, "rate", item=first, **GOOD)
    assert (said.status, said.headers["Location"]) == (303, "./")
    (kept,) = ratings.read(folder.path)
    assert kept.score == pytest.approx((3 + 5 + 2 + 1) / (3 + 5 + 3 + 3))
    send(url, "rate", item=first, **GOOD)  # sent twice
    send(url, "rate", item=item(say(url)), **(GOOD | {"tokens": "4"}))  # no such answer
    send(url, "rate", item=item(say(url)), confidence="3")  # not whole
    assert len(ratings.read(folder.path)) == 1
    again = RatingApp(folder, "rubric", "")
    assert len(again.left) == 11
    assert key_of(again.left[0]) == item(say(url)) != first
    assert len(RatingApp(folder, "rubric", "anna").left) == 12
    send(url, "undo")
    assert ratings.read(folder.path) == ()
    assert folder.damaged() == []


def test_the_page_does_not_say_which_dictionary(folder: RunFolder, serve: Serve) -> None:
    url, seen = serve(RatingApp(folder, "rubric", "")), list[str]()
    for _ in range(12):
        page = say(url)
        explained = re.search(r'class="claim">(.*?)<', page.text)
        assert explained
        assert not re.search("topk|neurons", page.text.replace(explained[1], ""))  # these explanations name it
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
        send(url, "rate", item=item(page), **GOOD)
        seen.append(ratings.read(folder.path)[-1].dictionary)
    assert sorted(set(seen)) == ["neurons", "topk"]
    assert seen != sorted(seen)
    assert seen != sorted(seen, reverse=True)
    assert "Every feature is rated" in say(url).text


def test_an_intruder_is_right_or_wrong(folder: RunFolder, serve: Serve) -> None:
    with pytest.raises(UserError, match="no feature that can be rated by intruder"):
        RatingApp(folder, "intruder", "")  # two active texts each: too few


def rating(dictionary: str, feature: int, score: float, task: str = "rubric", rater: str = "") -> Rating:
    values = {"task": task, "rater": rater, "dictionary": dictionary, "feature": feature, "explainer": "rules-5"}
    return Rating.model_validate(values | {"answers": {}, "score": score})


def test_human_scores_stand_on_the_leaderboard(folder: RunFolder) -> None:
    said = [rating("topk", number, number / 10) for number in range(4)]
    said += [rating("topk", 3, 0.5, rater="anna"), rating("neurons", 0, 1.0)]
    ratings.write(folder.path, said)
    scores, agreement = human.tables_of(folder)
    assert scores.rows == [["topk", "rubric", "0.18", "0.00 to 0.56", "4"], ["neurons", "rubric", "1.00", "-", "1"]]
    by_name = {row[0]: row[1:] for row in agreement.rows}
    assert by_name["simulation/top"] == ["rubric", "0.21", "5"]  # ranks 1.5 3 4 5 1.5 of the scores, 1 to 5 of people
    shown = autointerp("leaderboard", folder.path, cwd=folder.path)
    assert "rank correlation" in shown.stdout
    assert autointerp("browse", folder.path, cwd=folder.path).returncode == 0
    assert "Human ratings" in (folder.path / "site" / "index.html").read_text("utf-8")
    assert folder.damaged() == []


@pytest.mark.parametrize("content", ["", "[]", '{"version": 2}', json.dumps({"ratings": [{"task": "rubric"}]})])
def test_damaged_ratings_are_one_line(folder: RunFolder, content: str) -> None:
    (folder.path / RATINGS).write_text(content)
    done = autointerp("leaderboard", folder.path, cwd=folder.path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "ratings.json is damaged" in done.stderr
