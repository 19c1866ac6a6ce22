"""Rating by a person: blinded, resumed, summed up; the browser is in test_served.py."""

import json
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pandas
import pytest
from scipy import stats

from autointerp import ratings
from autointerp.api import Run
from autointerp.ratings import Rating
from autointerp.records import FeatureId
from autointerp.reporting import leaderboard, tables
from autointerp.reporting.leaderboard import COLUMNS
from autointerp.runs.verify import verify
from autointerp.serving.rating import RatingApp, key_of
from autointerp.serving.server import App, LoopbackServer
from autointerp.store import RATINGS, RunFolder
from sae.common.errors import UserError
from sae.common.progress import Silent
from tests.autointerp.reporting.site import made
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
    assert folder.damaged() == [RATINGS]  # the tables do not hold it yet
    send(url, "undo")
    assert ratings.read(folder.path) == ()
    (folder.path / RATINGS).write_text("{")  # damaged while pages are served: the browser says so
    said = say(url)
    assert (said.status, "ratings.json is damaged" in said.text) == (500, True)


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


def write_texts(folder: RunFolder, n_active: int) -> None:
    """Give every feature so many different texts on which it is active, and a silent one."""
    texts = [made.record((str(number), "x"), "random", 1.0 + number / 100) for number in range(n_active)]
    silent = made.record(("silent", "y"), "inactive", 0.0)
    folder.write_features([replace(one, score=(*texts, silent)) for one in folder.read_features()])


def test_an_intruder_is_right_or_wrong(folder: RunFolder, serve: Serve) -> None:
    with pytest.raises(UserError, match="no feature that can be rated by intruder"):
        RatingApp(folder, "intruder", "")  # two active texts each: too few
    write_texts(folder, 6)
    app = RatingApp(folder, "intruder", "")
    url = serve(app)
    for wrong in (0, 2):
        one = app.left[0]
        assert [text.tokens[0] == "silent" for text in one.texts].index(True) == one.intruder
        assert "token s" not in say(url).text  # no activation is shown
        send(url, "rate", item=key_of(one), intruder=str((one.intruder + wrong) % 5))
    assert [rating.score for rating in ratings.read(folder.path)] == [1.0, 0.0]


@pytest.mark.parametrize(("n_active", "n_shown"), [(5, 5), (10, 10), (40, 16)])
def test_the_rubric_shows_the_strongest_texts_and_others_each_once(
    folder: RunFolder, n_active: int, n_shown: int
) -> None:
    write_texts(folder, n_active)
    shown = [int(text.tokens[0]) for text in RatingApp(folder, "rubric", "").left[0].texts]
    assert shown[:8] == list(range(n_active))[:-9:-1]
    assert len(shown) == len(set(shown)) == n_shown
    assert shown == sorted(shown, reverse=True)


def rating(feature: FeatureId, score: float, rater: str = "") -> Rating:
    values = {
        "task": "rubric",
        "rater": rater,
        "dictionary": feature.dictionary,
        "feature": feature.index,
        "explainer": "rules-5",
    }
    return Rating.model_validate(values | {"answers": {}, "score": score})


def test_human_scores_are_rows_of_the_leaderboard_with_their_rank_correlations(folder: RunFolder) -> None:
    said = [rating(FeatureId("topk", number), number / 10) for number in range(4)]
    said += [rating(FeatureId("topk", 3), 0.5, "anna"), rating(FeatureId("neurons", 0), 1.0)]
    plain, rated = (
        leaderboard.make_rows(folder.about, folder.densities(), [*folder.results()], made.SCORES, rated=given)
        for given in ((), said)
    )
    assert [{name: row[name] for name in COLUMNS} for row in rated[: len(plain)]] == plain
    human = {row["dictionary"]: row for row in rated if row["scorer"] == "human/rubric"}
    assert [human[name]["n_ok"] for name in ("topk", "neurons")] == [4, 1]
    assert human["topk"]["mean"] == pytest.approx((0 + 0.1 + 0.2 + 0.4) / 4)
    assert 0 <= human["topk"]["ci_low"] < human["topk"]["mean"] < human["topk"]["ci_high"] < 1
    top = [row for row in rated if row["scorer"] == "simulation/top"]  # 0, 1/6, 2/6, 3/6 and, of neurons/0, 0
    expected = stats.spearmanr([0, 1, 2, 3, 0], [0, 0.1, 0.2, 0.4, 1.0]).statistic
    for row in top:
        assert row["human_rubric_n"] == 5
        assert row["human_rubric_correlation"] == pytest.approx(expected)
        assert row["human_rubric_correlation_low"] < expected < row["human_rubric_correlation_high"]
    scores, agreement = tables.human_tables(rated)
    assert [row[-1] for row in scores.rows] == ["4", "1"]
    assert ["simulation/top", "human/rubric"] in [row[:2] for row in agreement.rows]
    assert tables.human_tables(plain) == []


def test_human_scores_are_in_the_tables_of_results(folder: RunFolder, tmp_path: Path) -> None:
    ratings.write(folder.path, [rating(FeatureId("neurons", 2), 0.75), rating(FeatureId("neurons", 2), 0.25, "anna")])
    run = Run(folder)
    tables = [run.results]
    for ending, read in (("csv", pandas.read_csv), ("parquet", pandas.read_parquet)):
        run.export("features", tmp_path / f"x.{ending}")
        tables.append(read(tmp_path / f"x.{ending}"))
    for table in tables:
        rated = table.dropna(subset="human/rubric")
        assert rated[["dictionary", "feature", "human/rubric"]].to_numpy().tolist() == [["neurons", 2, 0.5]]


def six_pages(server: LoopbackServer) -> None:
    """Stand for a person who answers six of the pages that the command serves, then presses Ctrl-C."""
    serving = threading.Thread(target=lambda: server._http.serve_forever(poll_interval=0.01))
    serving.start()
    for number in range(6):
        send(server.url, "rate", item=item(say(server.url)), **(GOOD | {"confidence": str(number % 4)}))
    server.close()
    serving.join()
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_that_was_rated_is_verified_and_one_whose_ratings_are_gone_is_as_before(
    smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(smoke, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert autointerp("browse", folder.path, cwd=tmp_path).returncode == 0
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    monkeypatch.setattr(LoopbackServer, "serve", six_pages)
    done = autointerp("rate", folder.path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(ratings.read(folder.path)) == 6
    assert sum(row["n_ok"] for row in folder.read_leaderboard() if row["scorer"] == "human/rubric") == 6
    assert "| human/rubric " in (folder.path / "leaderboard.md").read_text("utf-8")
    assert "Human ratings" in (folder.path / "site" / "index.html").read_text("utf-8")
    assert '"human/rubric"' in (folder.path / "site" / "data" / "index.js").read_text("ascii")
    assert "rank correlation" in autointerp("leaderboard", folder.path, cwd=tmp_path).stdout
    assert folder.damaged() == []
    assert not [text for check in verify(folder, Silent) for text in check.differences]
    path = folder.path / "leaderboard.json"
    figure = re.search(r'"human_rubric_correlation": -?0\.(\d)', path.read_text("utf-8"))
    assert figure
    text = path.read_text("utf-8")
    path.write_text(f"{text[: figure.start(1)]}{(int(figure[1]) + 1) % 10}{text[figure.end(1) :]}", "utf-8")
    folder.seal()
    assert next(text for check in verify(folder, Silent) for text in check.differences).startswith("leaderboard.json, ")
    (folder.path / RATINGS).unlink()
    assert RATINGS in folder.damaged()
    assert autointerp("browse", folder.path, cwd=tmp_path).returncode == 0
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("content", ["", "[]", '{"version": 2}', json.dumps({"ratings": [{"task": "rubric"}]})])
def test_damaged_ratings_are_one_line(folder: RunFolder, content: str) -> None:
    (folder.path / RATINGS).write_text(content)
    done = autointerp("leaderboard", folder.path, cwd=folder.path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "ratings.json is damaged" in done.stderr
