"""Segments become Parquet files: read what is new, write it beside what is there, and let one rename make it count.

1. Read the segments from where the manifest has them.
2. Write new parts, each under a hidden name until it has reached the disk.
3. Write the manifest: this is the one moment at which anything changes for readers.
4. Sweep: parts that it no longer names, and sealed segments that are in it to their end, are deleted.

Killed between any two steps, the next compaction sweeps what no manifest names and begins again.
"""

import fcntl
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

from rlhf_ray.data.tables import Row
from rlhf_ray.durable import sync
from rlhf_ray.feedback.archive import (
    KEYS,
    SCHEMAS,
    Manifest,
    Part,
    as_row,
    key,
    read_parts,
    table_of,
    write_part,
)
from rlhf_ray.feedback.entries import Entry
from rlhf_ray.feedback.index import Index
from rlhf_ray.feedback.segments import SEGMENTS, demand_ledger, read_tail, sealed, segments

LOCK = ".compactor.lock"
SMALL_PART = 2 * 2**20  # bytes; a part below it takes up what is new of its day, by way of memory
AT_ONCE = 64 * 2**20  # bytes of segments that are held in memory


def compact(folder: Path, index: Index | None = None) -> Manifest | None:
    """Take up everything that the segments hold by now; None where another compactor is at it.

    Whoever compacts often keeps an index, so that old parts are not read again. Raises OSError where the disk is full;
    then nothing has changed. Raises BadInput where something is damaged.
    """
    demand_ledger(folder)
    with _alone(folder) as first:
        if not first:
            return None
        manifest, more, index = Manifest.read(folder), True, index or Index(folder)
        sweep(folder, manifest)
        while more:
            entries, consumed, more = _read_new(folder, manifest)
            if consumed != manifest.consumed:
                manifest = _add(index, manifest, entries, consumed)
                manifest.write(folder)
            sweep(folder, manifest)
        return manifest


def sweep(folder: Path, manifest: Manifest) -> None:
    """Delete what the manifest makes needless, and what a killed compactor or writer left unfinished."""
    for table in SCHEMAS:
        for path in (folder / table).glob("date=*/*"):
            if str(path.relative_to(folder)) not in manifest.parts:
                path.unlink()
    for path in (folder / SEGMENTS).iterdir():
        with suppress(FileNotFoundError), sealed(path) as final:
            hidden = path.name.startswith(".")
            if final and (hidden or path.stat().st_size <= manifest.consumed.get(path.name, -1)):
                path.unlink()


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(lock)


def _read_new(folder: Path, manifest: Manifest) -> tuple[list[Entry], dict[str, int], bool]:
    """New entries, the places up to which the segments are known with them, and whether there may be more."""
    entries: list[Entry] = []
    consumed: dict[str, int] = {}
    room = AT_ONCE
    for path in segments(folder):
        begin = manifest.consumed.get(path.name, 0)
        if room <= 0:
            consumed |= {path.name: begin} if begin else {}
            continue
        tail = read_tail(path, begin)
        entries += tail.entries
        consumed[path.name] = tail.end
        room -= tail.end - begin
    return entries, consumed, room <= 0


def _add(index: Index, manifest: Manifest, entries: list[Entry], consumed: dict[str, int]) -> Manifest:
    generation = manifest.generation + 1
    parts = dict(manifest.parts)
    for table in SCHEMAS:
        new = [as_row(entry) for entry in entries if table_of(entry) == table]
        if new:
            parts = _merged(index, table, parts, new, generation)
    return Manifest(generation=generation, parts=parts, consumed=consumed)


def _merged(index: Index, table: str, parts: dict[str, Part], new: list[Row], generation: int) -> dict[str, Part]:
    """The parts with the new rows. Of the same row sent twice the earlier stays, whichever came to be known first."""
    folder = index.folder
    known = _known(folder, table, index.parts_with(parts, table, (key(table, row) for row in new)))
    fresh: dict[tuple[Any, ...], Row] = {}
    outdated: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for row in sorted(new, key=lambda row: row["time"], reverse=True):
        time, part = known.get(key(table, row), (None, ""))
        if time is None or row["time"] < time:
            fresh[key(table, row)] = row
            if part:
                outdated[part].add(key(table, row))
    rows_of: dict[date, list[Row]] = defaultdict(list)
    for row in fresh.values():
        rows_of[row["time"].date()].append(row)
    replaced = {part for part in parts if part in outdated or _takes(part, parts[part], table, rows_of)}
    for part in sorted(replaced):
        for row in read_parts(folder, {part: parts[part]}):
            if key(table, row) not in outdated[part]:
                rows_of[row["time"].date()].append(row)
    kept = {part: facts for part, facts in parts.items() if part not in replaced}
    for day, rows in sorted(rows_of.items()):
        name = f"{_place(table, day)}/part-{generation:08d}.parquet"
        _make_folders(folder, _place(table, day))
        kept[name] = write_part(folder, name, sorted(rows, key=lambda row: (row["time"], *map(str, key(table, row)))))
    return kept


def _known(folder: Path, table: str, parts: dict[str, Part]) -> dict[tuple[Any, ...], tuple[Any, str]]:
    """By its key, when each row was and in which part it stands."""
    columns = [*KEYS[table], "time"]
    return {
        key(table, row): (row["time"], name)
        for name, part in parts.items()
        for row in read_parts(folder, {name: part}, columns)
    }


def _takes(part: str, facts: Part, table: str, rows_of: dict[date, list[Row]]) -> bool:
    """Whether the rows of a small part move to a new one with what is new of its day."""
    return facts.bytes < SMALL_PART and any(part.startswith(f"{_place(table, day)}/") for day in rows_of)


def _place(table: str, day: date) -> str:
    return f"{table}/date={day.isoformat()}"


def _make_folders(folder: Path, place: str) -> None:
    for path in (folder / place.partition("/")[0], folder / place):
        path.mkdir(mode=0o700, exist_ok=True)
        sync(path.parent)
