"""Seconds and peak memory of a piece of work, with all the processes it started."""

import threading
import time
from collections.abc import Callable
from types import TracebackType

import psutil

INTERVAL = 0.5  # seconds between two looks at the memory
GROWN = 1.01  # times as much resident memory as ever before: worth a closer look


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
        """The proportional size is read where the resident one has grown: to read it stops a process for milliseconds,
        since the kernel walks through all its pages."""
        most = 0
        while True:
            family = _family()
            resident = sum(_read(process, lambda each: each.memory_info().rss) for process in family)
            if resident > GROWN * most:
                most = resident
                self.peak_bytes = max(self.peak_bytes, sum(_read(process, _proportional) for process in family))
            if self._done.wait(INTERVAL):
                return


def _family() -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def _proportional(process: psutil.Process) -> int:
    memory = process.memory_full_info()
    return getattr(memory, "pss", memory.rss)


def _read(process: psutil.Process, size: Callable[[psutil.Process], int]) -> int:
    try:
        return size(process)
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it ended while we looked
        return 0
