"""Reads a ledger, while others write and compact it: the segments' tails first, then the manifest and its parts.

In this order nothing is missed, since a segment goes away only when a manifest has it; what is seen twice counts once.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import Row
from rlhf_ray.feedback.archive import Manifest, as_completion, as_row, key, read_parts
from rlhf_ray.feedback.entries import Completion, Entry, Vote, from_json
from rlhf_ray.feedback.segments import demand_ledger, frames, read_from, read_tail, segments

TRIES = 20  # a compaction may replace parts while they are read, but not so often
BRIEF = ("completion_id", "prompt", "completion", "model_version", "model_digest", "arm", "score")
Read = TypeVar("Read")


@dataclass(frozen=True)
class Place:
    """Where in a segment an entry lies."""

    path: Path
    begin: int
    end: int = -1


class Reader:
    """What a ledger's folder holds. Thread-safe. Remembers what the newest parts had, and where completions lie."""

    def __init__(self, folder: Path) -> None:
        """Raises BadInput where there is no ledger."""
        demand_ledger(folder)
        self.folder = folder
        self._lock = threading.Lock()
        self._archived: tuple[int, list[Row]] = (-1, [])
        self._places: dict[str, Place] = {}  # by completion
        self._seen: dict[Path, int] = {}

    def votes(self) -> list[Row]:
        """Every vote once, replaced ones, too, the oldest first."""
        entries = self._tails()
        known = self._retried(self._archived_votes)
        each = {key("votes", row): row for row in known}
        for entry in entries:
            if isinstance(entry, Vote):
                row = as_row(entry)
                same = each.setdefault(key("votes", row), row)
                if row["time"] < same["time"]:
                    each[key("votes", row)] = row
        return sorted(each.values(), key=_order)

    def live_votes(self, person: str | None = None) -> list[Row]:
        """The last vote of each person on each completion, the oldest first, with the texts.

        Keys: vote_id, completion_id, person, label (1 or -1), comment, time, and BRIEF's of the completion.
        """
        live = {(row["person"], row["completion_id"]): row for row in self.votes()}
        return self._with_texts(row for row in live.values() if person in (None, row["person"]))

    def history(self, person: str) -> list[Row]:
        """All votes of a person, the oldest first, with the texts and whether they are `live`."""
        own = [row for row in self.votes() if row["person"] == person]
        last = {row["completion_id"]: row for row in own}
        return self._with_texts(row | {"live": last[row["completion_id"]] is row} for row in own)

    def completion(self, completion_id: str) -> Completion | None:
        return self._in_segments(completion_id) or self.completions([completion_id]).get(completion_id)

    def completions(self, ids: Iterable[str]) -> dict[str, Completion]:
        """Those of the ids that the ledger has."""
        wanted = set(ids)
        found = {entry.completion_id: entry for entry in self._tails() if isinstance(entry, Completion)}
        rest = wanted - found.keys()
        if rest:
            rows = self._retried(lambda manifest: read_parts(self.folder, manifest.of("completions"), ids=rest))
            found |= {row["completion_id"]: as_completion(row) for row in rows}
        return {name: found[name] for name in wanted & found.keys()}

    def _with_texts(self, votes: Iterable[Row]) -> list[Row]:
        """The votes on completions that are here. Others cannot be learned from."""
        rows = sorted(votes, key=_order)
        given = {entry.completion_id: as_row(entry) for entry in self._tails() if isinstance(entry, Completion)}
        if rest := {row["completion_id"] for row in rows} - given.keys():
            found = self._retried(
                lambda manifest: read_parts(self.folder, manifest.of("completions"), columns=BRIEF, ids=rest)
            )
            given |= {row["completion_id"]: row for row in found}
        briefs = {name: {column: row[column] for column in BRIEF} for name, row in given.items()}
        return [row | briefs[row["completion_id"]] for row in rows if row["completion_id"] in briefs]

    def _tails(self) -> list[Entry]:
        """What no manifest had when this began."""
        consumed = Manifest.read(self.folder).consumed
        entries: list[Entry] = []
        for path in segments(self.folder):
            with suppress(FileNotFoundError):  # compacted meanwhile: it is in the parts that are read next
                entries += read_tail(path, consumed.get(path.name, 0)).entries
        return entries

    def _archived_votes(self, manifest: Manifest) -> list[Row]:
        if self._archived[0] != manifest.generation:
            self._archived = (manifest.generation, read_parts(self.folder, manifest.of("votes")))
        return self._archived[1]

    def _retried(self, read: Callable[[Manifest], Read]) -> Read:
        for _ in range(TRIES):
            try:
                return read(Manifest.read(self.folder))
            except FileNotFoundError as error:
                missing = error.filename
        raise BadInput(f"{missing}: expected a part that the manifest names, found none")

    def _in_segments(self, completion_id: str) -> Completion | None:
        with self._lock:
            if completion_id not in self._places:
                self._look_for_new()
            place = self._places.get(completion_id)
        with suppress(FileNotFoundError):  # compacted since
            if place:
                return next(_completions(read_from(place.path, place.begin, place.end), place))[1]
        return None

    def _look_for_new(self) -> None:
        paths = segments(self.folder)
        if self._seen.keys() - set(paths):
            self._seen = {path: end for path, end in self._seen.items() if path in paths}
            self._places = {name: place for name, place in self._places.items() if place.path in paths}
        for path in paths:
            begin = self._seen.get(path, 0)
            with suppress(FileNotFoundError):
                for place, entry in _completions(read_from(path, begin), Place(path, begin)):
                    self._places[entry.completion_id] = place
                    self._seen[path] = place.end


def _completions(data: bytes, place: Place) -> Iterator[tuple[Place, Completion]]:
    for frame in frames(data, place.begin):
        entry = from_json(frame.data, f"{place.path.name}, byte {frame.begin}")
        if isinstance(entry, Completion):
            yield Place(place.path, frame.begin, frame.end), entry


def _order(vote: Row) -> tuple[str, ...]:
    """By time, then by what else tells votes apart: the last of a person is the same, whoever reads it when."""
    return (vote["time"].isoformat(timespec="microseconds"), *map(str, key("votes", vote)))
