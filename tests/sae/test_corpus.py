"""Corpora: every source's documents, blocks that lose nothing, splits that share nothing."""

import gzip
import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow
import pytest

from sae.common.errors import UserError
from sae.data import corpus, corpus_files
from sae.data.blocks import to_blocks
from sae.data.split import TrainingText, same_corpus, split_blocks


def texts(spec: object) -> list[str]:
    return [document.text for document in corpus.read_documents(str(spec))]


def test_stdlib_is_real_text_without_tests() -> None:
    documents = list(corpus.read_documents("stdlib"))
    names = {document.name for document in documents}
    assert "json/decoder.py" in names
    assert not [name for name in names if {"test", "site-packages"} & set(name.split("/"))]
    assert sum(len(document.text) for document in documents) > 5e6


def test_jsonl_parquet_folder_and_text(tmp_path: Path) -> None:
    import pandas

    rows = [{"text": "one two", "body": "first"}, {"text": "three\nfour", "body": "second"}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    pandas.DataFrame(rows).to_parquet(tmp_path / "x.parquet")
    for name in ("x.jsonl", "x.parquet"):
        assert texts(tmp_path / name) == ["one two", "three\nfour"]
        assert texts(f"{tmp_path / name}#body") == ["first", "second"]
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "b.md").write_text("bee")
    (folder / "sub" / "a.txt").write_text("ay")
    (folder / ".hidden").write_text("no")
    (folder / "binary.bin").write_bytes(b"\0\1\2")
    (folder / "empty.txt").write_text(" \n")
    assert texts(folder) == ["bee", "ay"]
    (tmp_path / "marked.txt").write_text("one<|endoftext|>two<|endoftext|>")
    assert texts(tmp_path / "marked.txt") == ["one", "two"]
    paragraphs = [f"paragraph {i} " * 60 for i in range(40)]
    (tmp_path / "long.txt").write_text("\n\n".join(paragraphs))
    sections = texts(tmp_path / "long.txt")
    assert "\n\n".join(sections) == "\n\n".join(paragraphs)
    assert len(sections) > 5


def compressed(name: str, data: bytes) -> bytes:
    """By other programs than those that read it: gzip and zstd of the standard library or of pyarrow, in two frames."""
    if name.endswith(".gz"):
        return gzip.compress(data[:10]) + gzip.compress(data[10:])
    codec = pyarrow.Codec("zstd")
    return codec.compress(data[:10], asbytes=True) + codec.compress(data[10:], asbytes=True)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_compressed_files(ending: str, tmp_path: Path) -> None:
    rows = [{"text": f"row {i}\u2028 é", "body": "b" * i} for i in range(3000)]
    contents = {
        "x.jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in rows),
        "x.json": json.dumps(rows),
        "x.txt": "one<|endoftext|>two",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, "utf-8")
        (tmp_path / f"{name}{ending}").write_bytes(compressed(ending, content.encode()))
        assert texts(tmp_path / f"{name}{ending}") == texts(tmp_path / name)
    assert texts(tmp_path / f"x.jsonl{ending}") == [row["text"] for row in rows]
    assert texts(f"{tmp_path}/x.jsonl{ending}#body") == [row["body"] for row in rows[1:]]


def test_arrays_of_objects_and_of_texts(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([{"text": "one", "body": "first"}, {"text": "two", "body": "second"}]))
    assert texts(tmp_path / "x.json") == ["one", "two"]
    assert texts(f"{tmp_path / 'x.json'}#body") == ["first", "second"]
    (tmp_path / "y.json").write_text('["one", " ", "two\\ud800"]')
    assert texts(tmp_path / "y.json") == ["one", "two\ufffd"]


def test_the_mark_before_a_text_of_windows_is_no_part_of_it(tmp_path: Path) -> None:
    for name, content in {"x.jsonl": '{"text": "one"}\n', "x.json": '["one"]', "x.txt": "one"}.items():
        (tmp_path / name).write_text(content, "utf-8-sig")
        assert texts(tmp_path / name) == ["one"]


def test_files_of_a_folder_are_cut_as_single_files_are(tmp_path: Path) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    long = "\n\n".join(f"paragraph {i} " * 60 for i in range(40))
    (tmp_path / "d" / "a.txt").write_text("one<|endoftext|>two")
    (tmp_path / "d" / "sub" / "long.txt").write_text(long)
    single = list(corpus.read_documents(str(tmp_path / "d" / "sub" / "long.txt")))
    cut = list(corpus.read_documents(str(tmp_path / "d")))
    assert [document.text for document in cut] == ["one", "two", *(document.text for document in single)]
    assert [document.name for document in cut[:3]] == ["a.txt:0", "a.txt:1", "sub/long.txt:0"]
    assert len(single) > 5


def test_several_corpora_are_read_one_after_the_other(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "a.txt + b.txt"):
        (tmp_path / name).write_text(f"{name}<|endoftext|>end of {name}")
    one, two, named = (str(tmp_path / name) for name in ("a.txt", "b.txt", "a.txt + b.txt"))
    assert texts(f"{one} + {two}") == ["a.txt", "end of a.txt", "b.txt", "end of b.txt"]
    assert [d.text for d in corpus.documents(f"{one} + {two}", 3)] == ["end of b.txt"]
    assert texts(named) == ["a.txt + b.txt", "end of a.txt + b.txt"]
    assert corpus.Text(f"{one} + {two}", 8, 99).hash != corpus.Text(one, 8, 99).hash
    assert same_corpus(f"{one} + {two}", f"{tmp_path}/./a.txt + {two}")
    assert not same_corpus(f"{one} + {two}", f"{two} + {one}")
    with pytest.raises(UserError, match="corpus absent: no such file"):
        corpus.documents(f"{one} + absent")
    with pytest.raises(UserError, match="datasets of the hub and files cannot be one corpus"):
        corpus.documents(f"{one} + hf:a/b")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b"not json\n{\n", "x.jsonl:1 is not JSON"),
        ("x.jsonl", b'{"texts": "a"}\n', "did you mean texts?"),
        ("x.parquet", b"nonsense", "cannot read"),
        ("x.txt", b"\xff\xfe\xfa", "as UTF-8"),
        ("x.txt", b"  \n", "has no text"),
        ("x.json", b'{"text": "a"}', "holds no JSON array"),
        ("x.json", b'[{"texts": "b"}, {"texts": "c"}]', "item 0 has no text column 'text'; did you mean texts"),
        ("x.json", b"[3]", "item 0 has no text column"),
        ("x.json", b'[{"text": NaN}]', "item 0 holds no text in column 'text'; choose one with x.json#COLUMN"),
        ("x.json", b'["a"', "is not JSON"),
        ("x.jsonl.gz", b'{"text": "a"}', "cannot read"),
        ("x.jsonl.zst", b'{"text": "a"}', "cannot read"),
        ("x.jsonl.gz", gzip.compress(b'{"text": "a"}' * 99, mtime=0)[:-9], "cannot read"),
        ("x.jsonl.zst", compressed("x.zst", b'{"text": "a"}\n' * 99)[:-9], "cannot read"),
        ("x.parquet.gz", gzip.compress(b"PAR1\0", mtime=0), "it is binary"),
    ],
)
def test_unreadable_files_are_told_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        list(corpus.read_documents(str(tmp_path / name)))
    assert "\n" not in str(caught.value)


def test_jsonl_lines_end_at_newlines_only(tmp_path: Path) -> None:
    rows = [{"text": "one\u2028still one\x85\x0b"}, {"text": "two"}]
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    assert texts(tmp_path / "x.jsonl") == [row["text"] for row in rows]


def test_hugging_face_datasets_are_streamed(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    rows = [{"text": f"row {i}", "body": f"body {i}"} for i in range(50)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert texts(f"hf:{tmp_path}") == [f"row {i}" for i in range(50)]
    assert [d.text for d in corpus.read_documents(f"hf:{tmp_path}#body", max_characters=12)] == ["body 0", "body 1"]
    with pytest.raises(UserError, match="has no column 'texts'; did you mean text"):
        texts(f"hf:{tmp_path}#texts")


def test_documents_are_read_as_they_are_asked_for_and_from_any_number(tmp_path: Path) -> None:
    """What comes after the required document may be unreadable: nobody looks at it."""
    whole = gzip.compress(b'{"text": "one"}\r\n\r\n{"text": "two"}\n \n' + random.randbytes(10**6).hex().encode())
    (tmp_path / "x.jsonl.gz").write_bytes(whole[:-9])
    lazy = corpus.documents(str(tmp_path / "x.jsonl.gz"))
    assert [next(lazy).text, next(lazy).text] == ["one", "two"]
    with pytest.raises(UserError, match=r"cannot read .*x\.jsonl"):
        next(lazy)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_text(name)
    (tmp_path / "x.txt").write_text("a<|endoftext|> <|endoftext|>b<|endoftext|>c")
    for spec in (str(folder), str(tmp_path / "x.txt"), "stdlib"):
        whole = list(corpus.documents(spec))
        assert list(corpus.documents(spec, 2)) == whole[2:]
        assert list(corpus.documents(spec, len(whole))) == []


def test_rows_of_parquet_files_are_numbered_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas

    monkeypatch.setattr(corpus_files, "ROWS_AT_ONCE", 4)
    pandas.DataFrame({"text": [f"row {i}" if i % 3 else None for i in range(10)]}).to_parquet(tmp_path / "x.parquet")
    whole = list(corpus.documents(str(tmp_path / "x.parquet")))
    assert [document.name for document in whole] == [f"x.parquet:{i}" for i in range(10)]
    assert [document.text for document in whole] == [f"row {i}" if i % 3 else "" for i in range(10)]
    assert list(corpus.documents(str(tmp_path / "x.parquet"), 5)) == whole[5:]


def test_missing_path_and_missing_column(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        list(corpus.read_documents(str(tmp_path / "absent")))


def test_blocks_hold_every_token_once_and_stop_at_the_limit() -> None:
    ids = [list(range(1, 1 + n)) for n in (5, 0, 8, 17, 3)]
    blocks = to_blocks(ids, 8)
    back: dict[int, list[int]] = {}
    for row, length, document in zip(blocks.ids_NC, blocks.length_N, blocks.document_N, strict=True):
        assert not row[length:].any()
        back.setdefault(int(document), []).extend(row[:length].tolist())
    assert back == {i: tokens for i, tokens in enumerate(ids) if tokens}
    assert blocks.n_tokens == 33
    assert [set(to_blocks(ids, 8, max_tokens=n).document_N) for n in (5, 6, 13)] == [{0}, {0, 2}, {0, 2}]
    assert (blocks.full().length_N == 8).all()


def test_split_is_disjoint_complete_seeded_and_of_the_asked_size() -> None:
    rng = np.random.default_rng(0)
    ids = [[1] * int(n) for n in rng.integers(1, 400, 300)]
    blocks = to_blocks(ids, 16)
    split = split_blocks(blocks, 0.3, 1)
    train, held_out = set(split.train.document_N.tolist()), set(split.held_out.document_N.tolist())
    assert not train & held_out
    assert train | held_out == set(blocks.document_N.tolist())
    assert split.train.n_tokens + split.held_out.n_tokens == blocks.n_tokens
    assert split.held_out.n_tokens == pytest.approx(0.3 * blocks.n_tokens, rel=0.02)
    again = split_blocks(blocks, 0.3, 1)
    assert np.array_equal(again.held_out.document_N, split.held_out.document_N)
    with pytest.raises(UserError, match="too few to hold out"):
        split_blocks(to_blocks([[1] * 100], 16), 0.3, 0)


def test_what_the_hub_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(path: str, **how: object) -> None:
        raise ValueError(f"Config name is missing.\nPlease pick one among: ['en', 'de'] for {path}")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(UserError, match=r"cannot read dataset owner/name: .*'en', 'de'.*hf:NAME@CONF") as caught:
        next(corpus.documents("hf:owner/name"))
    assert "\n" not in str(caught.value)


def test_no_more_than_half_of_a_text_is_held_out() -> None:
    blocks = to_blocks([[1] * 16] * 10, 16)
    text = TrainingText("x.jsonl", 16, 1000, held_out_tokens=150, streamed=False, seed=0)
    assert text.split(blocks).held_out.n_tokens == 80
    assert replace(text, held_out_tokens=32).split(blocks).held_out.n_tokens == 32
