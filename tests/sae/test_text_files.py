"""Texts cut while they are read: the same documents as of the whole text, and none is ever held whole."""

import gzip
import io
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet
import pytest

from sae.common.errors import UserError
from sae.data import text_files
from sae.data.corpus import Text
from sae.data.damage import Document

MEGABYTES = 24


def cut_whole(text: str) -> list[str]:
    """Straight from the definition."""
    if "<|endoftext|>" in text:
        return text.split("<|endoftext|>")
    documents: list[str] = []
    section: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        section.append(paragraph)
        if sum(map(len, section)) >= text_files.SECTION_CHARACTERS:
            documents.append("\n\n".join(section))
            section = []
    return [*documents, "\n\n".join(section)] if section else documents


def cut_streamed(text: str) -> list[str]:
    def opened() -> io.TextIOWrapper:
        return io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", "surrogateescape", newline="")

    documents = list(text_files.sections("x", opened(), text_files.is_marked(opened())))
    assert all(isinstance(document, Document) for document in documents)
    assert [document.name for document in documents] == [f"x:{number}" for number in range(len(documents))]
    return [document.text for document in documents if isinstance(document, Document)]


PIECES = ("a", "é\u2028", "\n", "\n", "\n", " ", "\r", "\x1c", "<|endof", "text|>", "longer words")


@pytest.mark.parametrize("seed", range(200))
def test_a_text_is_cut_as_if_it_were_read_whole(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    text = "".join(rng.choices(PIECES[: rng.choice((8, 11))], k=rng.randrange(80)))
    monkeypatch.setattr(text_files, "READ_AT_ONCE", rng.randrange(16, 40))
    monkeypatch.setattr(text_files, "SECTION_CHARACTERS", rng.randrange(1, 12))
    assert cut_streamed(text) == cut_whole(text)


def test_a_text_without_blank_lines_is_cut_where_it_grows_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("READ_AT_ONCE", 10), ("LONGEST_PIECE", 50), ("SECTION_CHARACTERS", 1)):
        monkeypatch.setattr(text_files, name, value)
    lines = "".join(f"line {i}\n" for i in range(5000))
    for text in (lines, "words " * 5000, "x" * 30_000):
        cut = cut_streamed(text)
        assert "".join(cut) == text
        assert max(map(len, cut)) < 5000
    assert all(one.endswith("\n") for one in cut_streamed(lines)[:-1])


NAMES = ("x.txt", "marked.txt", "x.jsonl", "x.jsonl.gz", "x.parquet")
MEASURE = """
import resource, sys
import pyarrow.parquet
from sae.data.corpus import documents
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
for path in sys.argv[1:]:
    print(sum(len(document.text) for document in documents(path)))
print((peak() - before) / 1024)
"""


def write(path: Path, rows: list[str]) -> None:
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.table({"text": rows}), path, compression="none", row_group_size=10**9)
        return
    end = "<|endoftext|>" if path.name == "marked.txt" else "\n\n"
    with gzip.open(path, "wt", 1) if path.suffix == ".gz" else path.open("w") as file:
        file.writelines(row + end if path.suffix == ".txt" else json.dumps({"text": row}) + "\n" for row in rows)


@pytest.mark.slow
def test_a_corpus_is_never_held_whole(tmp_path: Path) -> None:
    """The peak of a process that reads 24 MB in every way, in megabytes above what its imports take."""
    rows = [f"{i} " * 100 for i in range(MEGABYTES * 10**6 // 600)]
    paths = [tmp_path / name for name in NAMES]
    for path in paths:
        write(path, rows)
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *characters, megabytes = done.stdout.split()
    assert len(characters) == len(NAMES)
    assert min(map(int, characters)) >= sum(map(len, rows))
    assert float(megabytes) < MEGABYTES / 2


def test_a_text_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two"}\n')
    text = Text(str(path), 8, 100)
    assert len(text.hash) == 64
    assert text.names([1]) == ["x.jsonl:2"]
    path.write_text('{"text": "one"}\n{"text": "too"}\n')
    documents = text.documents()
    assert next(documents).text == "one"
    with pytest.raises(UserError, match="has changed while it was read"):
        list(documents)
