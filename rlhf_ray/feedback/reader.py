"""Reads a ledger, while others write and compact it: the segments' tails first, then the manifest and its parts.

In this order nothing is missed, since a segment goes away only when a manifest has it; what is seen twice counts once.
"""

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import Row
from rlhf_ray.feedback.archive import Manifest, as_completion, as_row, key, read_parts
from rlhf_ray.feedback.entries import Completion
from rlhf_ray.feedback.index import Index
from rlhf_ray.feedback.secret import has_secret, read_secret
from rlhf_ray.feedback.segments import demand_ledger, segments
from rlhf_ray.feedback.tails import Tails
from rlhf_ray.seeds import derive

TRIES = 20  # a compaction may replace parts while they are read, but not so often
BRIEF = ("completion_id", "prompt", "completion", "model_version", "model_digest", "arm", "pair")
ORIGIN = ("completion_id", "model_version", "arm", "pair")  # who said it, without the texts
Read = TypeVar("Read")


class Reader:
    """What a ledger's folder holds. Thread-safe. What has not changed is not read again."""

    def __init__(self, folder: Path) -> None:
        """Raises BadInput where there is no ledger."""
        demand_ledger(folder)
        self.folder = folder
        self._lock = threading.Lock()
        self._tails, self._index = Tails(folder), Index(folder)
        self._votes: dict[str, list[Row]] = {}  # by their part's digest
        self._origins: dict[str, Row] = {}  # of the completions that have votes

    def state(self) -> Hashable:
        """Equal while the folder holds the same."""
        sizes = []
        for path in segments(self.folder):
            with suppress(FileNotFoundError):
                sizes.append((path.name, path.stat().st_size))
        return Manifest.read(self.folder).generation, tuple(sizes)

    def votes(self, person: str | None = None) -> list[Row]:
        """Every vote once, replaced ones, too, the oldest first: of everybody or of a person."""
        with self._lock:
            self._tails.look()
            recent = self._tails.votes()
            known = self._retried(self._archived_votes)
        each: dict[Hashable, Row] = {}
        for row in (*known, *recent):
            if person in (None, row["person"]):
                same = each.setdefault(key("votes", row), row)
                if row["time"] < same["time"]:
                    each[key("votes", row)] = row
        return sorted(each.values(), key=_order)

    def live_votes(self, person: str | None = None, newest: int | None = None) -> list[Row]:
        """The last vote of each person on each completion, the oldest first, with the texts; or the newest so many.

        Keys: vote_id, completion_id, person, label (1 or -1), comment, score, probability, judge, time, and BRIEF's of
        the completion.
        """
        live = _live(self.votes(person))
        return self._with(BRIEF, live if newest is None else live[-newest:])

    def dated_votes(self) -> list[Row]:
        """As `live_votes`, with when the person first voted on the completion (`given`) and on any (`came`), which no
        later vote changes, and a `lot` to draw votes by, which nobody can know who does not know the ledger's secret.

        A ledger that was never served has no secret.
        """
        secret = read_secret(self.folder).hex() if has_secret(self.folder) else ""
        given: dict[tuple[str, str], datetime] = {}
        came: dict[str, datetime] = {}
        votes = self.votes()
        for vote in votes:  # the oldest first
            given.setdefault((vote["person"], vote["completion_id"]), vote["time"])
            came.setdefault(vote["person"], vote["time"])
        return [
            vote | {"given": given[person, name], "came": came[person], "lot": lot(person, name, secret)}
            for vote in self._with(BRIEF, _live(votes))
            for person, name in [(vote["person"], vote["completion_id"])]
        ]

    def live_facts(self) -> list[Row]:
        """As `live_votes`, without the texts: with ORIGIN's keys of the completion."""
        votes = _live(self.votes())
        missing = {row["completion_id"] for row in votes} - self._origins.keys()
        self._origins |= self._rows(ORIGIN, missing)
        return [row | self._origins[row["completion_id"]] for row in votes if row["completion_id"] in self._origins]

    def history(self, person: str) -> list[Row]:
        """All votes of a person, the oldest first, with the texts and whether they are `live`."""
        own = self.votes(person)
        last = {row["completion_id"]: row for row in own}
        return self._with(BRIEF, [row | {"live": last[row["completion_id"]] is row} for row in own])

    def completion(self, completion_id: str) -> Completion | None:
        return self.completions([completion_id]).get(completion_id)

    def completions(self, ids: Iterable[str]) -> dict[str, Completion]:
        """Those of the ids that the ledger has."""
        recent, archived = self._given(set(ids))
        return recent | {name: as_completion(row) for name, row in archived.items()}

    def _with(self, columns: Sequence[str], votes: list[Row]) -> list[Row]:
        """The votes on completions that are here, with those columns of them. From others nothing can be learned."""
        given = self._rows(columns, {row["completion_id"] for row in votes})
        return [row | given[row["completion_id"]] for row in votes if row["completion_id"] in given]

    def _rows(self, columns: Sequence[str], ids: set[str]) -> dict[str, Row]:
        recent, archived = self._given(ids, columns)
        rows = archived | {name: as_row(entry) for name, entry in recent.items()}
        return {name: {column: row[column] for column in columns} for name, row in rows.items()}

    def _given(
        self, ids: set[str], columns: Sequence[str] | None = None
    ) -> tuple[dict[str, Completion], dict[str, Row]]:
        """The completions of those ids: which the tails have, and rows of the others."""
        with self._lock:
            self._tails.look()
            recent = self._tails.completions(ids)
            rest = ids - recent.keys()

            def read(manifest: Manifest) -> list[Row]:
                parts = self._index.parts_with(manifest.parts, "completions", [(name,) for name in rest])
                return read_parts(self.folder, parts, columns, ids=rest)

            rows = self._retried(read) if rest else []
        return recent, {row["completion_id"]: row for row in rows}

    def _archived_votes(self, manifest: Manifest) -> list[Row]:
        known, self._votes = self._votes, {}
        for name, part in manifest.of("votes").items():
            self._votes[part.sha256] = known.get(part.sha256) or read_parts(self.folder, {name: part})
        return [row for rows in self._votes.values() for row in rows]

    def _retried(self, read: Callable[[Manifest], Read]) -> Read:
        for _ in range(TRIES):
            try:
                return read(Manifest.read(self.folder))
            except FileNotFoundError as error:
                missing = error.filename
        raise BadInput(f"{missing}: expected a part that the manifest names, found none")


def lot(person: str, completion_id: str, secret: str = "") -> int:
    return derive("newcomers", secret, person, completion_id)


def _live(votes: list[Row]) -> list[Row]:
    """Of votes that are in order the last of each person on each completion."""
    live = {(row["person"], row["completion_id"]): row for row in votes}
    return sorted(live.values(), key=_order)


def _order(vote: Row) -> tuple[str, ...]:
    """By time, then by what else tells votes apart: the last of a person is the same, whoever reads it when."""
    return (vote["time"].isoformat(timespec="microseconds"), *map(str, key("votes", vote)))
