"""The wheel, installed in an environment that knows nothing of this checkout, runs from any folder."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import make_once

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment into which the wheel is installed."""
    return make_once(tmp_path_factory, "installed", install) / "env" / "bin" / "python"


def install(folder: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder / "dist",
        ROOT,
    ]
    subprocess.run(build, check=True)
    (wheel,) = (folder / "dist").glob("autointerp-*.whl")
    make_environment(folder / "env")
    pip = [sys.executable, "-m", "pip", "--python", folder / "env" / "bin" / "python", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", wheel], check=True)


def call(python: Path, folder: Path, *arguments: object) -> str:
    """Return what an installed program prints, called in a folder outside the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program, *rest = map(str, arguments)
    command = [python.parent / program, *rest]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_works_from_any_folder(python: Path, smoke: Path, tmp_path: Path) -> None:
    printed = call(python, tmp_path, "python", "-c", "import autointerp, sae; print(autointerp.__file__, sae.__file__)")
    assert str(ROOT) not in printed
    assert printed.count(str(python.parents[1])) == 2, printed
    assert "topk_2x" in call(python, tmp_path, "autointerp", "leaderboard", smoke)
    assert "sampling:" in call(python, tmp_path, "autointerp", "config")


@pytest.mark.slow
def test_the_wheel_runs_as_the_checkout_does(python: Path, smoke: Path, tmp_path: Path) -> None:
    call(python, tmp_path, "autointerp", "run", "smoke", "--out", "r")
    for name in ("leaderboard.json", "results.jsonl", "records.parquet"):
        assert (tmp_path / "r" / name).read_bytes() == (smoke / name).read_bytes()


def test_the_wheel_carries_prompts_configs_and_prices_and_no_pictures(python: Path) -> None:
    (wheel,) = (python.parents[2] / "dist").glob("autointerp-*.whl")
    carried = Counter(Path(name).name for name in zipfile.ZipFile(wheel).namelist())
    data = [
        path for folder in ("prompts", "eval_configs", "autointerp", "sae") for path in (ROOT / folder).rglob("*.yaml")
    ]
    assert len(data) > 20
    assert not Counter(path.name for path in data) - carried
    assert not [name for name in carried if name.endswith(".png")], "the README's pictures"


@pytest.mark.slow
def test_the_wheel_estimates_and_trains(python: Path, tmp_path: Path) -> None:
    judged = ("--explainer", "anthropic/claude-haiku-4-5", "--simulator", "openai/gpt-4o-mini")
    printed = call(python, tmp_path, "autointerp", "run", "smoke", *judged, "--features", 1, "--dry-run")
    assert re.search(r"simulate +openai/gpt-4o-mini", printed), "the wheel lacks prices or prompts"
    small = ["subject.toy.steps=20", "subject.toy.d_mlp=16", "subject.toy.vocabulary=300", "corpus.max_tokens=200_000"]
    settings = [word for setting in (*small, "batch=512", "buffer=8192") for word in ("--set", setting)]
    call(python, tmp_path, "sae", "train", "toy", "--steps", 5, *settings)
    assert (tmp_path / "trained" / "toy" / "topk_4x_k8" / "dictionary.safetensors").is_file()


def make_environment(folder: Path) -> Path:
    """A virtual environment that sees this one's dependencies but not its editable checkout.

    A path in a .pth file is searched for modules, but .pth files inside it (the editable install's) are not read.
    """
    venv.create(folder, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    site.mkdir(parents=True, exist_ok=True)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"
