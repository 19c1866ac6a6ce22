"""Measures the peak memory of loading, checking and using a dictionary of every format, against the size of its files.

    python tests/benchmarks/readers_memory.py [FEATURES [WIDTH [fp32|bf16]]]

The files are those of the tests (`tests/sae/release_files.py`), with zeros of other sizes. Each dictionary is read in a
process of its own, which checks that all weights are finite and reconstructs four vectors; its memory is its peak
(VmHWM) less that of importing alone. The pages of a mapped file count, though the system can take them back.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from tests.sae.release_files import CASES, Case
from tests.sae.temporal_files import TEMPORAL

NAMES = (
    "gemma_scope transcoder", "gemma_scope_2 residual", "gemma_scope_2 affine", "circuit_tracer jumprelu skip",
    "circuit_tracer_layers one", "sparsify skip", "saelens skip_transcoder",
    "saelens matching_pursuit", "qwen_scope", "goodfire", "llama_scope",
    "dictionary_learning crosscoder of now, nothing normalised", "temporal",
)  # fmt: skip
BEFORE = "import sys, sae, torch; from sae.measuring.weights import refuse_non_finite; torch.set_num_threads(1)"
USE = f"{BEFORE}; d = sae.load(sys.argv[1]); refuse_non_finite(d); x = torch.zeros(1, 4, d.d_in)"
USE += "; d.reconstruct(d.in_context(x)[0])"
PEAK = "; print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"


def resized(value: Any, sizes: Mapping[int, int]) -> Any:
    """Return settings with other sizes."""
    if isinstance(value, dict):
        return {name: one if name in ("k", "hook_point_in") else resized(one, sizes) for name, one in value.items()}
    return sizes.get(value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def write(case: Case, root: Path, sizes: Mapping[int, int], dtype: torch.dtype) -> tuple[Path, int]:
    """Write a case's files with zeros of other sizes; return the path to open and the size of what is read."""
    for file, arrays in case.files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shapes = {name: [sizes.get(n, n) for n in array.shape] for name, array in arrays.items()}
        tensors = {name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()}
        if file.endswith(".npz"):
            import numpy as np

            np.savez(root / file, **{name: tensor.float().numpy() for name, tensor in tensors.items()})
        elif file.endswith(".safetensors"):
            save_file(tensors, root / file)
        else:
            torch.save(tensors, root / file)
    for name, text in case.texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(resized(yaml.safe_load(text), sizes)))
    read = [root / file for file in case.files if not case.is_part or "_1." in file]
    return root / case.given, sum(path.stat().st_size for path in read)


def main() -> None:
    """Print a line for each format."""
    words = sys.argv[1:]
    n_features, width, number = (*words, *("65536", "1024", "fp32")[len(words) :])
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[number]
    base = peak(BEFORE, Path())
    for name in NAMES:
        case, sizes = (CASES | TEMPORAL)[name], {6: int(width), 20: int(n_features)}
        if name == "temporal":  # its attention is a square of the features
            sizes = {6: 512, 24: 4608, 8: 1536}
            about = yaml.safe_load(next(iter(case.texts.values())))
            about["sae"] |= {"exp_factor": 9}
            case = Case(case.given, case.files, case.forward, (), (), {next(iter(case.texts)): json.dumps(about)})
        with tempfile.TemporaryDirectory() as root:
            path, size = write(case, Path(root), sizes, dtype)
            used = peak(USE, path) - base
            print(f"{name}, {number}: {size / 1e6:,.0f} MB, {used / size:.0%} of it in memory", flush=True)


def peak(code: str, path: Path) -> int:
    """Return the peak memory of a process, in bytes."""
    done = subprocess.run([sys.executable, "-c", code + PEAK, str(path)], check=True, stdout=subprocess.PIPE, text=True)
    return 1024 * int(done.stdout)


if __name__ == "__main__":
    main()
