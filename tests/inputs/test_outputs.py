"""Places that cannot be written to: named in one line, soon, with nothing left behind."""

import importlib
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sae import formats
from tests.inputs.harness import as_nobody, copied, refused, refuses
from tests.sae.test_dictionary import random_dictionary

PLACES = ("below a file", "/proc/nothing/x", "/sys/kernel/x", "overlong", "loop/x", "a\0b", "/dev/null/x")


def place(name: str, folder: Path) -> str:
    (folder / "file").write_text("mine")
    (folder / "loop").symlink_to("loop")
    return {"below a file": "file/x", "overlong": "x" * 300}.get(name, name)


def commands(planted: Path, out: str) -> dict[str, tuple[object, ...]]:
    data = ("--corpus", planted / "corpus.jsonl")
    small = ("--set", "corpus.context=32", "--set", "sampling.fragment=16", "--baselines", "none")
    return {
        "convert": ("sae", "convert", planted / "dictionary", out),
        "eval": ("sae", "eval", planted / "dictionary", *data, "--tokens", 500, "--out", out),
        "train": (
            "sae", "train", "--model", planted / "model", "--hook", "hook_embed", *data, "--out", out,
            "--set", "corpus.context=32", "--set", "dictionaries.0.k=2", "--steps", 2,
        ),
        "run": ("autointerp", "run", "--dictionary", planted / "dictionary", *data, *small, "--out", out),
        "dry run": ("autointerp", "run", "--dictionary", planted / "dictionary", *data, *small, "--out", out,
        "--dry-run"),
        "calibrate": ("autointerp", "calibrate", "--quick", "--out", out),
        "export": ("autointerp", "cache", "export", out),
    }  # fmt: skip


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("command", ["convert", "eval", "train", "run", "dry run", "calibrate", "export"])
def test_a_place_that_cannot_be_written(command: str, where: str, planted: Path, tmp_path: Path) -> None:
    out = place(where, tmp_path)
    refused(*commands(planted, out)[command], cwd=tmp_path, names="")  # type: ignore[arg-type]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", ["train", "run", "dry run", "calibrate", "convert"])
def test_a_file_where_a_folder_belongs(command: str, planted: Path, tmp_path: Path) -> None:
    place("", tmp_path)
    refused(*commands(planted, "file")[command], cwd=tmp_path, names="file")  # type: ignore[arg-type]


@pytest.mark.parametrize("command", ["eval", "export"])
def test_a_folder_where_a_file_belongs(command: str, planted: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    refused(*commands(planted, "folder")[command], cwd=tmp_path, names="folder")  # type: ignore[arg-type]


@pytest.mark.parametrize("command", ["convert", "eval", "train", "run", "dry run", "calibrate", "export"])
def test_a_folder_that_is_read_only(command: str, planted: Path, tmp_path: Path) -> None:
    importlib.import_module("autointerp.llm.estimate")  # nobody may not be allowed to read Python's own files
    importlib.import_module("autointerp.runs.pipeline")
    given = copied(planted, tmp_path / "given")
    folder = tmp_path / "fixed"
    folder.mkdir()
    folder.chmod(0o555)
    for path in [given, *given.rglob("*")]:
        path.chmod(0o755)
    for path in [tmp_path, *tmp_path.parents]:
        if path.owner() == "root" and not path.stat().st_mode & 0o005:
            path.chmod(path.stat().st_mode | 0o055)
    with as_nobody():
        refused(*commands(given, str(folder / "x"))[command], cwd=tmp_path, names="fixed")  # type: ignore[arg-type]
    assert not list(folder.iterdir())


@contextmanager
def full_disk(after: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes inside the block, which fails as a full disk does."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("format_name", formats.writable())
@pytest.mark.parametrize("room", [0, 100, 1000])
def test_a_disk_that_fills_up_while_weights_are_written(format_name: str, room: int, tmp_path: Path) -> None:
    with full_disk(room):
        refuses(lambda: formats.save(random_dictionary(), tmp_path / "d", format_name), "d")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["run", "train"])
@pytest.mark.parametrize("room", [0, 3000])
def test_a_disk_that_fills_up_meanwhile(
    command: str, room: int, planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AUTOINTERP_CACHE", "SAE_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    with full_disk(room):
        refused(*commands(planted, "out")[command], cwd=tmp_path, names="")  # type: ignore[arg-type]


def test_a_full_disk_while_a_toy_is_saved(tmp_path: Path) -> None:
    from sae.models import toy
    from sae.models.toy_recipe import Toy

    tokenizer = toy.train_tokenizer(["some words"], 300)
    model = toy._build(Toy(vocabulary=300, d_model=8, d_mlp=8, n_heads=1), 8)
    with full_disk(2000):
        refuses(lambda: toy.save_toy(tmp_path / "t", model, tokenizer, Toy(), {}), "t")
    assert not list(tmp_path.iterdir())
