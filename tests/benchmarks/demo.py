"""What the README says of the demo's speed: seconds and memory of whole processes, and sampling against this machine.

    python tests/benchmarks/demo.py

Runs `autointerp run` in a fresh cache (first), again into another folder (everything on disk), and once more into the
same folder (nothing to do). The sampling pass is also given as a share of what this machine's measured matrix product
rate would allow for its encoders alone. Not a test: it asserts nothing.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

CANDIDATES = 200
"""Features followed per dictionary: OVERSAMPLE * sampling.features."""


def measured(*arguments: str, cwd: Path) -> tuple[float, float, str]:
    """Seconds, peak MB and stderr of one `autointerp` command."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "autointerp", *arguments],
        cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    message = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(message)
    return time.perf_counter() - started, usage.ru_maxrss / 1024, message


def matmul_flops() -> float:
    """Multiply-adds times two a second of an encoder-shaped fp32 product, median of 15."""
    x, w = torch.randn(4096, 512), torch.randn(512, 2048)
    seconds = []
    for _ in range(15):
        started = time.perf_counter()
        x @ w
        seconds.append(time.perf_counter() - started)
    return 2 * 4096 * 512 * 2048 / sorted(seconds)[7]


def encoder_flops(run: Path) -> float:
    """Products of the sampling pass: all of a TopK encoder, the candidates' columns of the others."""
    about = json.loads((run / "run.json").read_text())
    widths = [d["n_features"] if d["kind"] == "sae" else CANDIDATES for d in about["dictionaries"]]
    return float(sum(2 * about["sampling"]["sampled_tokens"] * 512 * width for width in widths))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["AUTOINTERP_CACHE"] = str(folder / "cache")
        print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, Python {sys.version.split()[0]}")
        outputs = {"first": "one", "second, everything on disk": "two", "the same run again": "two"}
        for title, out in outputs.items():
            seconds, megabytes, message = measured("run", "--out", out, cwd=folder)
            print(f"{title:28} {seconds:7.1f} s   peak {megabytes:6.0f} MB")
            for stage, took in re.findall(r"(.+?)(?: \(.*\))?: done in ([\d.]+) s", message):
                print(f"    {stage:32} {float(took):7.1f} s")
                if stage.startswith("sampling"):
                    floor = encoder_flops(folder / out) / matmul_flops()
                    print(f"    {'of that, encoder products at the measured rate':48} {floor:.1f} s")
        seconds, _, _ = measured("--help", cwd=folder)
        print(f"{'--help':28} {seconds:7.2f} s")


if __name__ == "__main__":
    main()
