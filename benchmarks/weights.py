"""What a sync of weights costs, as multiples of a plain copy of the same bytes: ratios, since machines differ.

.venv/bin/python benchmarks/weights.py [million parameters ...]
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import ray
import torch
from tables import head, here, line, write
from torch import nn

from rlhf_ray.distributed.connection import connect, disconnect
from rlhf_ray.weights import LocalWeights, checksum, pack, unpack

TURNS, WAIT = 7, 120
LAYER = 1_000  # a layer of this width has a million parameters


@ray.remote(num_cpus=0)
class Reader:
    """A sampler's part of a sync: fetch, check and copy into the model."""

    def __init__(self, millions: int) -> None:
        self.model = model_of(millions)

    def take(self, weights: LocalWeights) -> float:
        began = time.perf_counter()
        unpack(weights, self.model)
        return time.perf_counter() - began


def model_of(millions: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(LAYER, LAYER, bias=False) for _ in range(millions)))


def median(work: Callable[[], object]) -> float:
    times = []
    for _ in range(TURNS + 1):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def measure(millions: int) -> str:
    model = model_of(millions)
    weights = pack(model.parameters(), 1)
    target = np.empty_like(weights.buffer)
    copy = median(lambda: np.copyto(target, weights.buffer))
    reader = Reader.remote(millions)
    ray.get(reader.take.remote(ray.put(weights)), timeout=WAIT)

    def sync() -> None:
        ray.get(reader.take.remote(ray.put(pack(model.parameters(), 1))), timeout=WAIT)

    parts = [
        median(lambda: checksum(weights.buffer)),
        median(lambda: pack(model.parameters(), 1)),
        median(lambda: unpack(weights, model)),
        median(lambda: ray.put(weights)),
        median(sync),
    ]
    ray.kill(reader)
    return line([f"{4 * millions} MB", f"{1e3 * copy:.1f} ms", *(f"{part / copy:.1f}×" for part in parts)])


def main() -> None:
    torch.set_num_threads(1)
    connect()
    try:
        rows = [measure(int(word)) for word in sys.argv[1:] or ("4", "25", "100")]
    finally:
        disconnect()
    columns = ("weights", "plain copy", "checksum", "pack", "unpack", "put", "whole sync to another process")
    write("weights", sys.argv[1:], here(), [*head(columns), *rows])


if __name__ == "__main__":
    main()
