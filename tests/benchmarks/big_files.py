"""Measures memory and time of large dictionaries on disk: `sae info`, loading, some features, all features.

    python tests/benchmarks/big_files.py [FEATURES [WIDTH [F32|BF16]]]

The file is sparse: zeros that take no room on the disk, but as much memory as any others when they are read. Each step
runs in a process of its own; its memory is the peak of the process (ru_maxrss) less that of importing alone.
"""

import json
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ABOUT = {
    "format_version": 3, "name": "big", "kind": "sae", "activation": {"name": "jumprelu"}, "subtract_b_dec": False,
    "normalisation": "none", "reads": ["blocks.0.hook_resid_post"], "writes": ["blocks.0.hook_resid_post"],
    "model": "none", "skip": False, "is_part": False, "metadata": {},
}  # fmt: skip
BEFORE = "import sys, sae, torch; from sae.measuring.weights import refuse_non_finite; torch.set_num_threads(1)"
LOAD = f"{BEFORE}; d = sae.load(sys.argv[1]); x = torch.zeros(64, d.d_in)"
STEPS = {
    "importing": BEFORE,
    "loading": LOAD,
    "50 features of 64 vectors": f"{LOAD}; d.encoder(torch.linspace(0, d.n_features - 1, 50).long())(x)",
    "all weights checked to be finite": f"{LOAD}; refuse_non_finite(d)",
    "all features of 64 vectors, decoded": f"{LOAD}; d.reconstruct(x)",
}
PEAK = "; import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def write_sparse(folder: Path, n_features: int, width: int, dtype: str = "F32") -> int:
    """Write a JumpReLU autoencoder of zeros in our format, as holes in a file. Returns the file's size in bytes."""
    shapes = {
        "W_enc": [width, n_features], "W_dec": [n_features, width], "b_enc": [n_features], "b_dec": [width],
        "threshold": [n_features],
    }  # fmt: skip
    header, end = {}, 0
    for name, shape in shapes.items():
        size = {"F32": 4, "BF16": 2}[dtype] * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir()
    (folder / "dictionary.json").write_text(
        json.dumps(ABOUT | {"d_in": width, "d_out": width, "n_features": n_features})
    )
    with (folder / "dictionary.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return 8 + len(text) + end


def main() -> None:
    """Print a line for each step."""
    words = sys.argv[1:]
    n_features, width, dtype = (*words, *("65536", "2048", "F32")[len(words) :])
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "big"
        size = write_sparse(folder, int(n_features), int(width), dtype)
        print(f"{int(n_features):,} features of width {int(width):,} in {dtype}: {size / 1e9:.2f} GB")
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "sae", "info", str(folder)], check=True, stdout=subprocess.DEVNULL)
        print(f"sae info: {time.perf_counter() - started:.2f} s")
        base = 0
        for name, code in STEPS.items():
            started = time.perf_counter()
            command = [sys.executable, "-c", code + PEAK, str(folder)]
            peak = 1024 * int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            base = base or peak
            share = f"{(peak - base) / 1e9:.2f} GB more, {(peak - base) / size:.0%} of the file"
            print(f"{name}: {share}, {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
