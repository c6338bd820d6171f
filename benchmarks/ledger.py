"""Durable votes a second, and how long one waits for its acknowledgement: `python benchmarks/ledger.py [FOLDER]`.

Each caller appends one vote after the other. Beside it stands what the disk itself does: the same bytes, written and
synced one by one. The folder says which disk is measured; without one it is the current folder's. The table is printed
and written to `benchmarks/results/ledger.md`.
"""

import os
import platform
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from tables import head, line, write

from rlhf_ray.feedback.entries import Vote
from rlhf_ray.feedback.ledger import Ledger
from rlhf_ray.feedback.segments import framed

CALLERS = (1, 4, 16, 64)
SECONDS = 5.0  # of each row
COLUMNS = ("callers", "acknowledged votes/s", "p50 (ms)", "p99 (ms)", "disk alone: syncs/s", "p50 (ms)", "p99 (ms)")


def main(place: str = ".") -> None:
    lines = [*head(COLUMNS)]
    with tempfile.TemporaryDirectory(dir=place) as folder:
        for callers in CALLERS:
            disk = synced_alone(Path(folder) / "plain")
            waits = appended(Path(folder) / f"{callers}", callers)
            lines.append(line([str(callers), *told(waits), *told(disk)]))
    write("ledger", [place], {"versions": {"python": platform.python_version(), "linux": platform.release()}}, lines)


def appended(folder: Path, callers: int) -> list[float]:
    """The seconds that each vote waited."""
    waits: list[float] = []

    def click(caller: int) -> None:
        number, own = 0, []
        while time.perf_counter() < end:
            vote = a_vote(f"{caller}-{number}", ledger.now())
            begin = time.perf_counter()
            ledger.append(vote)
            own.append(time.perf_counter() - begin)
            number += 1
        waits.extend(own)

    with Ledger.open(folder, "r0") as ledger:
        end = time.perf_counter() + SECONDS
        threads = [threading.Thread(target=click, args=(caller,)) for caller in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return waits


def synced_alone(path: Path) -> list[float]:
    data = framed(a_vote("0", datetime.now(UTC)))
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    waits, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        begin = time.perf_counter()
        os.write(file, data)
        os.fdatasync(file)
        waits.append(time.perf_counter() - begin)
    os.close(file)
    return waits


def a_vote(name: str, time: datetime) -> Vote:
    return Vote(vote_id=name.zfill(32), completion_id="c" * 65, person="p" * 32, label=1, time=time)


def told(waits: list[float]) -> list[str]:
    median, late = np.percentile(waits, [50, 99]) * 1000
    return [f"{len(waits) / SECONDS:,.0f}", f"{median:.2f}", f"{late:.2f}"]


if __name__ == "__main__":
    main(*sys.argv[1:])
