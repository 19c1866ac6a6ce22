"""Pages are compared byte by byte: one changed digit of any of their files is seen, and where it is."""

import json
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from autointerp import Run
from autointerp.reporting.site import compare
from autointerp.reporting.site.runs import SiteRun
from autointerp.reporting.site.write import write, write_runs
from autointerp.runs.verify import verify
from autointerp.store import RunFolder
from sae.common.errors import UserError
from sae.common.progress import Silent
from tests.autointerp.reporting.site import made
from tests.conftest import autointerp

SHOWN = (
    "data/index.js", "data/features/0.js", "data/list/0/0.js", "data/list/1/0.js", "data/points/0.js", "data/map.js",
    "index.html", "run.html", "config.yaml", "static/style.css",
)  # fmt: skip


@pytest.fixture(scope="module")
def run() -> SiteRun:
    return made.run()


@pytest.fixture
def site(run: SiteRun, tmp_path: Path) -> Path:
    write_runs([run], tmp_path / "site")
    return tmp_path / "site"


def change_a_digit(path: Path) -> None:
    """Change one digit, drawn by the file's name."""
    text = path.read_bytes()
    at = random.Random(path.name).choice([match.start() for match in re.finditer(rb"\d", text)])
    path.write_bytes(text[:at] + str((int(text[at : at + 1]) + 1) % 10).encode() + text[at + 1 :])


def test_pages_as_they_were_written_hold(run: SiteRun, site: Path) -> None:
    files = [path for path in site.rglob("*") if path.is_file()]
    assert compare.differences([run], site) == (len(files), [])
    assert compare.label_of(site) == run.label


@pytest.mark.parametrize("name", SHOWN)
def test_one_changed_digit_of_a_page_is_seen_where_it_is(name: str, run: SiteRun, site: Path) -> None:
    before = (site / name).read_bytes()
    change_a_digit(site / name)
    after = (site / name).read_bytes()
    at = next(n for n in range(len(before)) if before[n] != after[n])
    (only,) = compare.differences([run], site)[1]
    assert only.startswith(f"site/{name}, byte {at:,}: ")


def test_every_digit_of_a_list_of_features_counts(run: SiteRun, site: Path) -> None:
    path = site / "data" / "list" / "0" / "0.js"
    text = path.read_text("ascii")
    for match in list(re.finditer(r"\d", text))[::40]:
        path.write_text(text[: match.start()] + str((int(match[0]) + 5) % 10) + text[match.end() :], "ascii")
        assert len(compare.differences([run], site)[1]) == 1


def test_a_page_that_is_missing_cut_or_longer_is_named(run: SiteRun, site: Path) -> None:
    (site / "features.html").unlink()
    path = site / "data" / "points" / "1.js"
    path.write_bytes(path.read_bytes()[:-9])
    (site / "data" / "map.js").write_bytes(b"")
    with (site / "run.html").open("a") as stream:
        stream.write("0.9")
    assert [text.split(",")[0].split(" ")[0] for text in compare.differences([run], site)[1]] == [
        "site/data/map.js", "site/data/points/1.js", "site/features.html", "site/run.html",
    ]  # fmt: skip


def test_questions_that_the_cache_does_not_hold_are_taken_from_the_pages(run: SiteRun, site: Path) -> None:
    """With the cache of answers a changed digit of them is seen; scores are compared without it, too."""
    assert compare.differences([replace(run, asked={})], site)[1] == []
    change_a_digit(site / "data" / "asked" / "0.js")
    assert len(compare.differences([run], site)[1]) == 1
    change_a_digit(site / "data" / "features" / "0.js")
    assert "site/data/features/0.js" in compare.differences([replace(run, asked={})], site)[1][0]


def test_pages_of_several_runs_and_hostile_ones_hold(tmp_path: Path) -> None:
    runs = [made.run(label="one"), made.hostile()]
    write_runs(runs, tmp_path / "site")
    for known in (runs, [replace(one, asked={}) for one in runs]):
        assert compare.differences(known, tmp_path / "site")[1] == []
    assert compare.label_of(tmp_path / "site") is None


def test_points_of_a_umap_are_taken_as_they_are_and_its_figures_are_not(run: SiteRun, site: Path) -> None:
    index = site / "data" / "index.js"
    index.write_text(index.read_text("ascii").replace('"method":"PCA"', '"method":"UMAP"'), "ascii")
    change_a_digit(site / "data" / "map.js")
    assert compare.differences([run], site)[1] == []
    change_a_digit(index)
    assert len(compare.differences([run], site)[1]) == 1


def test_no_room_for_the_copy_is_one_line(
    run: SiteRun, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(UserError, match="set TMPDIR to another folder"):
        compare.differences([run], site)


def test_verify_compares_the_pages_of_a_run_under_any_name(planted_run: Run, tmp_path: Path) -> None:
    """A renamed folder holds; one changed digit of the leaderboard or of a feature does not."""
    shutil.copytree(planted_run.path, tmp_path / "first")
    write([RunFolder(tmp_path / "first")], tmp_path / "first" / "site")
    (tmp_path / "first").rename(tmp_path / "second")
    folder = RunFolder(tmp_path / "second")
    assert not [check for check in verify(folder, Silent) if check.differences]
    index = folder.path / "site" / "data" / "index.js"
    mean = f"{json.loads((folder.path / 'leaderboard.json').read_text())[0]['mean']:.4g}"
    text = index.read_text("ascii")
    assert mean in text
    index.write_text(text.replace(mean, mean[:-1] + str((int(mean[-1]) + 1) % 10), 1), "ascii")
    (only,) = [text for check in verify(folder, Silent) for text in check.differences]
    assert only.startswith("site/data/index.js, byte ")
    change_a_digit(folder.path / "site" / "data" / "features" / "0.js")
    done = autointerp("verify", folder.path, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("autointerp: ")) == (1, 1)
    assert "site/data/features/0.js, byte " in done.stderr.splitlines()[-1]
    assert f"autointerp browse {folder.path} writes them again" in done.stderr.splitlines()[-1]
