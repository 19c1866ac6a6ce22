"""Entries of the artifact cache that were damaged: said, thrown away, made again; two runs that make one entry."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autointerp import api
from sae.common.progress import Silent
from tests.inputs.harness import FOREIGN, copied, flip, refused, spoilers

CHANGES = {
    "corpus.context": 32, "sampling.fragment": 16, "corpus.held_out": 0.5, "subject.prepend_bos": False,
    "dictionaries.train": [{"architecture": "topk", "name": "t", "expansion": 2, "k": 2}], "dictionaries.steps": 2,
    "dictionaries.batch": 64, "dictionaries.baselines": ["random"], "explainers": ["rules-1"],
    "sampling.features": 3, "sampling.population": 2000, "control_kinds": ["mismatched"],
    "subject.hook_points": ["hook_embed"],
}  # fmt: skip


def changes(planted: Path) -> dict[str, object]:
    return CHANGES | {
        "dictionaries.load": [str(planted / "dictionary")], "corpus.source": str(planted / "corpus.jsonl"),
        "subject.model": str(planted / "model"), "subject.reset_weights": True,
    }  # fmt: skip


def run(planted: Path, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Sample, whatever an earlier run has sampled, and score; return the records."""
    shutil.rmtree(cache / "records", ignore_errors=True)
    for name in ("AUTOINTERP_CACHE", "SAE_CACHE"):
        monkeypatch.setenv(name, str(cache))
    return (api.run("dictionary", changes(planted), folder, Silent).path / "records.parquet").read_bytes()


@pytest.fixture(scope="module")
def whole(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A cache with every kind of entry, and the records that a run with it draws."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        return folder / "cache", run(planted, folder / "run", folder / "cache", patch)


FILES = {
    "tokens": "tokens/*/ids_NC.npy", "metrics": "metrics/*.json",
    "a dictionary's weights": "dictionaries/*/*.safetensors",
    "a dictionary's description": "dictionaries/*/dictionary.json",
    "a subject's weights": "subjects/*/model.safetensors",
    "a subject's config": "subjects/*/config.json", "a subject's tokenizer": "subjects/*/tokenizer.json",
}  # fmt: skip
DAMAGES = {
    name: spoil
    for name, spoil in spoilers(FOREIGN).items()
    if name in ("cut at 50%", "empty", "zeros", "gone", "a folder")
}


def damaged() -> Iterator[tuple[str, str]]:
    for file in FILES:
        for damage in [*DAMAGES, "a flipped byte"]:
            quick = file == "metrics" or damage == "a flipped byte"
            yield pytest.param(file, damage, marks=[] if quick else pytest.mark.slow)  # type: ignore[misc]


@pytest.mark.parametrize(("file", "damage"), list(damaged()))
def test_a_damaged_entry_is_made_again(
    file: str, damage: str, whole: tuple[Path, bytes], planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    cache = copied(whole[0], tmp_path / "cache")
    path = sorted(cache.glob(FILES[file]))[0]
    (DAMAGES | {"a flipped byte": flip})[damage](path)
    assert run(planted, tmp_path / "run", cache, monkeypatch) == whole[1]
    assert any("damaged" in record.getMessage() for record in caplog.records)
    caplog.clear()
    shutil.rmtree(tmp_path / "run")
    assert run(planted, tmp_path / "run", cache, monkeypatch) == whole[1]
    assert not caplog.records


PLACES = ("a file", "below a file", "/proc/nothing/x", "overlong", "loop", "read-only")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("program", ["run", "train", "eval", "cache"])
def test_a_cache_that_cannot_be_written(
    program: str, place: str, planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    cache = {
        "a file": tmp_path / "file", "below a file": tmp_path / "file" / "c",
        "/proc/nothing/x": Path("/proc/nothing/x"),
        "overlong": tmp_path / ("x" * 300), "loop": tmp_path / "loop", "read-only": Path("/sys/kernel/cache"),
    }[place]  # fmt: skip
    for name in ("AUTOINTERP_CACHE", "SAE_CACHE"):
        monkeypatch.setenv(name, str(cache))
    data = ("--corpus", planted / "corpus.jsonl")
    command = {
        "run": ("autointerp", "run", "--dictionary", planted / "dictionary", *data, "--baselines", "none",
                "--set", "corpus.context=32", "--set", "sampling.fragment=16"),
        "train": ("sae", "train", "--model", planted / "model", "--hook", "hook_embed", *data,
                  "--set", "corpus.context=32", "--set", "dictionaries.0.k=2"),
        "eval": ("sae", "eval", planted / "dictionary", *data),
        "cache": ("autointerp", "cache", "info"),
    }[program]  # fmt: skip
    if program == "eval":
        pytest.skip("measuring on all of a text keeps nothing")
    refused(*command, cwd=tmp_path, names="")


@pytest.mark.slow
def test_two_runs_make_the_entries_of_one_cache(planted: Path, whole: tuple[Path, bytes], tmp_path: Path) -> None:
    """Both succeed, with the same records."""
    code = (
        "import sys, pathlib; from autointerp import api; from sae.common.progress import Silent\n"
        f"api.run('dictionary', {changes(planted)!r}, sys.argv[1], Silent)"
    )
    names = dict.fromkeys(("AUTOINTERP_CACHE", "SAE_CACHE"), str(tmp_path / "cache"))
    runs = [tmp_path / "one", tmp_path / "two", tmp_path / "three"]
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(out)], env=os.environ | names,
        stderr=subprocess.PIPE, text=True)
        for out in runs
    ]  # fmt: skip
    for process in started:
        _, err = process.communicate(timeout=900)
        assert process.returncode == 0, err
        assert "damaged" not in err
    assert {(out / "records.parquet").read_bytes() for out in runs} == {whole[1]}


def test_a_run_folder_is_locked_whatever_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sae.common import files

    code = (
        "import sys; from pathlib import Path; from sae.common.files import alone\n"
        "with alone(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "r")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"AUTOINTERP_CACHE": str(tmp_path / "another")},
    )  # fmt: skip
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    with pytest.raises(files.UserError, match="another process is working on"), files.alone(tmp_path / "r"):
        pass
    other.communicate("")
    with files.alone(tmp_path / "r"):
        pass
    assert not (tmp_path / "r").exists()
