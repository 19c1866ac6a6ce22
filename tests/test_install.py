"""The wheel, installed in an environment that knows nothing of this checkout, runs from any folder."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_wheel_carries_prompts_and_configs_and_runs(smoke: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path / "dist", ROOT]
    subprocess.run(build, check=True)
    (wheel,) = (tmp_path / "dist").glob("autointerp-*.whl")
    python = make_environment(tmp_path / "env")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel]
    subprocess.run(install, check=True)
    where = "import autointerp, sae; print(autointerp.__file__, sae.__file__)"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    printed = subprocess.run([python, "-c", where], cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert str(ROOT) not in printed.stdout
    assert printed.stdout.count(str(tmp_path / "env")) == 2, printed
    script = python.parent / "autointerp"
    done = subprocess.run(
        [script, "run", "smoke", "--out", "r"], cwd=elsewhere, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    judged = [script, "run", "smoke", "--explainer", "anthropic/claude-haiku-4-5", "--simulator", "openai/gpt-4o-mini"]
    dry = subprocess.run(
        [*judged, "--features", "1", "--dry-run"], cwd=elsewhere, env=environment, capture_output=True, text=True
    )
    assert dry.returncode == 0, dry.stderr
    assert re.search(r"simulate +openai/gpt-4o-mini", dry.stdout), "the wheel lacks prices or prompts"
    small = ["subject.toy.steps=20", "subject.toy.d_mlp=16", "subject.toy.vocabulary=300", "corpus.max_tokens=200_000"]
    settings = [word for setting in (*small, "batch=512", "buffer=8192") for word in ("--set", setting)]
    trained = subprocess.run(
        [python.parent / "sae", "train", "toy", "--steps", "5", *settings],
        cwd=elsewhere, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert (elsewhere / "trained" / "toy" / "topk_4x_k8" / "dictionary.safetensors").is_file()
    for name in ("leaderboard.json", "results.jsonl", "records.parquet"):
        assert (elsewhere / "r" / name).read_bytes() == (smoke / name).read_bytes()


def make_environment(folder: Path) -> Path:
    """A virtual environment that sees this one's dependencies but not its editable checkout.

    A path in a .pth file is searched for modules, but .pth files inside it (the editable install's) are not read.
    """
    venv.create(folder, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    site.mkdir(parents=True, exist_ok=True)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"
