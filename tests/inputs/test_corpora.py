"""Corpora with damaged files: refused in one line, or read without the damaged part, which is counted and named."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet
import pytest

from sae.data import corpus
from sae.data.damage import MOST_DAMAGED
from tests.inputs.harness import FOREIGN, refused, refuses, spoilers


def texts(spec: object) -> list[str]:
    return [document.text for document in corpus.read_documents(str(spec))]


def jsonl(*lines: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "x.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        return folder / "x.jsonl"

    return write


def columns(**values: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        parquet.write_table(pyarrow.table(values), folder / "x.parquet")
        return folder / "x.parquet"

    return write


def text(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def folder(**files: bytes) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        (root / "d").mkdir()
        for name, content in files.items():
            (root / "d" / name).write_bytes(content)
        return root / "d"

    return write


GOOD = b'{"text": "good"}'
REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "deep": (jsonl(b'{"text": ' + b"[" * 100_000), "x.jsonl:1"),
    "deep beside the text": (jsonl(b'{"text": "a", "b": ' + b"[" * 100_000), "x.jsonl:1"),
    "a huge number": (jsonl(b'{"text": ' + b"9" * 5000 + b"}"), "x.jsonl:1"),
    "a huge number beside the text": (jsonl(b'{"text": "a", "n": ' + b"9" * 5000 + b"}"), "x.jsonl:1"),
    "a number": (jsonl(b'{"text": 3}'), "x.jsonl:1"),
    "null": (jsonl(b'{"text": null}'), "x.jsonl:1"),
    "a list": (jsonl(b'{"text": ["a"]}'), "x.jsonl:1"),
    "lines of another kind": (jsonl(b'"text"', b"4"), "x.jsonl:1"),
    "a line of a number": (jsonl(b"3"), "x.jsonl:1"),
    "half a line": (jsonl(b'{"text": "go'), "x.jsonl:1"),
    "a good line after a thousand others": (jsonl(*[b"{}"] * MOST_DAMAGED, GOOD), "x.jsonl:1"),
    "an array": (jsonl(b'[{"text": "a"}]'), "x.jsonl:1"),
    "no lines": (jsonl(), "x.jsonl"),
    "blank texts": (jsonl(b'{"text": " "}', b'{"text": ""}'), "x.jsonl"),
    "UTF-16": (text("x.jsonl", '{"text": "a"}\n'.encode("utf-16")), "x.jsonl"),
    "integers": (columns(text=[1, 2, 3]), "int64"),
    "numbers": (columns(text=[1.5, 2.5]), "double"),
    "lists": (columns(text=[["a"], ["b"]]), "list"),
    "booleans": (columns(text=[True, False]), "bool"),
    "nulls": (columns(text=pyarrow.nulls(3)), "null"),
    "empty strings": (columns(text=["", " "]), "x.parquet"),
    "no rows": (columns(text=pyarrow.array([], pyarrow.string())), "x.parquet"),
    "another column": (columns(texts=["a"]), "texts"),
    "no columns": (columns(), "text"),
    "UTF-16 text": (text("x.txt", "é".encode("utf-16")), "x.txt"),
    "latin": (text("x.txt", b"caf\xe9"), "x.txt"),
    "a NUL": (text("x.txt", b"  \0  "), "x.txt"),
    "a folder of nothing": (folder(), "d"),
    "a folder of binaries": (folder(a=b"\0\1", b=bytes(100)), "d"),
    "a folder of latin": (folder(a=b"caf\xe9 \xff"), "d"),
    "a folder of blanks": (folder(a=b" ", b=b"\n\n"), "d"),
}
"""Corpora that are refused, and what the line names."""


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused(kind: str, tmp_path: Path) -> None:
    write, names = REFUSED[kind]
    spec = write(tmp_path)
    refuses(lambda: texts(spec), names)


@pytest.mark.parametrize("kind", [*spoilers(FOREIGN)])
@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl"])
def test_a_damaged_file_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    if name == "x.parquet":
        parquet.write_table(pyarrow.table({"text": ["a text"] * 999}), tmp_path / name)
    else:
        (tmp_path / name).write_bytes(b"\n".join([GOOD] * 99))
    spoilers(FOREIGN)[kind](tmp_path / name)
    if name == "x.jsonl" and kind.startswith("cut at"):  # whole lines are left, and half a one
        assert set(texts(tmp_path / name)) <= {"good"}
    else:
        refuses(lambda: texts(tmp_path / name), "x.")


SPECS = (
    "", " ", "absent", "absent#text", "stdlib#text", "hf:", "hf:#", "x" * 5000, "a\0b", "loop", "/dev/null", "\udcff",
    "x.jsonl#", "x.jsonl#absent", "x.jsonl#a#b",
)  # fmt: skip


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("program", ["eval", "run", "train"])
def test_a_spec_that_names_nothing(program: str, spec: str, planted: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "x.jsonl").write_bytes(b'{"words": "a"}')
    arguments = {
        "eval": ("sae", "eval", planted / "dictionary"),
        "run": ("autointerp", "run", "--dictionary", planted / "dictionary"),
        "train": ("sae", "train", "--model", planted / "model", "--hook", "hook_embed"),
    }[program]
    refused(*arguments, "--corpus", spec, cwd=tmp_path, names="")


def pages(path: Path) -> Path:
    """Write a parquet file of three row groups, then damage a page of the second."""
    rows = [f"text number {number}" for number in range(3000)]
    table = pyarrow.table({"text": rows})
    parquet.write_table(table, path, row_group_size=1000, compression="zstd", use_dictionary=False)
    column = parquet.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = column.data_page_offset + 40
    data[start : start + 60] = bytes(60)
    path.write_bytes(bytes(data))
    return path


KEPT: dict[str, tuple[Callable[[Path], Path], int, str]] = {
    "a surrogate": (jsonl(GOOD, rb'{"text": "half \ud83d"}'), 2, "1 document"),
    "two surrogates": (jsonl(rb'{"text": "\ud800 a \udfff"}', rb'{"text": "\ude00"}'), 2, "2 documents"),
    "a pair of surrogates": (jsonl(rb'{"text": "\ud83d\ude00"}'), 1, ""),
    "half a line": (jsonl(GOOD, b'{"text": "go'), 1, "x.jsonl:2"),
    "a deep line": (jsonl(b'{"text": ' + b"[" * 100_000, GOOD), 1, "1 document"),
    "lines without text": (jsonl(GOOD, b'{"text": 3}', b'"text"', b"{}", b'{"text": null}', GOOD), 2, "4 documents"),
    "many damaged lines": (jsonl(*[b"{}"] * (MOST_DAMAGED - 1), GOOD), 1, "x.jsonl:1, x.jsonl:2, x.jsonl:3, ..."),
    "items without text": (text("x.json", b'["good", 3, {"text": "good"}, {"text": 4}]'), 2, "x.json:1, x.json:3)"),
    "a paragraph that is not UTF-8": (text("x.txt", b"good\n \n\nbad\ncaf\xe9\n\ngood"), 1, "x.txt:5"),
    "a marked text that is not UTF-8": (text("x.txt", b"a\n<|endoftext|>\xff<|endoftext|>b"), 2, "x.txt:2"),
    "a line that is not UTF-8": (jsonl(GOOD, b'{"text": "\xff"}', GOOD), 2, "x.jsonl:2"),
    "two lines that are not UTF-8": (jsonl(b'{"text": "\xff"}', b"\xfe\xfe", GOOD), 1, "2 documents"),
    "a damaged page": (lambda root: pages(root / "x.parquet"), 2000, "1,000 documents"),
    "strings that are not UTF-8": (
        columns(text=pyarrow.array([b"good", b"\xff\xfe", b"good"]).view(pyarrow.string())), 2, "x.parquet:1",
    ),
    "bytes that are not UTF-8": (columns(text=pyarrow.array([b"good", b"\xff\xfe", b"good"])), 2, "x.parquet:1"),
    "a file that is not UTF-8": (folder(a=b"good", b=b"caf\xe9 \xff"), 1, "b:1"),
}  # fmt: skip
"""Corpora that are read without what is damaged: how many documents are left, and what the notice says."""


@pytest.mark.parametrize("kind", KEPT)
def test_damaged_documents_are_counted_and_named(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write, n_documents, said = KEPT[kind]
    spec = write(tmp_path)
    kept = texts(spec)
    assert len(kept) == n_documents
    for one in kept:
        one.encode("utf-8")  # no surrogates are left
    assert [record.levelname for record in caplog.records] == (["WARNING"] if said else [])
    assert said in caplog.text
    assert caplog.text.count("\n") <= 1


def test_a_run_says_what_it_skipped(planted: Path, tmp_path: Path) -> None:
    from autointerp.api import open_run
    from tests.inputs.harness import invoke

    lines = (planted / "corpus.jsonl").read_bytes().splitlines()
    extra = [rb'{"text": "the red \ud83d stone"}', b'{"text": "\xff"}', b'{"text": "half']
    (tmp_path / "x.jsonl").write_bytes(b"\n".join([*lines, *extra]))
    done = invoke(
        "autointerp", "run", "--dictionary", planted / "dictionary", "--corpus", "x.jsonl", "--baselines", "none",
        "--explainer", "rules-1", "--set", "corpus.context=32", "--set", "sampling.fragment=16", "--out", "r",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    about = open_run(tmp_path / "r").about
    notes = " ".join(about["notes"])
    for line in (241, 242, 243):
        assert f"1 document {['with', 'skipped', 'skipped'][line - 241]}" in notes
        assert f"x.jsonl:{line}" in notes
    assert about["sampling"]["corpus_damage"] == [note for note in about["notes"] if note.startswith("corpus x.jsonl")]


def test_links_in_circles_are_passed_over(tmp_path: Path) -> None:
    write = folder(a=b"good")
    root = write(tmp_path)
    os.symlink(".", root / "here")
    os.symlink("loop", root / "loop")
    os.symlink("absent", root / "broken")
    assert texts(root) == ["good"]


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    path = os.fsencode(tmp_path / "d") + b"/\xff.txt"
    with open(path, "wb") as stream:
        stream.write(b"good")
    assert texts(tmp_path / "d") == ["good"]
    assert json.dumps(next(corpus.read_documents(str(tmp_path / "d"))).name)
