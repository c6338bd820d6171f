"""Append-only files of entries. Each entry stands in a frame that tells whether it is whole.

A frame is a mark, the length of the entry and its crc32 (little-endian), and the entry as JSON. The mark is no UTF-8,
so no entry holds it: what lies between whole frames, such as the torn end of a killed writer, is passed over.

A segment belongs to the one process that made it, which holds its lock and alone appends to it; no segment is ever
opened to be continued. So who gets the lock knows that the segment is sealed.
"""

import fcntl
import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rlhf_ray.config import BadInput
from rlhf_ray.durable import sync
from rlhf_ray.feedback.entries import Entry, from_json, to_json

MARK = b"\xff\xfeRL"
HEADER = struct.Struct("<4sII")  # mark, bytes of the entry, crc32 of that number and of the entry
SEGMENTS, SUFFIX = "segments", ".wal"
MOST_BYTES = 16 * 2**20  # of an entry


@dataclass(frozen=True)
class Frame:
    """Where in its file a whole frame lies, and the JSON in it."""

    begin: int
    end: int
    data: bytes


def framed(entry: Entry) -> bytes:
    """Raises BadInput where it is too large."""
    data = to_json(entry)
    if len(data) > MOST_BYTES:
        raise BadInput(f"{entry.kind}: expected at most {MOST_BYTES} bytes, got {len(data)}")
    return HEADER.pack(MARK, len(data), _crc(data)) + data


def frames(data: bytes, begin: int = 0) -> Iterator[Frame]:
    """The whole frames in the bytes, which begin at the place `begin` of their file."""
    place = 0
    while (place := data.find(MARK, place)) >= 0:
        entry = _entry_at(data, place)
        if entry is None:
            place += 1
            continue
        end = place + HEADER.size + len(entry)
        yield Frame(begin + place, begin + end, entry)
        place = end


def _entry_at(data: bytes, place: int) -> bytes | None:
    if place + HEADER.size > len(data):
        return None
    _, length, crc = HEADER.unpack_from(data, place)
    begin = place + HEADER.size
    entry = data[begin : begin + min(length, MOST_BYTES)]
    return entry if len(entry) == length and _crc(entry) == crc else None


def _crc(data: bytes) -> int:
    """Of the length, too: nothing and a crc of 0 is what a lost block looks like."""
    return zlib.crc32(data, zlib.crc32(len(data).to_bytes(4, "little")))


class Segment:
    """A new segment of a replica, and the lock on it."""

    def __init__(self, folder: Path, replica: str) -> None:
        """Raises OSError where no file can be made."""
        self.path = folder / SEGMENTS / f"{replica}-{time.time_ns():x}{secrets.token_hex(2)}{SUFFIX}"
        hidden = self.path.with_name(f".{self.path.name}")
        self._file = _made_and_locked(hidden)  # it gets its name locked: nobody can think it sealed
        self.size = 0
        try:
            hidden.rename(self.path)
            sync(self.path.parent)
        except BaseException:
            os.close(self._file)
            raise

    def append(self, data: bytes) -> None:
        """Returns when the frames have reached the disk. After an OSError nobody knows which of them have."""
        rest = memoryview(data)
        while rest:  # a disk that is nearly full takes a part, and says nothing
            written = os.write(self._file, rest)
            self.size += written
            rest = rest[written:]
        os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)


def _made_and_locked(path: Path) -> int:
    while True:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_nlink:
            return file
        os.close(file)  # swept away between the two lines above


def is_ledger(folder: Path) -> bool:
    return (folder / SEGMENTS).is_dir()


def demand_ledger(folder: Path) -> None:
    if not is_ledger(folder):
        raise BadInput(f"{folder}: expected the folder of a ledger, got another or none")


def check_place(folder: Path) -> None:
    """Raises BadInput where neither is a ledger nor could be made one."""
    if folder.exists() and not is_ledger(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise BadInput(f"ledger: expected the folder of a ledger, an empty one or none at {folder}, got another")


def segments(folder: Path) -> list[Path]:
    return sorted((folder / SEGMENTS).glob(f"[!.]*{SUFFIX}"))


@contextmanager
def sealed(path: Path) -> Iterator[bool]:
    """Whether nobody writes the segment any more; meanwhile nobody else can find that. Raises FileNotFoundError."""
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(file)


def mend(folder: Path, replica: str) -> None:
    """Cut what is no whole frame from the ends of a replica's sealed segments."""
    for path in segments(folder):
        if path.name.rpartition("-")[0] != replica:
            continue
        try:
            with sealed(path) as final:
                end = max((frame.end for frame in frames(path.read_bytes())), default=0) if final else 0
                if final and end < path.stat().st_size:
                    os.truncate(path, end)
        except FileNotFoundError:
            continue  # compacted and deleted meanwhile


@dataclass(frozen=True)
class Tail:
    """What a segment holds behind a place, and the place up to which it is known now."""

    entries: list[Entry]
    end: int


def read_tail(path: Path, begin: int) -> Tail:
    """Raises FileNotFoundError, and BadInput where this version does not know an entry."""
    with sealed(path) as final:
        data = read_from(path, begin)
    found = list(frames(data, begin))
    entries = [from_json(frame.data, f"{path.name}, byte {frame.begin}") for frame in found]
    if final:
        return Tail(entries, begin + len(data))
    return Tail(entries, found[-1].end if found else begin)


def read_from(path: Path, begin: int, end: int | None = None) -> bytes:
    with open(path, "rb") as file:
        file.seek(begin)
        return file.read() if end is None else file.read(end - begin)
