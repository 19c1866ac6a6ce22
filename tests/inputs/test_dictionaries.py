"""Dictionaries of every format with damaged files: `sae info` names the file."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sae import formats
from tests.inputs.harness import FOREIGN, JSONS, flip, refused, refuses, spoilers, zipped
from tests.sae import test_formats_dictionary_learning as learning
from tests.sae import test_formats_gemma_scope as gemma_scope
from tests.sae import test_formats_openai as openai
from tests.sae import test_formats_saelens as saelens
from tests.sae import test_formats_sparsify as sparsify
from tests.sae.test_dictionary import random_dictionary


def _own(folder: Path) -> Path:
    formats.save(random_dictionary(), folder)
    return folder


def _lens(folder: Path) -> Path:
    config = {"architecture": "standard", "metadata": {}}
    return saelens.write_saelens(folder, config, saelens.saelens_tensors("b_enc"))


def _openai(folder: Path) -> Path:
    folder.mkdir()
    return openai.write(folder / "6.pt", **openai.TOPK)


WRITERS: dict[str, tuple[Callable[[Path], Path], str, str | None]] = {
    "own": (_own, "dictionary.safetensors", "dictionary.json"),
    "saelens": (_lens, "sae_weights.safetensors", "cfg.json"),
    "sparsify": (lambda folder: sparsify.write(folder, sparsify.tensors()), "sae.safetensors", "cfg.json"),
    "dictionary_learning": (
        lambda folder: learning.write(folder, "AutoEncoder", learning.TENSORS["AutoEncoder"]), "ae.pt", "config.json",
    ),
    "openai": (_openai, "6.pt", None),
    "gemma_scope": (gemma_scope.write, "params.npz", None),
}  # fmt: skip
"""How each format is written here: its weights' file, its JSON file."""


def an_array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.ones(3))


def weights() -> Iterator[tuple[str, str]]:
    for name in WRITERS:
        for damage in [*spoilers(FOREIGN), "a zip of something else", "an array of something else"]:
            yield name, damage


@pytest.mark.parametrize(("name", "damage"), list(weights()))
def test_damaged_weights(name: str, damage: str, tmp_path: Path) -> None:
    write, file, _ = WRITERS[name]
    path = write(tmp_path / "layers.1")
    folder = path if path.is_dir() else path.parent
    others = {"a zip of something else": zipped, "an array of something else": an_array}
    (spoilers(FOREIGN) | others)[damage](folder / file)
    refused("sae", "info", path, cwd=tmp_path, names="layers.1")


@pytest.mark.parametrize("damage", spoilers(JSONS))
@pytest.mark.parametrize("name", [name for name, (_, _, about) in WRITERS.items() if about])
def test_damaged_descriptions(name: str, damage: str, tmp_path: Path) -> None:
    write, _, about = WRITERS[name]
    path = write(tmp_path / "layers.1")
    spoilers(JSONS)[damage](path / str(about))
    refuses(lambda: formats.load(path), "layers.1")


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_is_not_there(name: str, tmp_path: Path) -> None:
    refused("sae", "info", tmp_path / f"{name}.absent", cwd=tmp_path, names="absent")


@pytest.mark.parametrize("program", [("sae", "info"), ("sae", "eval"), ("autointerp", "run", "--dictionary")])
@pytest.mark.parametrize(
    "path", ["", " ", "/", "/dev/null", "x" * 5000, "a\0b", "loop", "loop/d", "~nobody_at_all/d", "d#3", "\udcff"]
)
def test_paths_that_are_none(program: tuple[str, ...], path: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    refused(*program, path, cwd=tmp_path, names="")


def test_a_flipped_byte_of_a_header(tmp_path: Path) -> None:
    flip(_own(tmp_path / "d") / "dictionary.safetensors", 0.02)
    refused("sae", "info", "d", cwd=tmp_path, names="dictionary.safetensors")


@pytest.mark.parametrize("factor", [1e30, 3e38])
def test_activations_beyond_what_numbers_hold(factor: float, planted: Path, tmp_path: Path) -> None:
    words = formats.load(planted / "dictionary")
    formats.save(replace(words, W_enc_DF=words.W_enc_DF * factor, W_dec_FD=words.W_dec_FD * 1e15), tmp_path / "d")
    refused(
        "autointerp", "run", "--dictionary", "d", "--model", planted / "model", "--corpus", planted / "corpus.jsonl",
        "--baselines", "none", "--set", "corpus.context=32", "--set", "sampling.fragment=16", cwd=tmp_path,
        names="words: its reconstructions are not all finite", seconds=30,
    )  # fmt: skip
