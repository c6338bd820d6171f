"""How fast a person may go, whichever replica he asks."""

import logging
import sqlite3
from collections import OrderedDict, deque
from math import ceil
from pathlib import Path
from time import monotonic

LOG = logging.getLogger(__name__)
MOST_PEOPLE = 10_000  # who are remembered; who was silent for longest is forgotten first
PATIENCE_S = 0.05  # with which one waits for another process; it takes about a thousandth of that
REST_S = 1.0  # for which a file that could not be used is let alone
LAID_OUT = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS times (person TEXT, time REAL, PRIMARY KEY (person, time)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_time ON times (time);
"""


class Pace:
    """`most` in `seconds`, for each person."""

    def __init__(self, most: int, seconds: float = 60) -> None:
        self.most, self.seconds = most, seconds
        self.times: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, person: str) -> int:
        """Whole seconds until the person may go on; 0 is now, and counts."""
        wait = self.left(person)
        if not wait:
            self.times.setdefault(person, deque(maxlen=self.most)).append(monotonic())
            self.times.move_to_end(person)
            if len(self.times) > MOST_PEOPLE:
                self.times.popitem(last=False)
        return wait

    def left(self, person: str) -> int:
        """As `wait`, and counts nothing."""
        times, now = self.times.get(person) or deque(), monotonic()
        return ceil(times[0] + self.seconds - now) if len(times) == self.most and now - times[0] < self.seconds else 0


class SharedPace:
    """One pace for all processes of a machine that name the same file, in which it outlives each of them.

    It is SQLite's file, so there is nobody who keeps it and could be missing, and what a process that dies had locked
    is free. Where the file cannot be used in time, each process goes by what it has let through itself, and so it does
    afterwards, too.
    """

    def __init__(self, path: Path, most: int, seconds: float = 60, patience: float = PATIENCE_S) -> None:
        self.path, self.most, self.seconds, self.patience = path, most, seconds, patience
        self.own = Pace(most, seconds)
        self.opened: sqlite3.Connection | None = None
        self.rests_until = 0.0
        self.fails = False

    def wait(self, person: str) -> int:
        """As Pace has it, of all processes together."""
        own = self.own.left(person)  # more than the file says where it could not be used
        if own or monotonic() < self.rests_until:
            return own or self.own.wait(person)
        try:
            wait = self._wait(person)
        except (sqlite3.Error, OSError):
            if not self.fails:
                LOG.warning("%s: votes are counted by each replica alone", self.path, exc_info=True)
            self.close()
            self.fails, self.rests_until = True, monotonic() + REST_S
            return self.own.wait(person)
        if self.fails:
            LOG.warning("%s: votes are counted together again", self.path)
        self.fails = False
        return wait or self.own.wait(person)

    def close(self) -> None:
        """It opens itself again when it is needed."""
        if self.opened:
            self.opened.close()
        self.opened = None

    def _wait(self, person: str) -> int:
        if not self.opened:
            self.opened = self._open()
        with self.opened as file:  # commits, or undoes
            file.execute("BEGIN IMMEDIATE")
            now = monotonic()  # the machine's, so the same for all; what is later was before it last started
            file.execute("DELETE FROM times WHERE time <= ? OR time > ?", (now - self.seconds, now))
            count, first = file.execute("SELECT count(*), min(time) FROM times WHERE person = ?", (person,)).fetchone()
            if count >= self.most:
                return ceil(first + self.seconds - now)
            file.execute("INSERT INTO times VALUES (?, ?)", (person, now))
            return 0

    def _open(self) -> sqlite3.Connection:
        self.path.touch(mode=0o600)  # its owner's alone, and so are SQLite's files beside it
        file = sqlite3.connect(self.path, timeout=self.patience, isolation_level=None, check_same_thread=False)
        try:
            file.executescript(LAID_OUT)
        except sqlite3.Error:
            file.close()
            raise
        return file

    def __del__(self) -> None:
        self.close()
