"""The GPU part of `training.py`: bf16 products with fp32 weights, steps replayed from a CUDA graph as in `sae train`.

Timed by events around blocks of steps, so that a block's steps queue up as they do in training; medians of blocks.
"""

import gc
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from tests.benchmarks.training_methods import Method, Products, Shape, activations, ours
from tests.benchmarks.training_peers import peers

BATCH, WIDTHS, EXPANSIONS = 8192, (512, 1024, 2048), (8, 32)
WARM_UP = 8
"""Steps before timing: three eager ones, the recording of the graph, a few replays."""
STEPS, BLOCKS = 20, 7
SPARSE = ("ours, topk", "ours, batch_topk", "ours, matryoshka")
A1_ACTIVATIONS = 8.2e9
"""Of Towards Monosemanticity's run A/1: d = 512, m = 4096, batches of 8192."""


def milliseconds(do: Callable[[int], object], times: int = STEPS) -> float:
    """Of one call on the device; `do` is given a running number."""
    blocks: list[float] = []
    for _ in range(BLOCKS):
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        started.record()
        for number in range(times):
            do(number)
        ended.record()
        ended.synchronize()
        blocks.append(started.elapsed_time(ended) / times)
    return median(blocks)


def product_rate(shape: Shape) -> float:
    """Operations a second of a step's five bf16 products."""
    products = Products(shape, "cuda", torch.bfloat16)
    spent = 0.0
    for product, times in ((products.encode, 2), (products.decode, 1), (products.weigh, 2)):
        product()
        spent += times * milliseconds(lambda number, product=product: product())  # type: ignore[misc]
    return 5 * shape.product / spent * 1e3


def step_seconds(method: Method, batches: list[Tensor]) -> float:
    """Of one step, when the graph is recorded."""
    torch.cuda.reset_peak_memory_stats()
    step = method.make(batches[0])
    for number in range(WARM_UP):
        step(batches[number % len(batches)])
    torch.cuda.synchronize()
    return milliseconds(lambda number: step(batches[number % len(batches)])) / 1e3


def row(method: Method, shape: Shape, rate: float, batches: list[Tensor]) -> float | None:
    """Prints one; returns its seconds, or None where the GPU or a library would not."""
    title = f"| {shape.d} | {shape.features} | {method.name} "
    try:
        seconds = step_seconds(method, batches)
    except RuntimeError as error:  # not enough memory, or a kernel that is not there: the other rows still count
        print(f"{title}| failed: {str(error).splitlines()[0]} | | | |")
        return None
    finally:
        gc.collect()  # a trainer and its recorded step hold each other
        torch.cuda.empty_cache()
    megabytes = torch.cuda.max_memory_allocated() / 2**20
    part = method.flops / rate / seconds
    print(f"{title}| {seconds * 1e3:.2f} | {shape.batch / seconds:,.0f} | {part:.0%} | {megabytes:,.0f} |", flush=True)
    return seconds


def measure(shape: Shape, absent: dict[str, str]) -> dict[str, float | None]:
    """Seconds by method: ours, and the peers at the smaller of the two expansions."""
    rate = product_rate(shape)
    torch.cuda.empty_cache()
    batches = activations(shape, "cuda")
    print(f"| {shape.d} | {shape.features} | (products: {rate / 1e12:.0f} TFLOP/s) | | | | |")
    rivals = peers(shape, absent) if shape.features == EXPANSIONS[0] * shape.d else []
    return {method.name: row(method, shape, rate, batches) for method in [*ours(shape), *rivals]}


def compare(shape: Shape, seconds: dict[str, float | None], rivals: list[Method]) -> None:
    """The TopK family against the dense step, peers against ours."""
    pairs = [(name, "ours, relu") for name in SPARSE]
    pairs += [(method.rival, method.name) for method in rivals if method.rival is not None and method.name in seconds]
    for fast, slow in pairs:
        fast_s, slow_s = seconds[fast], seconds[slow]
        if fast_s is not None and slow_s is not None:
            print(f"- d = {shape.d}, m = {shape.features}: {fast} / {slow}: {slow_s / fast_s:.2f}x")


def main(quick: bool, absent: dict[str, str]) -> None:
    """The table, comparisons, and how long A/1 would take."""
    print(f"\n## One step on {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, bf16 products, B = {BATCH}\n")
    print("| d | m | method | ms/step | activations/s | floor / measured | peak MB |")
    print("|--:|--:|---|--:|--:|--:|--:|")
    shapes = [Shape(BATCH, d, d * wide) for wide in EXPANSIONS for d in (WIDTHS[:1] if quick else WIDTHS)]
    result = {shape: measure(shape, absent) for shape in shapes}
    print()
    for shape, seconds in result.items():
        compare(shape, seconds, peers(shape, absent))
    relu = result[shapes[0]]["ours, relu"]
    if relu is not None:
        minutes = A1_ACTIVATIONS / BATCH * relu / 60
        print(
            f"\nA/1 of Towards Monosemanticity (8.2e9 activations, {shapes[0]}): {minutes:.1f} minutes of such steps."
        )
