"""Configs: every field with values of another kind, YAML that is none, values that contradict each other."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from autointerp.config import Config
from autointerp.config import load as load_run
from autointerp.runs.plan import make_plan
from sae.common.settings import sections_in
from sae.training.config import TrainConfig
from sae.training.config import load as load_training
from tests.inputs.harness import refused, refuses

LOADERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "run": lambda changes: load_run("demo", changes),
    "train": lambda changes: load_training("toy", changes),
}


def leaves(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field that holds no sections, with its type; of a list of sections, the first one's."""
    for name, info in section.model_fields.items():
        inner = sections_in(info.annotation)
        if not inner:
            yield prefix + name, info.annotation
        elif len(inner) == 1 and inner[0] is info.annotation:
            yield from leaves(inner[0], f"{prefix}{name}.")


def kinds(annotation: Any) -> set[type]:
    return {annotation} if isinstance(annotation, type) else {k for a in get_args(annotation) for k in kinds(a)}


FIELDS = [("run", *leaf) for leaf in leaves(Config)] + [("train", *leaf) for leaf in leaves(TrainConfig)]
NUMBERS = [(program, name) for program, name, kind in FIELDS if kinds(kind) & {int, float} and "tuple" not in str(kind)]
TEXTS = [(program, name) for program, name, kind in FIELDS if str in kinds(kind) and "Literal" not in str(kind)]


@pytest.mark.parametrize(("program", "name"), [field[:2] for field in FIELDS if field[1] != "extra_body"])
def test_a_mapping_where_a_value_belongs(program: str, name: str) -> None:
    refuses(lambda: LOADERS[program]({name: {"a": {"b": 1}}}), name)


@pytest.mark.parametrize(("program", "name"), NUMBERS)
@pytest.mark.parametrize("value", [math.nan, -math.inf, "many", [1], True])
def test_no_number_where_one_belongs(program: str, name: str, value: object) -> None:
    refuses(lambda: LOADERS[program]({name: value}), name)


@pytest.mark.parametrize(("program", "name"), TEXTS)
@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_text_is_no_default(program: str, name: str, value: str) -> None:
    refuses(lambda: LOADERS[program]({name: value if not name.endswith("s") else [value]}), name)


@pytest.mark.parametrize(("program", "name"), [("run", "seed"), ("train", "seed"), ("run", "subject.toy.seed")])
@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_seeds_that_are_none(program: str, name: str, seed: int) -> None:
    refuses(lambda: LOADERS[program]({name: seed}), name)


TWICE = {
    "explainers": ["rules-5", "rules-1", "rules-5"], "scorers": ["simulation", "simulation"],
    "control_kinds": ["mismatched", "mismatched"], "dictionaries.baselines": ["pca", "pca"],
    "subject.hook_points": ["blocks.0.hook_mlp_out", "blocks.0.hook_mlp_out"],
}  # fmt: skip


@pytest.mark.parametrize("name", TWICE)
def test_the_same_twice(name: str) -> None:
    refuses(lambda: load_run("demo", {name: TWICE[name]}), str(TWICE[name][0]))


NAMES = ("../x", "a/b", "/a", ".", "..", "a\0b", "a\x1b[31mb", "a\nb", "a\u202eb", "x" * 300, "\udcff", "a\\b")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", ["run name", "train name", "run dictionary", "train dictionary"])
def test_a_name_stays_in_its_folder(field: str, name: str) -> None:
    program, what = field.split()
    path = {"run": "dictionaries.train.0.name", "train": "dictionaries.0.name"}[program]
    refuses(lambda: LOADERS[program]({"name" if what == "name" else path: name}), "name")


SOURCES = ("top", "quantile", "importance", "random", "inactive")


@pytest.mark.parametrize("side", ["explain", "score"])
def test_no_records_at_all(side: str) -> None:
    none = dict.fromkeys([*SOURCES, *(["weighted"] if side == "score" else [])], 0)
    refuses(lambda: load_run("demo", {f"sampling.{side}": none}), f"sampling.{side}")


@pytest.mark.parametrize("side", ["explain", "score"])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("count", [10**8, 10**12, 2**63])
def test_more_records_than_memory_holds(side: str, source: str, count: int, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("some words in a row")
    changes = {f"sampling.{side}.{source}": count, "corpus.source": str(tmp_path / "x.txt")}
    refuses(lambda: make_plan(load_run("demo", changes)), "sampling")


YAMLS: dict[str, bytes] = {
    "deep lists": b"[" * 20_000,
    "deep mappings": b"".join(b" " * depth + b"a:\n" for depth in range(3000)),
    "deep flow": b"a: " + b"{a: " * 20_000,
    "a list": b"- 1\n- 2\n",
    "a number": b"3\n",
    "a text": b"only words\n",
    "an open bracket": b"a: [",
    "an open quote": b'a: "b',
    "tabs": b"corpus:\n\tsource: x\n",
    "not UTF-8": b"name: \xff\xfe",
    "UTF-16": "seed: 0\n".encode("utf-16"),
    "a NUL": b"name: a\0b\n",
    "a control character": b"name: a\x07b\n",
    "a Python object": b"name: !!python/object/apply:os.system [ls]\n",
    "an unknown tag": b"name: !mine 3\n",
    "an unknown alias": b"name: *nobody\n",
    "a circle": b"explainers: &a [*a]\n",
    "laughs": b"a: &a [x, x]\n" + b"".join(
        b"%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c]\n" % (c, c, *[c - 1] * 7) for c in range(98, 118)
    ) + b"explainers: *u\n",
    "two documents": b"seed: 0\n---\nseed: 1\n",
    "a key twice": b"seed: 0\nseed: 1\n",
    "a key twice inside": b"corpus: {held_out: 0.1, held_out: 0.2}\n",
    "a key that is a number": b"1: 2\n",
    "a key that is a list": b"[1]: 2\n",
    "a key that is null": b"~: 2\n",
    "a date that is none": b"name: 2024-13-45\n",
    "a date": b"name: 2024-01-01\n",
    "a huge number": b"seed: " + b"9" * 5000 + b"\n",
    "not a number": b"controls: .nan\n",
    "endless": b"runtime: {call_seconds: .inf}\n",
    "binary": b"name: !!binary /////w==\n",
    "a set": b"explainers: !!set {rules-5}\n",
    "a merge of nothing": b"<<: 3\n",
}  # fmt: skip
"""Files that are no configs."""


@pytest.mark.parametrize("kind", YAMLS)
@pytest.mark.parametrize("program", ["autointerp run", "sae train"])
def test_files_that_are_no_configs(program: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(YAMLS[kind])
    refused(*program.split(), "bad.yaml", cwd=tmp_path, names="bad.yaml")


@pytest.mark.parametrize("program", ["autointerp run", "sae train"])
def test_a_corpus_in_a_configs_stead(program: str, tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_bytes(b'{"text": "words"}\n' * 200_000)
    refused(*program.split(), "corpus.jsonl", cwd=tmp_path, names="corpus.jsonl has 3,600,000 bytes")


@pytest.mark.parametrize("value", ["fast", "true", "3"])
def test_a_flag_does_not_replace_a_section_that_is_none(value: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"runtime: {value}\n")
    refused("autointerp", "run", "x.yaml", "--no-site", "--dry-run", cwd=tmp_path, names="runtime is ")


VALUES = ("[" * 5000, "{a: " * 5000, "9" * 5000, "2024-13-45", "*a", "!!python/name:os.system", "[", "\0", "\udcff")


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("program", ["autointerp run", "sae train"])
def test_settings_that_are_none(program: str, value: str, tmp_path: Path) -> None:
    refused(*program.split(), "--set", f"seed={value}", cwd=tmp_path, names="seed")


CONFIGS = ("", " ", "absent", "demoo", ".", "/", "/dev/null/x", "x" * 5000, "a\0b", "loop", "../..", "\udcff", "-")


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("program", ["autointerp run", "sae train"])
def test_configs_that_are_not_there(program: str, config: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    refused(*program.split(), config, cwd=tmp_path, names="")


HUGE = {
    "expansion": {"dictionaries.0.expansion": 1e9}, "batch": {"batch": 10**12}, "buffer": {"buffer": 10**14},
    "k": {"dictionaries.0.k": 10**12}, "a batch beyond 64 bits": {"batch": 10**30},
}  # fmt: skip


@pytest.mark.parametrize("kind", HUGE)
def test_trainings_that_memory_cannot_hold(kind: str, planted: Path, tmp_path: Path) -> None:
    sets = [word for name, value in HUGE[kind].items() for word in ("--set", f"{name}={value!r}")]
    refused(
        "sae", "train", "toy", "--model", planted / "model", "--hook", "hook_embed", "--corpus",
        planted / "corpus.jsonl", "--set", "corpus.context=32", "--set", "dictionaries.0.k=2", *sets, cwd=tmp_path,
        names=kind.split()[-1] if kind == "k" else "",
    )  # fmt: skip


HUGE_RUNS = {
    "expansion": ["dictionaries.train=[{architecture: topk, expansion: 1.0e+9, k: 2}]"],
    "batch": ["dictionaries.train=[{architecture: topk, expansion: 2, k: 2}]", "dictionaries.batch=1000000000000"],
    "top-k": ["dictionaries.baselines=[pca-top1000000000000]"],
    "2 vectors": ["dictionaries.baselines=[ica]", "dictionaries.fit_vectors=2"],
    "3 vectors": ["dictionaries.baselines=[ica]", "dictionaries.fit_vectors=3"],
    "15 vectors": ["dictionaries.baselines=[ica]", "dictionaries.fit_vectors=15"],
    "2 vectors for parts": ["dictionaries.baselines=[nmf]", "dictionaries.fit_vectors=2"],
    "2 vectors for components": ["dictionaries.baselines=[pca]", "dictionaries.fit_vectors=2"],
    "2 vectors to match": ["dictionaries.baselines=[random_matched]", "dictionaries.fit_vectors=2"],
}


@pytest.mark.parametrize("kind", HUGE_RUNS)
def test_runs_that_memory_cannot_hold_or_vectors_cannot_fit(kind: str, planted: Path, tmp_path: Path) -> None:
    sets = [word for setting in HUGE_RUNS[kind] for word in ("--set", setting)]
    refused(
        "autointerp", "run", "--dictionary", planted / "dictionary", "--corpus", planted / "corpus.jsonl",
        "--baselines", "none", "--set", "corpus.context=32", "--set", "sampling.fragment=16", "--hook", "hook_embed",
        *sets, cwd=tmp_path, names="",
    )  # fmt: skip
