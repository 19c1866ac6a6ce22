"""Features on a text of one's own: a planted dictionary's are known, and what is gone or has changed is one line."""

import html
import json
import re
import shutil
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import autointerp as package
from autointerp.cli import main
from autointerp.cli.trying import MOST_BYTES, _given_text
from autointerp.records import Explanation, FeatureId, FeatureResult
from autointerp.reporting.site.tried import saved_page
from autointerp.reporting.trial import trial_page
from autointerp.sampling.output_tokens import Vocabulary
from autointerp.sampling.trying import _Reading
from autointerp.serving.pages import PagesApp
from autointerp.store import RunFolder
from autointerp.trials import ActiveFeature, Trial, TriedToken
from sae.common.errors import UserError
from sae.dictionary import Dictionary, TopK
from tests.conftest import FILLER, PLANTED_SETTINGS, WORDS, autointerp, make_once

PLAIN = [word for setting in PLANTED_SETTINGS for word in ("--set", setting)]


@pytest.fixture(scope="module")
def run(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a copy of the planted dictionary: its features 0 to 5 are explained by rules."""

    def make(folder: Path) -> None:
        shutil.copytree(planted / "dictionary", folder / "words")
        done = autointerp(
            "run", "dictionary", "--dictionary", "words", "--model", planted / "model", "--corpus",
            planted / "corpus.jsonl", *PLAIN, "--explainer", "rules-1", "--baselines", "neurons", "--feature-ids",
            "0,1,2,3,4,5", "--out", "run", cwd=folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    return make_once(tmp_path_factory, "tried", make) / "run"


def test_the_features_of_each_word_are_active_and_promote_it(run: Path) -> None:
    """Feature i reads WORDS[i], whose embedding has 2 + i there; the unembedding is the embedding."""
    done = autointerp("try", "run", "--text", "red the nine", "--json", cwd=run.parent)
    assert done.returncode == 0, done.stderr
    red, filler, nine = json.loads(done.stdout)["tokens"]
    assert [token["token"] for token in (red, filler, nine)] == ["red", "the", "nine"]
    assert (filler["n_active"], filler["features"]) == (0, [])
    for token, index in ((red, 0), (nine, 7)):
        (feature,) = token["features"]
        assert (token["n_active"], feature["dictionary"], feature["feature"]) == (1, "words", index)
        assert feature["activation"] == pytest.approx(2 + index)
        assert feature["promotes"][0] == {"token": WORDS[index], "logit": pytest.approx((2 + index) ** 2)}
    (explained,), (bare,) = red["features"], nine["features"]
    assert (explained["explanation"], explained["explainer"]) == ('Active on the token "red" (10.0).', "rules-1")
    assert explained["scores"]["simulation/population"] == pytest.approx(1.0)
    assert explained["largest_activation"] == pytest.approx(2.0)
    assert (bare["explanation"], bare["scores"], bare["largest_activation"]) == (None, {}, None)


def test_a_long_text_is_read_block_by_block_from_anywhere(run: Path) -> None:
    """The run's context is 32 tokens."""
    (run.parent / "long.txt").write_text("blue of " * 40)
    by_file = autointerp("try", "run", "--text-file", "long.txt", "--json", cwd=run.parent)
    tokens = json.loads(by_file.stdout)["tokens"]
    assert [token["n_active"] for token in tokens] == [1, 0] * 40
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parent)
        by_input = CliRunner().invoke(main, ["try", "run", "--text", "-", "--json"], input="blue of " * 40)
    assert by_input.stdout == by_file.stdout


def test_top_keeps_the_explained_features_beside_the_strongest(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the neurons at hook_embed, which are random numbers on fillers."""
    monkeypatch.chdir(run.parent)
    opened = package.open_run("run")
    explained = set(opened.results.query("dictionary == 'neurons'").feature)
    beside = 0
    everything, few = (opened.try_text(" ".join(FILLER), ["neurons"], top).tokens for top in (99, 1))
    for all_of_them, one in zip(everything, few, strict=True):
        assert len(all_of_them.features) == all_of_them.n_active == one.n_active
        values = [feature.activation for feature in all_of_them.features]
        assert values == sorted(values, reverse=True)
        strongest = [feature.id for feature in all_of_them.features][:1]
        known = [feature.id for feature in all_of_them.features if feature.id.index in explained][:1]
        assert [feature.id for feature in one.features] == list(dict.fromkeys(strongest + known))
        beside += bool(known) and known != strongest
    assert beside


def test_the_terminal_shows_text_scores_and_the_next_command(run: Path) -> None:
    done = autointerp("try", "run", "--text", "red the nine", cwd=run.parent)
    assert done.returncode == 0, done.stderr
    assert "[red]9thenine" in done.stdout
    assert '1.00  Active on the token "red" (10.0).' in done.stdout
    assert "then 'red' +4.00" in done.stdout
    assert done.stdout.endswith("next: autointerp show run words/0\n")


def test_the_saved_page_says_the_same_and_needs_no_other_file(run: Path) -> None:
    done = autointerp("try", "run", "--text", "red the nine", "--out", "page.html", cwd=run.parent)
    assert (done.returncode, done.stdout) == (0, "next: open page.html in a browser\n"), done.stderr
    page = (run.parent / "page.html").read_text("utf-8")
    assert '<a class="token s9" href="#t0">red</a><a class="token" href="#t1">the</a>' in page
    assert "Active on the token &#34;red&#34; (10.0)." in page
    assert not re.search(r"(src|href)=\"(?!#|data:)|<script", page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert f"style-src 'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in html.unescape(page)


def test_the_served_page_reads_a_text_and_links_its_features(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    app = PagesApp(run / "site", [RunFolder(run)])
    ids = [feature.id for feature in RunFolder(run).read_features()]
    said = app.post("try", b"text=red+the%0D%0Anine")
    assert said is not None
    assert said.status == 200
    page = said.content.decode()
    assert f'<a href="features.html#{ids.index(FeatureId("words", 0))}">words/0</a>' in page
    assert "red the\nnine</textarea>" in page


def test_hostile_text_is_text_on_the_page() -> None:
    name = FeatureId("<b>d", 0)
    explained = FeatureResult(name, "e", "ok", Explanation("<script>\u202e", "p", "m"), (), {"s": 0.5})
    tokens = (TriedToken("</p><script>", 1, (ActiveFeature(name, 1.0, (('"><img src=x>', 1.0),)),)),)
    page = saved_page(Trial((name.dictionary,), tokens, {name: explained}, {name: 2.0}))
    assert not re.search(r"<script|<img|<b>|\u202e", page)
    assert '<a class="token s4" href="#t0">&lt;/p&gt;&lt;script&gt;</a>' in page


def test_control_characters_do_not_reach_the_terminal() -> None:
    name = FeatureId("d\x1b[2J", 0)
    explained = FeatureResult(name, "e", "ok", Explanation("\x07 \u202e", "p", "m"), (), {"s": 0.5})
    tokens = (TriedToken("\x1b[31m\n", 1, (ActiveFeature(name, 1.0, (("\x00\u2066", 1.0),)),)),)
    page = trial_page(Trial((name.dictionary,), tokens, {name: explained}, {name: 2.0}), colour=False)
    assert all(character.isprintable() or character == "\n" for character in page)
    assert "(50% of largest)" in page


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "give a text: either --text TEXT (- for the standard input) or --text-file FILE"),
        (("--text", "a", "--text-file", "b"), "give a text: either"),
        (("--text-file", "bytes.txt"), "bytes.txt is not UTF-8 text"),
        (("--text-file", "absent.txt"), "absent.txt: No such file"),
        (("--text-file", "/dev/zero"), "/dev/zero is no regular file; give one, or send the text to --text -"),
        (("--text", "  \t"), "--text is empty"),
        (("--text-file", "blank.txt"), "makes no token of this text; give another"),
        (("--text-file", "blank.txt", "--out", "./blank.txt"), "--out blank.txt is the file with the text; write to"),
        (("--text", "red", "--dictionary", "word"), "no dictionary 'word'; did you mean words?"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(words: tuple[str, ...], line: str, run: Path) -> None:
    (run.parent / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    (run.parent / "blank.txt").write_text(" \n ")
    done = autointerp("try", "run", *words, cwd=run.parent)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert line in done.stderr


def test_half_of_a_character_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    with pytest.raises(UserError, match="the text holds half of a character"):
        package.open_run("run").try_text("red \ud800 the")


def test_a_text_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "endless.txt").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with Path("/dev/zero").open("rb") as zeros:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=zeros))
        for given in (("-", None), (None, str(tmp_path / "endless.txt"))):
            with pytest.raises(UserError, match="has more than 10,000,000 bytes; give a shorter text"):
                _given_text(*given)
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UserError, match="the standard input is closed"):
        _given_text("-", None)


def test_what_is_gone_or_has_changed_is_one_line(run: Path, smoke: Path, cache: Path, tmp_path: Path) -> None:
    shutil.copytree(run.parent, tmp_path / "moved")
    (tmp_path / "moved" / "words" / "README").write_text("new")
    shutil.copytree(cache / "subjects", tmp_path / "half" / "subjects")
    for folder, where, cached, line in (
        ("run", tmp_path / "moved", cache, "has changed since; the command that made the run, with another --out"),
        ("moved/run", tmp_path, cache, "cannot load again what moved/run was made from"),
        (smoke, tmp_path, tmp_path / "none", f"the toy model of {smoke} is not in the cache"),
        (smoke, tmp_path, tmp_path / "half", f"a dictionary of {smoke} is not in the cache"),
    ):
        done = autointerp("try", folder, "--text", "a", cwd=where, environment={"AUTOINTERP_CACHE": str(cached)})
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert line in done.stderr


def test_the_strongest_feature_is_the_one_that_writes_most() -> None:
    """SAELens' rescaled top-k divides by the decoder's norm what it has multiplied by it: it counts once, not twice."""
    eye, zero_D, norm_F = torch.eye(2), torch.zeros(2), torch.tensor([10.0, 1.0])
    made = Dictionary("d", "sae", eye, zero_D, torch.diag(norm_F), zero_D, TopK(2, norm_F))
    made = replace(made, reads=("a", "b"), writes=("a", "b"))
    at = {"a": torch.full((1, 1, 1), 0.1), "b": torch.full((1, 1, 1), 2.0)}
    subject: Any = SimpleNamespace(activations_at=lambda ids_NC, names: at)
    reloaded: Any = SimpleNamespace(dictionaries=[made], subject=subject)
    (token,) = _Reading(reloaded, Vocabulary(["x"], 0), ["d"], (), 2).block(torch.tensor([0]))
    assert [(one.id.index, one.activation) for one in token.features] == [(1, 2.0), (0, 1.0)]
