"""What `import sae` offers: each name lazily, and the example in its docstring is true."""

import doctest
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sae
from sae.common.errors import UserError
from sae.common.progress import Silent
from sae.training import config as configs
from tests.test_layers import SUBJECTS, TENSORS, loaded_by

CONFIG = """
corpus: {source: corpus.jsonl, context: 16, held_out_tokens: 2000}
subject: {model: model, hook_point: blocks.0.mlp.hook_post}
steps: 100
batch: 128
buffer: 1024
dictionaries:
  - {architecture: topk, expansion: 1, k: 4, lr: 3.0e-3}
runtime: {device: cpu}
"""


@pytest.fixture
def here(planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with model/, dictionary/, corpus.jsonl and config.yaml."""
    shutil.copytree(planted, tmp_path / "here")
    (tmp_path / "here" / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize("name", sae.__all__)
def test_the_example_of_each_name_is_true(name: str, here: Path) -> None:
    value = getattr(sae, name)
    result = doctest.DocTestFinder(recurse=False).find(value, name, globs={"sae": sae})
    assert [len(test.examples) > 1 for test in result] == [True]
    assert doctest.DocTestRunner().run(result[0]).failed == 0


def test_the_package_is_imported_without_anything_heavy() -> None:
    code = "import sae\nsae.load, sae.save, sae.convert, sae.train, sae.evaluate, dir(sae)"
    assert loaded_by(code, {*TENSORS, *SUBJECTS, "numpy", "pydantic", "pandas"}) == "[]"


def test_only_what_is_offered_is_there() -> None:
    assert set(sae.__all__) <= set(dir(sae))
    with pytest.raises(AttributeError, match="module 'sae' has no attribute 'laod'"):
        _ = sae.laod  # type: ignore[attr-defined]


def test_a_dictionary_in_memory_is_measured_as_its_folder(here: Path) -> None:
    options: dict[str, Any] = {"tokens": 500, "context": 16, "report": Silent}
    on_disk = sae.evaluate("dictionary", "corpus.jsonl", **options)
    in_memory = sae.evaluate(sae.load("dictionary"), "corpus.jsonl", **options)
    assert in_memory.to_json() == on_disk.to_json()
    halved = replace(sae.load("dictionary"), W_dec_FD=sae.load("dictionary").W_dec_FD / 2)
    assert sae.evaluate(halved, "corpus.jsonl", **options).fvu != on_disk.fvu
    unnamed = replace(sae.load("dictionary"), model=None)
    with pytest.raises(UserError, match="names no model"):
        sae.evaluate(unnamed, "corpus.jsonl", **options)


def test_a_config_in_memory_is_trained_as_its_file(here: Path) -> None:
    from_file = sae.train("config.yaml", {"steps": 3}, "a", Silent)
    settings = configs.load("config.yaml", {"steps": 5})
    in_memory = sae.train(settings, {"steps": 3}, here / "b", Silent)
    again = sae.train(settings, {"steps": 3}, here / "b", Silent)
    weights = [trained["topk_1x_k4"].W_enc_DF for trained in (from_file, in_memory, again)]
    assert weights[0].equal(weights[1])
    assert weights[0].equal(weights[2])
    with pytest.raises(UserError, match="trained with other settings"):
        sae.train(settings, None, "b", Silent)


def test_a_training_that_fails_says_so(here: Path) -> None:
    with pytest.raises(UserError, match=r"dictionary topk_1x_k4 was not finished: .*; then train to another folder"):
        sae.train("config.yaml", {"steps": 4, "dictionaries.0.lr": 1e30}, "a", Silent)
