"""How long this process took for its latest requests, and how many it turned away."""

from collections import defaultdict, deque
from typing import Any

import numpy as np

LATEST = 1000  # requests of a door


class Latency:
    def __init__(self) -> None:
        self.seconds: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=LATEST))
        self.requests = self.refused = 0

    def __call__(self, door: str, status: int, seconds: float) -> None:
        self.requests += 1
        self.refused += status in (429, 503)
        self.seconds[door].append(seconds)

    def by_door(self) -> list[dict[str, Any]]:
        """The median and the 99th percentile of each door."""
        return [
            {"door": door, "requests": len(seconds)}
            | dict(zip(("p50_ms", "p99_ms"), _percentiles(seconds), strict=True))
            for door, seconds in sorted(self.seconds.items())
        ]


def _percentiles(seconds: deque[float]) -> list[float]:
    return [round(1000 * float(each), 2) for each in np.percentile(list(seconds), [50, 99])]
