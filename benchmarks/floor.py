"""The floor of an iteration of PPO on this machine: `python benchmarks/floor.py`.

Counts the operations and the bytes that an iteration cannot do without, by phase, and measures how fast this machine
multiplies matrices of the models' shapes and copies memory. A phase's floor is the longer of the two, as if computing
and reading overlapped wholly. The tables are printed and written to `benchmarks/results/floor.md`.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from tables import head, here, line, write
from workload import SIZES, Size

PHASES = ("generate", "score", "update")
BYTES = {"fp32": 4, "bf16": 2}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ADAMW = 28  # bytes a parameter and step: reads weight, gradient and two moments, writes weight and moments, in float32
MOST_ROWS = 4096  # of a product that is timed
SECONDS = 0.3  # that one product is timed for
COPIED = 2**28  # bytes, far more than a core's own caches hold
COLUMNS = ("size", "precision", "threads", "GFLOP/s", "copy GB/s", *PHASES, "floor of an iteration, s")
COUNTED = ("size", "phase", "GFLOP", "GB read and written")


@dataclass(frozen=True)
class Cost:
    """Operations (a multiplication and an addition are two) and bytes through the memory."""

    flops: float
    bytes: float


def body(size: Size, tokens: float, *, causal: bool = True) -> float:
    """Operations of the layers for one sequence from its first token to its last, without head and embedding."""
    pairs = tokens * (tokens + 1) / 2 if causal else tokens * tokens
    return size.layers * (24 * size.width**2 * tokens + 4 * size.width * pairs)


def logits(size: Size, tokens: float) -> float:
    """Operations of the head for so many tokens."""
    return 2 * size.width * size.vocabulary * tokens


def operands(size: Size, tokens: float, predicted: float) -> float:
    """Numbers that the products of a forward pass read and write beside the weights: attention, layers and head."""
    return 18 * size.width * size.layers * tokens + (size.width + size.vocabulary) * predicted


def iteration(size: Size, precision: str = "fp32", prompt: float = 0, response: float = 0) -> dict[str, Cost]:
    """What an iteration costs at the least, by phase; mean lengths in tokens, those of the size where none are given.

    The sampler's own log-probabilities serve as the old ones, no token is padding, logits are computed where a response
    token is to be predicted, and the last token is read by the reward model only. A backward pass costs two forward
    passes. Bytes: what the products read and write, the weights anew for every token that is decoded, where they meet
    every row's cache, and AdamW's tensors.
    """
    prompt, response = prompt or size.mean_prompt, response or size.mean_response
    whole, each, rows = prompt + response, BYTES[precision], size.episodes
    speak, moved = body(size, whole - 1) + logits(size, response), operands(size, whole - 1, response)
    judge, read = speak + body(size, whole), moved + operands(size, whole, 0)
    expect, felt = body(size, whole - 1), operands(size, whole - 1, 0)  # the critic, before learning and in every epoch
    cache = 2 * size.layers * size.width * response * (prompt + response / 2)
    passes, steps = 3 * size.epochs, size.epochs * size.minibatches
    return {
        "generate": Cost(rows * speak, each * (size.response * size.parameters + rows * (moved + cache))),
        "score": Cost(rows * (judge + expect), each * (3 * size.parameters + rows * (read + felt))),
        "update": Cost(
            passes * rows * (speak + expect),
            each * passes * rows * (moved + felt) + steps * 2 * size.parameters * ADAMW,
        ),
    }


@dataclass(frozen=True)
class Rates:
    """What a machine does in a second: operations in matrix products, and bytes read and written."""

    flops: float
    bytes: float

    def seconds(self, costs: dict[str, Cost]) -> dict[str, float]:
        return {phase: max(cost.flops / self.flops, cost.bytes / self.bytes) for phase, cost in costs.items()}


def products(size: Size) -> Iterator[tuple[int, int, int]]:
    """Rows, inputs and outputs of an update's products: of a layer, and of the head."""
    w, episodes = size.width, size.episodes // size.minibatches
    rows = min(MOST_ROWS, int(episodes * (size.mean_prompt + size.mean_response)))
    for inputs, outputs in ((w, 3 * w), (w, w), (w, 4 * w), (4 * w, w)):
        yield from [(rows, inputs, outputs)] * size.layers
    yield min(MOST_ROWS, int(episodes * size.mean_response)), w, size.vocabulary


def product_rate(size: Size, precision: str) -> float:
    """Operations a second over a forward and a backward pass through all the products of a model."""
    flops = seconds = 0.0
    timed: dict[tuple[int, int, int], float] = {}
    for rows, inputs, outputs in products(size):
        shape = (rows, inputs, outputs)
        if shape not in timed:
            timed[shape] = _both_ways(*shape, DTYPES[precision])
        flops, seconds = flops + 6 * rows * inputs * outputs, seconds + timed[shape]
    return flops / seconds


def precisions() -> list[str]:
    """Those that this machine multiplies: without instructions for bf16 it is a hundred times slower than fp32."""
    torch.set_num_threads(1)
    seconds = {precision: _both_ways(256, 256, 256, dtype) for precision, dtype in DTYPES.items()}
    return [precision for precision, spent in seconds.items() if spent <= 2 * seconds["fp32"]]


def _both_ways(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> float:
    x, w = torch.randn(rows, inputs).to(dtype), torch.randn(inputs, outputs).to(dtype)
    g = torch.randn(rows, outputs).to(dtype)
    return sum(fastest(work) for work in (lambda: x @ w, lambda: g @ w.T, lambda: x.T @ g))


def copy_rate() -> float:
    """Bytes a second, those that are read and those that are written."""
    source, target = torch.ones(COPIED // 4), torch.empty(COPIED // 4)
    return 2 * COPIED / fastest(lambda: target.copy_(source))


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest of the calls that fit into SECONDS, at least three of them."""
    best, calls, end = float("inf"), 0, time.monotonic() + SECONDS
    while calls < 3 or time.monotonic() < end:
        begin = time.perf_counter()
        work()
        best, calls = min(best, time.perf_counter() - begin), calls + 1
    return best


def measure(size: Size, precision: str, threads: int) -> Rates:
    """This machine's rates for the size's shapes on so many threads, which stay set in this process."""
    torch.set_num_threads(threads)
    return Rates(product_rate(size, precision), copy_rate())


def rows_of(name: str, size: Size, precision: str, threads: int) -> str:
    rates = measure(size, precision, threads)
    spent = rates.seconds(iteration(size, precision))
    figures = [rates.flops / 1e9, rates.bytes / 1e9, *spent.values(), sum(spent.values())]
    return line([name, precision, str(threads), *(f"{figure:.3g}" for figure in figures)])


def main() -> None:
    kept = precisions()
    counted = [
        line([name, phase, f"{cost.flops / 1e9:.1f}", f"{cost.bytes / 1e9:.2f}"])
        for name, size in SIZES.items()
        for phase, cost in iteration(size, "bf16").items()
    ]
    measured = [
        rows_of(name, size, precision, threads)
        for name, size in SIZES.items()
        for precision in kept
        for threads in (1, 2)
    ]
    said = "Counted, with bf16 weights where a forward pass reads them:"
    write("floor", [], here(), [*head(COLUMNS), *measured, "", said, "", *head(COUNTED), *counted])


if __name__ == "__main__":
    main()
