"""What the README says of training's speed: steps against this machine's measured rate of products, and against peers.

    python tests/benchmarks/training.py [--quick] [--rounds N] [--no-peers] [--no-cpu]

CPU, one thread, fp32: a step of every architecture with all its bookkeeping, as a share of what the floating point
operations that it cannot do without would take at the rate measured beside it; the same shapes through the training
steps of SAELens, dictionary_learning and sparsify where they are installed, in the same process and the same rounds;
eight L1 dictionaries on the same batches. Peak memory is of a process of its own for each. Then, if there is one, a
GPU (`training_gpu.py`). Not a test: it asserts nothing.
"""

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import torch

from tests.benchmarks import training_gpu
from tests.benchmarks.training_methods import (
    CLIP,
    Method,
    Shape,
    Timing,
    activations,
    auxiliary_cost,
    our_step,
    ours,
    ratio,
    rounds,
    share_of_rate,
)
from tests.benchmarks.training_peers import PACKAGES, missing, peers, stacks
from tests.sae.training import recipes

SHAPE, STACKED = Shape(4096, 512, 4096), Shape(2048, 256, 2048)
QUICK, QUICK_STACKED = Shape(512, 128, 1024, 16), Shape(256, 64, 256, 16)
DICTIONARIES = 8
NOTHING = "nothing: imports and batches"


def machine() -> str:
    """Processor, cores, threads and the versions that decide about speed."""
    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    model = names[0] if names else platform.processor()
    using = [f"{os.cpu_count()} cores, {torch.get_num_threads()} used", f"Python {platform.python_version()}"]
    return ", ".join([model, *using, *(f"{package} {_version(package)}" for package in ("torch", *PACKAGES.values()))])


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def stacked(shape: Shape, absent: dict[str, str]) -> list[Method]:
    """Eight L1 dictionaries on one stream, ours first."""
    wide = shape.features / shape.d
    grid = [recipes.ReLU(name=f"l1-{n}", expansion=wide, clip=CLIP, l1=0.002 * n) for n in range(1, DICTIONARIES + 1)]
    mine = Method("ours", 5 * shape.product * DICTIONARIES, lambda first_BD: our_step(grid, first_BD))
    return [mine, *stacks(shape, DICTIONARIES, absent)]


def ordered(shape: Shape, absent: dict[str, str]) -> list[Method]:
    """Each of ours, and right behind it those it is compared with."""
    rivals = peers(shape, absent)
    return [method for mine in ours(shape) for method in (mine, *(one for one in rivals if one.rival == mine.name))]


def peak_here(name: str, shape: Shape) -> float:
    """MB at most in memory of this process, in which a few steps of one method are made."""
    batches = activations(shape)
    for method in [*ours(shape), *peers(shape, {})]:
        if method.name == name:
            step = method.make(batches[0])
            for x_BD in batches:
                step(x_BD)
    kilobytes = [line.split()[1] for line in _lines("/proc/self/status") if line.startswith("VmHWM")]
    return int(kilobytes[0]) / 1024 if kilobytes else float("nan")


def peak(name: str, quick: bool) -> float:
    """The same in a new process."""
    arguments = [sys.executable, __file__, "--memory-of", name, *(["--quick"] if quick else [])]
    message = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    return float(message.split()[-1])


def table(methods: Sequence[Method], result: dict[str, list[Timing]], vectors: int, peaks: dict[str, float]) -> None:
    """Rows for a README."""
    print("| method | s/step | activations/s | floor / measured | peak MB |")
    print("|---|--:|--:|--:|--:|")
    for method in methods:
        timings = result[method.name]
        seconds, part = median(timing.seconds for timing in timings), share_of_rate(timings, method.flops)
        megabytes = f"{peaks[method.name]:,.0f}" if method.name in peaks else ""
        print(f"| {method.name} | {seconds:.3f} | {vectors / seconds:,.0f} | {part:.0%} | {megabytes} |")
    rates = sorted(timing.rate / 1e9 for timings in result.values() for timing in timings)
    print(f"\nRate of the products: {median(rates):.1f} GFLOP/s, from {rates[0]:.1f} to {rates[-1]:.1f} in this run.")


def ratios(methods: Sequence[Method], result: dict[str, list[Timing]]) -> None:
    """How many activations a second ours take for each of a peer's: side by side, and by the table."""
    print()
    for method in methods:
        if method.rival is not None:
            theirs, mine = result[method.name], result[method.rival]
            plain = median(timing.seconds for timing in theirs) / median(timing.seconds for timing in mine)
            print(f"- {method.rival} / {method.name}: {ratio(theirs, mine):.2f}x (medians above: {plain:.2f}x)")


def on_cpu(quick: bool, count: int, absent: dict[str, str]) -> None:
    """Both tables."""
    torch.set_num_threads(1)
    shape, few = (QUICK, QUICK_STACKED) if quick else (SHAPE, STACKED)
    print(f"{machine()}\n\n## One step on the CPU, fp32, {shape}\n")
    methods = ordered(shape, absent)
    peaks = {name: peak(name, quick) for name in [NOTHING, *(method.name for method in methods)]}
    result = rounds(methods, shape, count)
    table(methods, result, shape.batch, peaks)
    print(f"Peak MB is of a process with that library alone; with {NOTHING}, {peaks[NOTHING]:,.0f}.")
    ratios(methods, result)
    for one_in in (20, 5, 2):
        cost = auxiliary_cost(shape, count, one_in)
        print(f"\nWith one feature in {one_in} dead, AuxK makes a TopK step {cost:.2f} times as long.")
    print(f"\n## {DICTIONARIES} L1 dictionaries on the same batches, {few}\n")
    methods = stacked(few, absent)
    result = rounds(methods, few, count)
    table(methods, result, few.batch, {})
    ratios(methods, result)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small shapes, to see that it works")
    parser.add_argument("--rounds", type=int, default=9, help="steps of each method that are timed")
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    parser.add_argument("--no-cpu", action="store_true", help="the GPU part alone")
    parser.add_argument("--memory-of", metavar="METHOD", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    if asked.memory_of:
        torch.set_num_threads(1)
        print(peak_here(asked.memory_of, QUICK if asked.quick else SHAPE))
        return
    absent = dict.fromkeys(PACKAGES, "left out by --no-peers") if asked.no_peers else missing()
    for module, reason in absent.items() if not asked.no_peers else ():
        print(f"not installed: {module} ({reason})")
    if not asked.no_cpu:
        on_cpu(asked.quick, asked.rounds, absent)
    if torch.cuda.is_available():
        training_gpu.main(asked.quick, absent)
    else:
        print("\nno CUDA device: GPU part skipped")


if __name__ == "__main__":
    main()
