"""A dictionary finds its model again after both were copied together; other models keep their names."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sae import formats
from tests.sae.test_dictionary import random_dictionary


def save(model: str | None, folder: Path, format: str = "own") -> Path:
    formats.save(replace(random_dictionary(), model=model), folder, format)
    return folder


def stored_model(folder: Path) -> str:
    return str(json.loads((folder / "dictionary.json").read_text())["model"])


@pytest.mark.parametrize("format", ["own", "saelens"])
@pytest.mark.parametrize(
    ("model", "dictionary"), [("subject", "topk"), ("subjects/1a2b", "dictionaries/3c4d"), ("model", "model/topk")]
)
def test_a_copied_folder_leads_to_the_copied_model(model: str, dictionary: str, format: str, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "elsewhere" / "deep" / "after"
    (before / model).mkdir(parents=True)
    save(str(before / model), before / dictionary, format)
    assert formats.peek(before / dictionary).model == str(before / model)
    shutil.copytree(before, after)
    shutil.rmtree(before)
    for read in (formats.peek(after / dictionary), formats.load(after / dictionary)):
        assert read.model == str(after / model)


@pytest.mark.parametrize("format", ["own", "saelens"])
def test_a_converted_dictionary_leads_to_the_model_beside_it(format: str, tmp_path: Path) -> None:
    (tmp_path / "a" / "subject").mkdir(parents=True)
    formats.convert(save(str(tmp_path / "a" / "subject"), tmp_path / "a" / "topk"), tmp_path / "a" / "copy", format)
    (tmp_path / "a").rename(tmp_path / "b")
    assert formats.load(tmp_path / "b" / "copy").model == str(tmp_path / "b" / "subject")
    far = tmp_path / "x" / "y" / "z" / "copy"
    formats.convert(tmp_path / "b" / "copy", far, format)
    far.rename(tmp_path / "moved")
    assert formats.load(tmp_path / "moved").model == str(tmp_path / "b" / "subject")


def test_a_relative_path_is_of_the_working_directory_only_when_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work" / "subject").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    save("subject", Path("topk"))
    assert stored_model(Path("topk")) == "../subject"
    monkeypatch.chdir(tmp_path)
    assert formats.peek("work/topk").model == str(tmp_path / "work" / "subject")


def test_a_dictionary_reached_through_a_link_finds_the_model(tmp_path: Path) -> None:
    (tmp_path / "a" / "subject").mkdir(parents=True)
    save(str(tmp_path / "a" / "subject"), tmp_path / "a" / "topk")
    (tmp_path / "link").symlink_to(tmp_path / "a" / "topk")
    assert formats.peek(tmp_path / "link").model == str(tmp_path / "a" / "subject")


@pytest.mark.parametrize("format", ["own", "saelens"])
@pytest.mark.parametrize("model", ["gpt2", "EleutherAI/pythia-70m", "/gone/model", None])
def test_other_models_keep_their_names(model: str | None, format: str, tmp_path: Path) -> None:
    for read in (formats.peek, formats.load):
        assert read(save(model, tmp_path / read.__name__, format)).model == model


def test_version_1_has_absolute_paths_only(tmp_path: Path) -> None:
    folder = save("gpt2", tmp_path / "d")
    about = json.loads((folder / "dictionary.json").read_text()) | {"format_version": 1}
    for model in ("/anywhere/subject", "../subject"):
        (folder / "dictionary.json").write_text(json.dumps(about | {"model": model}))
        assert formats.peek(folder).model == model
