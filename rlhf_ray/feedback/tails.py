"""What segments hold that no manifest has yet. Each entry is read once: of votes all is remembered, of completions
where they lie.
"""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rlhf_ray.data.tables import Row
from rlhf_ray.feedback.archive import Manifest, as_row
from rlhf_ray.feedback.entries import Completion, Entry, Vote, from_json
from rlhf_ray.feedback.segments import Frame, frames, read_from, segments

_COMPLETION = re.compile(rb'\{"kind":"completion","completion_id":("(?:[^"\\]|\\.)*")')  # as to_json writes it


@dataclass(frozen=True)
class Place:
    """Where in a segment an entry lies."""

    path: Path
    begin: int
    end: int


class Tails:
    """Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[Path, int] = {}
        self._votes: dict[Path, list[tuple[int, Row]]] = {}  # each with where it ends
        self._places: dict[str, Place] = {}  # by completion

    def look(self) -> None:
        """Read what is new, and forget what a manifest has. Raises BadInput where this version knows no such entry."""
        consumed, paths = Manifest.read(self.folder).consumed, segments(self.folder)
        self._forget({path: consumed.get(path.name, 0) for path in paths})
        for path in paths:
            begin = max(self._seen.get(path, 0), consumed.get(path.name, 0))
            with suppress(FileNotFoundError):  # compacted meanwhile: a manifest has it
                for frame in frames(read_from(path, begin), begin):
                    self._hear(path, frame)
                    self._seen[path] = frame.end

    def votes(self) -> list[Row]:
        return [vote for votes in self._votes.values() for _, vote in votes]

    def completions(self, ids: Iterable[str]) -> dict[str, Completion]:
        """Those of the ids that are here."""
        places = {name: self._places[name] for name in ids if name in self._places}
        found: dict[str, Completion] = {}
        for name, place in places.items():
            with suppress(FileNotFoundError):  # compacted since
                (frame,) = frames(read_from(place.path, place.begin, place.end), place.begin)
                entry = _entry(place.path, frame)
                if isinstance(entry, Completion):
                    found[name] = entry
        return found

    def _hear(self, path: Path, frame: Frame) -> None:
        said = _COMPLETION.match(frame.data)  # most entries are one, and to parse them takes much longer
        if said:
            self._places.setdefault(json.loads(said[1]), Place(path, frame.begin, frame.end))
            return
        entry = _entry(path, frame)
        if isinstance(entry, Vote):
            self._votes.setdefault(path, []).append((frame.end, as_row(entry)))
        else:
            self._places.setdefault(entry.completion_id, Place(path, frame.begin, frame.end))

    def _forget(self, consumed: dict[Path, int]) -> None:
        """What is in the manifest that says up to where each segment that is left has been consumed."""
        self._seen = {path: end for path, end in self._seen.items() if path in consumed}
        self._votes = {
            path: [(end, vote) for end, vote in votes if end > consumed[path]]
            for path, votes in self._votes.items()
            if path in consumed
        }
        self._places = {
            name: place
            for name, place in self._places.items()
            if place.path in consumed and place.end > consumed[place.path]
        }


def _entry(path: Path, frame: Frame) -> Entry:
    return from_json(frame.data, f"{path.name}, byte {frame.begin}")
