"""In which parts of a ledger a row stands, without reading them again: of each row eight bytes are remembered."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_ray.feedback.archive import KEYS, Part, key, read_parts, table_in


class Index:
    """Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._marks: dict[str, np.ndarray] = {}  # by a part's digest the hashes of its keys

    def parts_with(self, parts: Mapping[str, Part], table: str, keys: Iterable[tuple[Any, ...]]) -> dict[str, Part]:
        """Of a manifest's parts those of the table that hold any of the keys, and once in a blue moon another.

        Raises FileNotFoundError where a newer manifest has replaced a part, and BadInput where one is damaged.
        """
        there = {part.sha256 for part in parts.values()}
        self._marks = {sha256: marks for sha256, marks in self._marks.items() if sha256 in there}
        wanted = np.fromiter(map(hash, keys), np.int64)
        own = {name: part for name, part in parts.items() if table_in(name) == table}
        return {name: part for name, part in own.items() if np.isin(wanted, self._of(table, name, part)).any()}

    def _of(self, table: str, name: str, part: Part) -> np.ndarray:
        if part.sha256 not in self._marks:
            rows = read_parts(self.folder, {name: part}, KEYS[table])
            self._marks[part.sha256] = np.fromiter((hash(key(table, row)) for row in rows), np.int64, len(rows))
        return self._marks[part.sha256]
