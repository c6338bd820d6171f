"""Seconds and peak memory of a piece of work, with all the processes it started."""

import threading
import time
from types import TracebackType

import psutil

INTERVAL = 0.5  # seconds between two looks at the memory


class Meter:
    """A context manager. Memory is the proportional set size of this process and its descendants, so that pages which
    processes share count once; processes of a cluster on other machines, or started before, are not seen.
    """

    def __enter__(self) -> "Meter":
        self.seconds = 0.0
        self.peak_bytes = 0
        self._started = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self.seconds = time.monotonic() - self._started

    def _watch(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, _memory_of_family())
            if self._done.wait(INTERVAL):
                return


def _memory_of_family() -> int:
    total = 0
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            memory = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # it ended while we looked
            continue
        total += getattr(memory, "pss", memory.rss)
    return total
