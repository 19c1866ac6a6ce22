"""The pages' files: data that parse, text that stays text, bounds, the same bytes; the browser is in test_browser."""

import html.parser
import json
import os
import re
import shutil
from bisect import bisect_right
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autointerp as package
from autointerp import config as configs
from autointerp.cli.options import changes_of
from autointerp.reporting.site import map as maps
from autointerp.reporting.site import neighbours, pages
from autointerp.reporting.site.chunks import Chunks, packed
from autointerp.reporting.site.index import SHOWN
from autointerp.reporting.site.population import BINS, INTERVALS, summary
from autointerp.reporting.site.runs import SiteRun
from autointerp.reporting.site.write import refuse_foreign, write_runs
from autointerp.statistics import plane
from autointerp.store import RunFolder
from sae.common.errors import UserError
from sae.common.progress import Silent
from tests.autointerp.reporting.site import made
from tests.conftest import autointerp

MAPPED = "UMAP" if find_spec("umap") else "PCA"


def site(folder: Path, *runs: SiteRun) -> Path:
    write_runs(runs, folder / "site")
    return folder / "site"


def value_in(path: Path, folder: Path) -> Any:
    """Return a script's value; it must be JSON behind an assignment to the script's own name, and ASCII."""
    name = path.relative_to(folder / "data").with_suffix("").as_posix()
    text = path.read_bytes().decode("ascii")
    prefix = f'data["{name}"]='
    assert text.startswith(prefix)
    return json.loads(text.removeprefix(prefix))


def values_in(folder: Path) -> dict[str, Any]:
    paths = sorted((folder / "data").rglob("*.js"))
    return {path.relative_to(folder / "data").with_suffix("").as_posix(): value_in(path, folder) for path in paths}


def spelt_out(packed: str) -> list[float | None]:
    """Spell packed numbers out: -k stands for k zeros in a row."""
    each = [None if word == "null" else float(word) for word in packed.split(",")]
    return [zero for value in each for zero in ([value] if value is None or value >= 0 else [0.0] * int(-value))]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Reader(html.parser.HTMLParser):
    """Collects a page's elements and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> Reader:
    return Reader(path.read_text("utf-8"))


def test_every_feature_is_where_the_list_says(tmp_path: Path) -> None:
    run = made.run()
    folder = site(tmp_path, run)
    values = values_in(folder)
    index = values["index"]
    assert index["n"] == index["points"] == len(run.features) == 12
    for n, one in enumerate(run.features):
        for explainer, name in enumerate(index["explainers"]):
            starts = index["lists"][explainer]
            chunk = bisect_right(starts, n) - 1
            file, dictionary, number, density, highest, status, text, length, *scores = values[
                f"list/{explainer}/{chunk}"
            ][n - starts[chunk]]
            (result,) = (item for item in run.results[one.id] if item.explainer == name)
            assert (index["dictionaries"][dictionary]["name"], number) == (one.id.dictionary, one.id.index)
            assert (density, highest) == (pytest.approx(one.density), one.max_activation)
            assert result.explanation
            assert (text, length) == (result.explanation.text, len(result.explanation.text.split()))
            assert index["statuses"][status] == result.status
            assert dict(zip(index["scorers"], scores, strict=True)) == dict(result.scores)
            (detail,) = (item for item in values[f"features/{file}"] if item["n"] == n)
            assert (detail["dictionary"], detail["index"]) == (dictionary, number)
            assert [item["tokens"] for item in detail["score"]] == [list(item.tokens) for item in one.score]
            assert [spelt_out(item["acts"]) for item in detail["score"]] == [
                list(item.activations) for item in one.score
            ]
            predicted = detail["explanations"][explainer]["predicted"]["0"]
            assert spelt_out(predicted) == list(result.simulations[0].predicted)
    for number in range(len(index["explainers"])):
        assert [point[0] for point in values[f"points/{number}"]] == list(range(12))


def test_the_board_is_the_leaderboard(tmp_path: Path) -> None:
    run = made.run()
    index = value_in(site(tmp_path, run) / "data" / "index.js", tmp_path / "site")
    columns, rows = index["board"]["columns"], index["board"]["rows"]
    assert len(rows) == len(run.rows)
    for cells, row in zip(rows, run.rows, strict=True):
        shown = dict(zip(columns, cells, strict=True))
        assert index["dictionaries"][shown["dictionary"]]["name"] == row["dictionary"]
        assert (index["explainers"][shown["explainer"]], index["scorers"][shown["scorer"]]) == (
            row["explainer"], row["scorer"],
        )  # fmt: skip
        for name in ("mean", "ci_low", "ci_high", "control_mean", "n_ok", "n_failed", "cost_usd"):
            assert shown[name] == (None if row[name] is None else pytest.approx(row[name], rel=1e-3)), name


def test_two_runs_side_by_side(tmp_path: Path) -> None:
    first, second = made.run(2, label="one"), made.run(3, label="two", explainers=("third",))
    values = values_in(site(tmp_path, first, second))
    index = values["index"]
    assert index["n"] == 10
    assert [one["run"] for one in index["dictionaries"]] == [0, 0, 1, 1]
    assert index["explainers"] == ["rules-5", "third", "other"]
    last = values["features/0"][9]
    assert (last["dictionary"], last["index"], index["explainers"][last["explanations"][0]["explainer"]]) == (
        3, 2, "third",
    )  # fmt: skip
    for kind in ("together", "alike"):
        assert {n for n, _ in last[kind]["own"] + last[kind]["others"]} <= {4, 5, 6, 7, 8}
    assert sorted(path.name for path in (tmp_path / "site").glob("*.yaml")) == ["config-1.yaml", "config-2.yaml"]


def test_the_same_run_gives_the_same_bytes_and_replaces_the_old_pages(tmp_path: Path) -> None:
    folder = site(tmp_path, made.run(5))
    before = contents(folder)
    site(tmp_path, made.run(2))
    assert contents(folder) != before
    site(tmp_path, made.run(5))
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_hostile_text_is_text(tmp_path: Path) -> None:
    run = made.hostile()
    folder = site(tmp_path, run)
    for name in pages.PAGES:
        page = read(folder / name)
        scripts = [attributes for tag, attributes in page.elements if tag == "script"]
        assert all(set(one) <= {"src", "defer"} and str(one["src"]).startswith("static/") for one in scripts)
        assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
        assert not {"img", "svg", "iframe", "base"} & {tag for tag, _ in page.elements}
        text = (folder / name).read_text("utf-8")
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x00]", text)
        policy = next(one["content"] for tag, one in page.elements if one.get("http-equiv"))
        assert policy is not None
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert made.HOSTILE[0] in read(folder / "run.html").text
    values = values_in(folder)
    kept = values["features/0"][0]["score"][0]["tokens"]
    assert [token for token in kept if len(token) < 200] == [token for token in made.HOSTILE if len(token) < 200]
    assert kept[7] == "x" * 200 + "\u2026 (10,000 characters)"


def test_pages_refer_only_to_files_that_are_there(tmp_path: Path) -> None:
    folder = site(tmp_path, made.run())
    for name in pages.PAGES:
        for _, attributes in read(folder / name).elements:
            for target in (attributes.get("src"), attributes.get("href")):
                if target and not target.startswith(("#", "data:,")):
                    assert (folder / target).is_file(), target
    for script in (folder / "static").glob("*.js"):
        text = script.read_text("utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|fetch\(|XMLHttp", text)
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_every_rounded_column_of_the_leaderboard_says_to_how_many_decimals() -> None:
    assert all(isinstance(column[3], int) for column in SHOWN if column[2] == "round")


def test_all_our_scripts_are_small(tmp_path: Path) -> None:
    scripts = list((site(tmp_path, made.run(1)) / "static").glob("*.js"))
    assert sum(path.stat().st_size for path in scripts) < 40_000


def test_an_unfinished_an_empty_and_an_all_error_run_are_true_pages(tmp_path: Path) -> None:
    folder = site(tmp_path, made.unfinished())
    assert "not finished: 2 of 12 results" in read(folder / "index.html").text
    rows = value_in(folder / "data" / "list" / "0" / "0.js", folder)
    assert [row[5] for row in rows] == [0, None, None, 0, None, None]
    site(tmp_path, made.empty())
    assert values_in(folder)["list/0/0"] == []
    assert "0 features of 2 dictionaries" in " ".join(read(folder / "index.html").text.split())
    site(tmp_path, made.run(2, status="error"))
    values = values_in(folder)
    assert "8 results are errors." in read(folder / "index.html").text
    assert {row[5] for row in values["list/0/0"]} == {3}
    assert values["features/0"][0]["explanations"][0]["errors"] == {"simulation": "no answer"}


@pytest.mark.parametrize(
    ("values", "text"),
    [([0.0, 0.0, 1.23456, 0.0], "-2,1.235,-1"), ([None, 1e-7, 12_345.0], "null,1e-07,1.234e+04"), ([], "")],
)
def test_numbers_are_packed(values: list[float | None], text: str) -> None:
    assert packed(values) == text


def test_chunks_break_at_their_size(tmp_path: Path) -> None:
    chunks = Chunks(tmp_path, "c", 20)
    files = [chunks.add(text) for text in ("aaaa", "bbbb", "c" * 50, "dddd", "eeee")]
    chunks.close()
    assert (files, chunks.starts) == ([0, 0, 1, 2, 2], [0, 2, 3])
    texts = [(tmp_path / f"c/{number}.js").read_text() for number in range(3)]
    assert texts == ['data["c/0"]=["aaaa","bbbb"]\n', f'data["c/1"]=["{"c" * 50}"]\n', 'data["c/2"]=["dddd","eeee"]\n']


def test_intervals_against_every_token_one_by_one() -> None:
    own = made.population(made.text(200), 1)
    found = summary(own)
    assert found is not None
    highest = float(own.value_A.max())
    acts = own.acts_ML.ravel().tolist()
    for number, part in enumerate(reversed(found["intervals"])):
        low, high = highest * number / INTERVALS, highest * (number + 1) / INTERVALS
        inside = [value for value in acts if value > 0 and low <= value and (value < high or number == INTERVALS - 1)]
        assert part["share"] == pytest.approx(len(inside) / len(acts), rel=1e-3)
        assert len(part["excerpts"]) == min(3, len(inside))
        for excerpt in part["excerpts"]:
            assert any(spelt_out(excerpt["acts"])[excerpt["at"]] == pytest.approx(value, rel=1e-3) for value in inside)
            fragment = own.text.tokens(excerpt["document"])  # a document is a fragment here
            assert "".join(excerpt["tokens"]) in "".join(fragment)
    assert sum(found["bins"]) == own.value_A.size
    assert len(found["bins"]) == BINS
    assert summary(made.population(made.text(), 1, share=0.0)) is None


def test_neighbours_are_those_of_numpys_correlation() -> None:
    own = made.text(600)
    populations = [made.population(own, seed // 2, 0.1 + 0.05 * (seed % 2)) for seed in range(8)]
    names = ["a", "b"] * 4
    near = neighbours.nearest(populations, names)
    r = np.corrcoef([one.acts_ML.ravel() for one in populations])
    assert near.size == own.ids_ML.size
    for index in range(8):
        for same, ranked in ((True, near.own[index]), (False, near.others[index])):
            others = [i for i in range(8) if i != index and (names[i] == names[index]) == same and r[index, i] >= 0.005]
            others.sort(key=lambda i: -r[index, i])
            assert [i for i, _ in ranked] == others[: neighbours.NEAREST]
            assert [value for _, value in ranked] == pytest.approx([r[index, i] for i in others[:5]], abs=6e-4)


def test_features_that_are_never_active_have_no_neighbours() -> None:
    own = made.text(600)
    silent, active = made.population(own, 1, share=0.0), made.population(own, 2)
    near = neighbours.nearest([silent, active, silent], ["a"] * 3)
    assert near.own == ((), (), ())
    assert neighbours.nearest([made.population(made.text(10), 1)], ["a"]).size == 0


def test_decoder_neighbours_are_those_of_numpys_cosine() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(9, 5)).astype(np.float32)
    features = [
        replace(made.feature("ab"[n % 2], n), direction=row_D, writes="a" if n < 8 else "b")
        for n, row_D in enumerate(rows)
    ]
    near = neighbours.nearest_by_decoder(features)
    unit = rows / np.linalg.norm(rows, axis=1)[:, None]
    for index in range(8):
        cosines = unit[:8] @ unit[index]
        for same, ranked in ((True, near.own[index]), (False, near.others[index])):
            others = [i for i in range(8) if i != index and (i % 2 == index % 2) == same and cosines[i] >= 0.005]
            others.sort(key=lambda i: -cosines[i])
            assert [i for i, _ in ranked] == others[: neighbours.NEAREST]
            assert [value for _, value in ranked] == pytest.approx([cosines[i] for i in others], abs=6e-4)
    assert near.own[8] == near.others[8] == ()  # it writes to another hook point
    assert neighbours.nearest_by_decoder([replace(features[0], direction=None), *features[1:]]).size == 0


def test_the_map_without_umap_is_sklearns_pca(monkeypatch: pytest.MonkeyPatch) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    monkeypatch.setattr(plane, "find_spec", lambda name: None)
    for seed in range(4):
        rows = np.random.default_rng(seed).normal(size=(12, 6)).astype(np.float32) * np.arange(1, 7, dtype=np.float32)
        features = [(0, replace(made.feature("a", n), direction=row_D, writes="h")) for n, row_D in enumerate(rows)]
        drawn = maps.feature_map([*features, (1, made.feature("a", 0))])
        assert drawn is not None
        assert (drawn.method, drawn.writes, drawn.points[12]) == ("PCA", "h", None)
        expected = decomposition.PCA(2).fit_transform(rows / np.linalg.norm(rows, axis=1)[:, None])
        expected *= np.sign(expected[abs(expected).argmax(0), range(2)])  # a direction's sign is free: largest positive
        points = np.array([point for point in drawn.points[:12] if point])
        assert points == pytest.approx(expected, rel=2e-3, abs=2e-4)
    assert maps.feature_map(features[: maps.FEWEST - 1]) is None


@pytest.mark.slow
def test_the_map_is_umaps_where_it_is_installed(tmp_path: Path) -> None:
    """Every neuron's direction stands beside those of the learned features that are like it, and again in the same
    place.
    """
    pytest.importorskip("umap", reason="umap-learn is not installed: pip install autointerp[umap]")
    run = made.run(160, explainers=("rules-5",), with_population=False)
    first, second = (maps.feature_map([(0, one) for one in run.features]) for _ in range(2))
    assert first == second
    assert first
    assert first.method == "UMAP"
    point_F2 = np.array(first.points, np.float64)
    distance_FF = np.linalg.norm(point_F2[:, None] - point_F2, axis=2) + np.diag([np.inf] * len(point_F2))
    group_F = np.array([one.id.index % 16 for one in run.features])
    assert (group_F[distance_FF.argmin(1)] == group_F).mean() > 0.99
    write_runs([run], tmp_path / "pages")
    assert '"map":{"method":"UMAP"' in (tmp_path / "pages" / "data" / "index.js").read_text("ascii")


def test_a_feature_page_holds_logits_alignment_and_what_was_asked(tmp_path: Path) -> None:
    values = values_in(site(tmp_path, made.run()))
    first, neuron = values["features/0"][0], values["features/0"][6 + 3]
    assert first["promoted_logits"] == [3.5, 2]
    assert (first["suppressed"], first["suppressed_logits"]) == (list(made.WORDS[-2:]), [-4, -1.5])
    assert neuron["neurons"][0] == [3, 1]
    assert neuron["alike"]["others"][0][0] == 3  # the feature beside this neuron
    asked = values[f"asked/{neuron['explanations'][1]['asked']}"]
    assert [9, 1, [["detection", "Which?\nnumber 3 of neurons", '{"answers": [1]}']]] in asked
    assert (len(values["map"]), values["index"]["map"]) == (12, {"method": MAPPED, "writes": "blocks.0.mlp.hook_post"})


def test_a_feature_page_holds_what_its_ablation_does_where_it_was_measured(tmp_path: Path) -> None:
    own = made.run()
    features = [own.features[0], replace(own.features[1], effect=None), *own.features[2:]]
    first, other = values_in(site(tmp_path, replace(own, features=features)))["features/0"][:2]
    assert first["effect"] == [
        "Loss without it: +0.2500 nats on its 3 active tokens.",
        ["Less likely", list(made.WORDS[:5]), list(made.FALLS[:5])],
        ["More likely", [made.WORDS[6]], [0.01]],
    ]
    assert "effect" not in other


def test_browse_writes_the_pages_of_a_run_whose_config_runs_it_again(smoke: Path, tmp_path: Path) -> None:
    done = autointerp("browse", smoke, "--out", tmp_path / "pages", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"next: open {tmp_path / 'pages' / 'index.html'} in a browser\n"
    values = values_in(tmp_path / "pages")
    about = RunFolder(smoke).about
    assert values["index"]["n"] == sum(one["n_sampled"] for one in about["dictionaries"])
    assert len(values["index"]["board"]["rows"]) == len(json.loads((smoke / "leaderboard.json").read_text()))
    again = configs.load(str(tmp_path / "pages" / "config.yaml"))
    assert again == configs.build(dict(about["config"]), {}, "run.json")
    size = sum(path.stat().st_size for path in (tmp_path / "pages").glob("*.html"))
    assert size < 60_000
    refused = autointerp("browse", smoke, tmp_path / "pages", cwd=tmp_path)
    assert refused.returncode == 2
    assert "not a run folder" in refused.stderr


def test_a_run_writes_the_pages_that_browse_writes(smoke: Path, tmp_path: Path) -> None:
    changes = {"explainers": ["rules-1"], "runtime.pictures": [], "runtime.site": True}
    run = package.run("smoke", changes, out=tmp_path / "run", report=Silent)
    own = contents(run.path / "site")
    assert autointerp("browse", run.path, "--out", tmp_path / "pages", cwd=tmp_path).returncode == 0
    assert own == contents(tmp_path / "pages")
    assert not (smoke / "site").exists()  # as its config says
    assert changes_of({"site": False}) == {"runtime.site": False}  # --no-site


@pytest.fixture
def stopped(tmp_path: Path) -> RunFolder:
    """A run folder as a killed run leaves it: two of twelve results, no leaderboard."""
    run, folder = made.unfinished(), RunFolder(tmp_path / "run")
    folder.begin(run.about)
    folder.write_features(run.features)
    folder.append(result for own in run.results.values() for result in own)
    return folder


def test_a_run_that_was_stopped_is_read_from_its_folder(stopped: RunFolder, tmp_path: Path) -> None:
    before = contents(stopped.path)
    assert autointerp("browse", stopped.path, cwd=tmp_path).returncode == 0
    pages_of = stopped.path / "site"
    expected = contents(site(tmp_path, replace(made.unfinished(), label="run", asked={})))
    changed = {name for name, data in contents(pages_of).items() if data != expected.pop(name)}
    assert (changed, expected) == ({"data/index.js"}, {})  # a stopped run does not know its chance levels
    index = value_in(pages_of / "data" / "index.js", pages_of)
    means = {(row[0], row[2]): row[index["board"]["columns"].index("mean")] for row in index["board"]["rows"]}
    assert means == {(dictionary, scorer): 0.0 for dictionary in (0, 1) for scorer in (0, 1, 2)}
    again = autointerp("browse", "run", "run", "--out", "run/site", cwd=tmp_path)  # one run, though named twice
    assert again.returncode == 0
    assert {name: data for name, data in contents(stopped.path).items() if not name.startswith("site")} == before


@pytest.mark.parametrize("out", ["run/run.json/x", "/proc/nothing/x", "x" * 300, "a\0b", ".", "run"])
def test_pages_that_cannot_be_written_are_one_line(stopped: RunFolder, tmp_path: Path, out: str) -> None:
    before = contents(tmp_path)
    done = autointerp("browse", stopped.path, "--out", out, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert contents(tmp_path) == before


def test_several_runs_need_a_folder_of_their_own(stopped: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(stopped.path, tmp_path / "other")
    refused = autointerp("browse", "run", "other", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.endswith(": pages of several runs need a folder of their own: --out DIR\n")
    assert autointerp("browse", "run", "other", "--out", "both", cwd=tmp_path).returncode == 0
    assert value_in(tmp_path / "both" / "data" / "index.js", tmp_path / "both")["n"] == 12


def test_pages_are_replaced_through_a_link_and_through_themselves(tmp_path: Path) -> None:
    run, pages = made.run(2), tmp_path / "pages"
    write_runs([run], pages)
    (tmp_path / "link").symlink_to(pages)
    for path in (tmp_path / "link", pages / ".." / "pages"):
        (pages / "index.html").unlink()
        write_runs([run], path)
        assert (pages / "index.html").is_file()
    assert (tmp_path / "link").is_symlink()


def test_a_folder_of_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        refuse_foreign(tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        refuse_foreign(tmp_path / "mine.txt")
    os.mkfifo(tmp_path / "device")
    with pytest.raises(UserError, match="is no folder"):
        refuse_foreign(tmp_path / "device")
    (tmp_path / "new").mkdir()
    refuse_foreign(tmp_path / "new")
    refuse_foreign(tmp_path / "absent")
