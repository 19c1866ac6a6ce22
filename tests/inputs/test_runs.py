"""Run folders: files that are missing or damaged are made again from the others, or named in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from autointerp import api
from sae.common.progress import Silent
from tests.autointerp.test_pipeline import contents
from tests.inputs.harness import FOREIGN, JSONS, copied, flip, invoke, refused, spoilers

CHANGES = {
    "corpus.context": 32, "sampling.fragment": 16, "corpus.held_out": 0.5, "subject.prepend_bos": False,
    "dictionaries.baselines": [], "explainers": ["rules-1", "rules-2"], "sampling.features": 4,
    "sampling.population": 2000, "control_kinds": ["mismatched"], "runtime.pictures": ["png"], "runtime.site": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = {"dictionaries.load": [str(planted / "dictionary")], "corpus.source": str(planted / "corpus.jsonl")}
    return api.run("dictionary", CHANGES | given, tmp_path_factory.mktemp("f") / "run", Silent).path


SOURCES = ("results.jsonl", "records.parquet", "features.parquet", "population.parquet", "population_text.parquet")
"""Files that cannot be made again."""
PICTURES = [f"pictures/{name}.png" for name in ("scores", "features", "length")]
MADE = ("leaderboard.json", "leaderboard.csv", "leaderboard.md", "leaderboard.tex", "comparisons.json", *PICTURES)
DAMAGES = spoilers(FOREIGN) | {"a flipped byte": flip, "a flipped byte near the end": lambda path: flip(path, 0.99)}


def test_these_are_the_files(finished: Path) -> None:
    assert set(contents(finished)) == {"run.json", *SOURCES, *MADE}
    files = json.loads((finished / "run.json").read_text())["files"]
    assert {name: one["bytes"] for name, one in files.items()} == {
        name: (finished / name).stat().st_size for name in (*SOURCES, *MADE)
    }


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", SOURCES)
def test_what_cannot_be_made_again_is_named(name: str, damage: str, finished: Path, tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "run")
    DAMAGES[damage](run / name)
    refused("autointerp", "show", "run", cwd=tmp_path, names=name)
    refused("autointerp", "leaderboard", "run", "--rebuild", cwd=tmp_path, names=name)


QUICK = {"leaderboard.json": ("empty", "a flipped byte"), "pictures/scores.png": ("gone",)}


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        pytest.param(name, damage, marks=[] if damage in QUICK.get(name, ()) else pytest.mark.slow)
        for name in MADE
        for damage in DAMAGES
    ],
)
def test_what_can_be_made_again_is(name: str, damage: str, finished: Path, tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "run")
    DAMAGES[damage](run / name)
    if damage == "a folder":  # which may hold what nobody else has: it is not removed
        refused("autointerp", "leaderboard", "run", cwd=tmp_path, names=Path(name).name)
        return
    done = invoke("autointerp", "leaderboard", "run", cwd=tmp_path)
    assert done.exit_code == 0, done.output
    assert (run / name).read_bytes() == (finished / name).read_bytes()
    assert (run / "run.json").read_bytes() == (finished / "run.json").read_bytes()


def test_rebuild_makes_all_tables_and_pictures_again(finished: Path, tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "run")
    for name in MADE:
        (run / name).unlink()
    done = invoke("autointerp", "leaderboard", "run", "--rebuild", cwd=tmp_path)
    assert done.exit_code == 0, done.output
    assert contents(run) == contents(finished)


def test_a_text_that_is_not_utf8(finished: Path, tmp_path: Path) -> None:
    refused("autointerp", "try", finished, "--text", "caf\udce9", cwd=tmp_path, names="--text is not UTF-8 text")


@pytest.mark.parametrize("flag", ["--csv", "--markdown", "--latex"])
@pytest.mark.parametrize("name", ["run.json", "results.jsonl", "leaderboard.csv"])
def test_a_table_is_not_written_over_a_runs_files(name: str, flag: str, finished: Path, tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "run")
    refused("autointerp", "leaderboard", "run", flag, f"run/{name}", cwd=tmp_path, names=name)
    refused("autointerp", "leaderboard", "run", flag, "x", "--csv", "./x", "--latex", "y/../x", cwd=tmp_path, names="x")
    refused("autointerp", "try", "run", "--text", "red", "--out", f"run/{name}", cwd=tmp_path, names=name)
    refused("autointerp", "cache", "export", f"run/{name}", cwd=tmp_path, names=name)
    assert contents(run) == contents(finished)


@pytest.mark.parametrize("damage", spoilers(JSONS))
@pytest.mark.parametrize("command", ["show", "leaderboard"])
def test_a_garbled_run_json(command: str, damage: str, finished: Path, tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "run")
    spoilers(JSONS)[damage](run / "run.json")
    refused("autointerp", command, "run", cwd=tmp_path, names="run")


GARBLED: dict[str, Any] = {
    "status": 3, "identity": None, "config": [], "dictionaries": {}, "totals": "many", "sampling": None, "files": [1],
    "schema_version": "four", "name": {}, "notes": 3, "inputs": 1,
}  # fmt: skip


@pytest.mark.parametrize("key", GARBLED)
@pytest.mark.parametrize("how", ["another value", "gone"])
def test_a_run_json_with_other_values(how: str, key: str, finished: Path, tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "run")
    about = json.loads((run / "run.json").read_text())
    about = about | {key: GARBLED[key]} if how == "another value" else {k: v for k, v in about.items() if k != key}
    (run / "run.json").write_text(json.dumps(about))
    refused("autointerp", "leaderboard", "run", cwd=tmp_path, names="run")
    refused("autointerp", "show", "run", cwd=tmp_path, names="run")


@pytest.mark.parametrize("name", ["results.jsonl", "records.parquet", "features.parquet"])
@pytest.mark.parametrize("damage", [name for name in spoilers() if name not in ("empty", "gone")])
def test_a_damaged_run_is_not_continued(name: str, damage: str, planted: Path, finished: Path, tmp_path: Path) -> None:
    """Of an unfinished run no hashes are known yet; an unfinished last line is what a kill leaves."""
    run = copied(finished, tmp_path / "run")
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(about | {"status": "scoring"}))
    spoilers()[damage](run / name)
    if name == "results.jsonl" and (run / name).is_file():
        with (run / name).open("ab") as stream:
            stream.write(b'{"torn": \n')
    sets = [f"{key}={json.dumps(value)}" for key, value in CHANGES.items()]
    refused(
        "autointerp", "run", "dictionary", "--dictionary", planted / "dictionary", "--corpus", planted / "corpus.jsonl",
        *(word for setting in sets for word in ("--set", setting)), "--out", "run", cwd=tmp_path, names=name,
    )  # fmt: skip


FOLDERS = ("", " ", "absent", "file", "empty", ".", "/", "/dev/null", "x" * 5000, "a\0b", "loop", "\udcff", "a\x1b[2J")


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("command", ["show", "leaderboard"])
def test_folders_that_hold_no_run(command: str, folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    refused("autointerp", command, folder, cwd=tmp_path, names="")


@pytest.mark.parametrize(
    "feature", ["words/99", "words", "/", "words/-1", "words/3 ", "x" * 5000, "\x1b[2J", "wrods/3"]
)
def test_features_that_are_not_there(feature: str, finished: Path, tmp_path: Path) -> None:
    refused("autointerp", "show", finished, feature, cwd=tmp_path, names="feature")
