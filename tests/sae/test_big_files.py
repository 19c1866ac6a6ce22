"""Large files stay on the disk: of a sparse file of 134 MB only the pages are read that an operation needs.

The kernel says how much of a mapped file is in this process's memory (/proc/self/smaps), so that reading every column
would show.
"""

import re
import sys
from pathlib import Path

import pytest
import torch

from sae import formats
from sae.measuring.info import LARGE
from sae.measuring.weights import refuse_non_finite
from tests.benchmarks.big_files import write_sparse
from tests.sae.command_line import invoked

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/smaps")
WIDTH, FEATURES = 64, 262_144


def resident_bytes(path: Path) -> int:
    """Return how many bytes of a mapped file are in this process's memory. Fails if it is not mapped."""
    entries = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    mapped = [entry for entry in entries if str(path) in entry.split("\n")[0]]
    assert mapped, f"{path} is not mapped"
    return sum(1024 * int(re.search(r"^Rss:\s+(\d+) kB", entry, re.MULTILINE)[1]) for entry in mapped)  # type: ignore[index]


def test_only_sampled_columns_are_read(tmp_path: Path) -> None:
    size, file = write_sparse(tmp_path / "big", FEATURES, WIDTH), tmp_path / "big" / "dictionary.safetensors"
    dictionary = formats.load(tmp_path / "big")
    assert resident_bytes(file) < 0.02 * size
    x_BD = torch.ones(2, WIDTH)
    features_S = torch.tensor([5, 200_000])
    assert dictionary.encoder(features_S)(x_BD).shape == (2, 2)
    assert resident_bytes(file) < 0.15 * size
    dictionary.encode(x_BD)
    assert resident_bytes(file) > 0.45 * size  # all columns of the encoder: the measure would have shown them
    refuse_non_finite(dictionary)
    assert resident_bytes(file) > 0.95 * size


def test_info_does_not_read_the_weights_of_a_large_file(tmp_path: Path) -> None:
    size = write_sparse(tmp_path / "big", 1_048_576, 512)
    assert size > 4 * LARGE
    done = invoked("info", tmp_path / "big")
    assert done.exit_code == 0, done.output
    assert re.search(r"features +1,048,576", done.stdout)
    assert re.search(r"files +4\.3 GB", done.stdout)
    assert "decoder norm" not in done.stdout
    assert f"sae info {tmp_path / 'big'} --weights" in done.stdout
