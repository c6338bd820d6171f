"""Wall and CPU seconds of each phase of each iteration, of a process and all that it started. Needs only psutil."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

PHASES = ("generate", "score", "update")


class Stopwatch:
    """Call `begin` where an iteration begins and `lap` where a phase ends: all since the last call was that phase."""

    def __init__(self) -> None:
        self.iterations: list[dict[str, dict[str, float]]] = []
        self.begin()

    def begin(self) -> None:
        self._current = {phase: {"wall": 0.0, "cpu": 0.0} for phase in PHASES}
        self._last = (time.monotonic(), cpu_seconds())

    def lap(self, phase: str) -> None:
        now = (time.monotonic(), cpu_seconds())
        for name, before, after in zip(("wall", "cpu"), self._last, now, strict=True):
            self._current[phase][name] += after - before
        self._last = now

    def end(self) -> None:
        """The iteration is over; the next one may begin at once."""
        self.iterations.append(self._current)
        self.begin()

    def write(self, path: Path, lengths: Sequence[Sequence[int]], kind: str) -> None:
        """The iterations, the tokens of each one's responses, and what computed them."""
        said = {"iterations": self.iterations, "lengths": [list(each) for each in lengths], "kind": kind}
        path.write_text(json.dumps(said), encoding="utf-8")


def cpu_seconds() -> float:
    """Of this process and its descendants that live, and those of them that it has waited for."""
    me, total = psutil.Process(), 0.0
    for process in [me, *me.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # it ended while we looked
            continue
        total += times.user + times.system + getattr(times, "children_user", 0) + getattr(times, "children_system", 0)
    return total
