"""The ledger: what was said and what people thought of it, on the disk before anybody is told that it is kept.

    segments/<replica>-<boot>.wal    appended to by one process each, see segments.py
    completions/ votes/ manifest.json    what compaction.py makes of them, see archive.py
    snapshots/<digest>/              votes to train on, see snapshots.py

Many threads and tasks append; one thread writes. While the disk is busy with some entries, the next ones gather, and go
to it together: an entry waits for one write before its own at most.
"""

import asyncio
import errno
import queue
import re
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import Row
from rlhf_ray.durable import sync
from rlhf_ray.feedback.entries import Completion, Entry
from rlhf_ray.feedback.reader import Reader
from rlhf_ray.feedback.segments import SEGMENTS, Segment, framed, mend

LONGEST_WAIT = 30.0  # seconds that a disk may take
LARGEST_SEGMENT = 16 * 2**20  # bytes; then it is sealed, so that it can be compacted and deleted
LARGEST_GROUP = 2**20  # bytes that are written together
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class LedgerFull(OSError):
    """The disk takes no more: what was to be kept is not."""


class LedgerClosed(OSError):
    """The ledger was closed: what was to be kept is not."""


@dataclass(frozen=True)
class Waiting:
    """Frames on their way to the disk, and who waits for them."""

    data: bytes
    kept: "Future[None]"


def lay_out(folder: Path) -> None:
    """Make a ledger of the folder, which is made where there is none."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / SEGMENTS).mkdir(mode=0o700, exist_ok=True)
    sync(folder)


class Ledger:
    """A replica's place to write to, and a view of what all replicas wrote. Thread-safe."""

    @classmethod
    def open(cls, folder: Path, replica: str) -> "Ledger":
        """Makes the folder where there is none. Raises BadInput for a replica that cannot name a file, and OSError."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", replica):
            raise BadInput(f"replica: expected a name of a-z, 0-9, '.', '_' and '-', got {ascii(replica)[:80]}")
        lay_out(folder)
        mend(folder, replica)
        return cls(folder, replica)

    def __init__(self, folder: Path, replica: str) -> None:
        self.folder, self.replica = folder, replica
        self._reader = Reader(folder)
        self._began = datetime.now(UTC) - timedelta(seconds=time.monotonic())
        self._segment: Segment | None = Segment(folder, replica)
        self._waiting: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._writer = threading.Thread(target=self._write_all, name=f"ledger {replica}", daemon=True)
        self._writer.start()

    def now(self) -> datetime:
        """The time (UTC). It never goes back while the ledger is open, whatever happens to the clock."""
        return self._began + timedelta(seconds=time.monotonic())

    def append(self, entry: Entry) -> None:
        """Returns when the entry is on the disk.

        Raises LedgerFull, LedgerClosed or another OSError; then nobody may be told that it is kept.
        """
        self._await(self._submit(entry))

    def append_all(self, entries: Iterable[Entry]) -> None:
        """As `append`, of many: they go to the disk in groups."""
        for kept in [self._submit(entry) for entry in entries]:
            self._await(kept)

    async def aappend(self, entry: Entry) -> None:
        """As `append`. Who is cancelled meanwhile does not know whether it is kept."""
        kept = asyncio.wrap_future(self._submit(entry))
        try:
            await asyncio.wait_for(kept, LONGEST_WAIT)
        except TimeoutError:
            raise self._too_slow() from None

    def completion(self, completion_id: str) -> Completion | None:
        """Of any replica. Reads the disk."""
        return self._reader.completion(completion_id)

    def completions(self, ids: Iterable[str]) -> dict[str, Completion]:
        """Those of the ids that any replica has. Reads the disk."""
        return self._reader.completions(ids)

    def live_votes(self, person: str | None = None, newest: int | None = None) -> list[Row]:
        """Of all replicas, see Reader. Reads the disk."""
        return self._reader.live_votes(person, newest)

    def history(self, person: str) -> list[Row]:
        """Of all replicas, see Reader. Reads the disk."""
        return self._reader.history(person)

    def is_open(self) -> bool:
        """Whether somebody writes what is appended."""
        return self._writer.is_alive()

    def close(self) -> None:
        """Returns when everything that was on its way has been written or refused."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._writer.join()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _await(self, kept: "Future[None]") -> None:
        try:
            kept.result(timeout=LONGEST_WAIT)
        except TimeoutError:
            raise self._too_slow() from None

    def _submit(self, entry: Entry) -> "Future[None]":
        waiting = Waiting(framed(entry), Future())
        waiting.kept.set_running_or_notify_cancel()  # it is on its way and cannot be called back
        with self._closing:
            if self._closed:
                raise LedgerClosed(f"{self.folder}: the ledger is closed")
            self._waiting.put(waiting)
        return waiting.kept

    def _write_all(self) -> None:
        open_ = True
        while open_:
            group, open_ = self._next_group()
            try:
                self._write(b"".join(waiting.data for waiting in group))
            except OSError as error:
                for waiting in group:
                    waiting.kept.set_exception(self._named(error))
            else:
                for waiting in group:
                    waiting.kept.set_result(None)
        if self._segment:
            self._segment.close()

    def _next_group(self) -> tuple[list[Waiting], bool]:
        """Everything that waits by now, and whether more may come."""
        group: list[Waiting] = []
        waiting = self._waiting.get()
        while waiting:
            group.append(waiting)
            if sum(len(other.data) for other in group) >= LARGEST_GROUP or self._waiting.empty():
                return group, True
            waiting = self._waiting.get()
        return group, False

    def _write(self, data: bytes) -> None:
        if not data:
            return
        if self._segment is None:
            self._segment = Segment(self.folder, self.replica)
        before = self._segment.size
        try:
            self._segment.append(data)
        except OSError:
            if self._segment.size > before:
                self._seal()  # readers may have seen a part of it, so that it cannot be taken back
            raise
        if self._segment.size >= LARGEST_SEGMENT:
            self._seal()

    def _seal(self) -> None:
        if self._segment:
            self._segment.close()
            self._segment = None

    def _named(self, error: OSError) -> OSError:
        if error.errno in FULL:
            return LedgerFull(error.errno, f"{self.folder}: expected room on the disk, got {error.strerror}")
        return error

    def _too_slow(self) -> TimeoutError:
        return TimeoutError(
            f"{self.folder}: expected the disk to keep an entry within {LONGEST_WAIT:.0f} s, got no answer"
        )
