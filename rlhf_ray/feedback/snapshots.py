"""Snapshots: the live votes of a moment, under the digest of what they say, so that training can be repeated."""

import json
import re
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import Row
from rlhf_ray.durable import MANIFEST, digest, is_whole, publish, read_manifest
from rlhf_ray.feedback.archive import COMPLETIONS, VOTES
from rlhf_ray.feedback.reader import BRIEF, Reader

SNAPSHOTS, FILE = "snapshots", "votes.parquet"
FORMAT = "ledger snapshot 2"  # the first had no DATED
DATED = {"given": VOTES.field("time").type, "came": VOTES.field("time").type, "lot": pa.int64()}
SCHEMA = pa.schema([*VOTES, *(COMPLETIONS.field(name) for name in BRIEF if name != "completion_id"), *DATED.items()])


def snapshot(folder: Path) -> str:
    """Pin the live votes of a ledger in `snapshots/<digest>/`, and return the digest: sha256 of the rows as JSON.

    Equal votes have equal digests, whenever and after whatever compaction they are read.
    """
    rows = Reader(folder).dated_votes()
    name = votes_digest(rows)
    place = folder / SNAPSHOTS / name
    if is_snapshot(place) and is_whole(place):
        return name
    (folder / SNAPSHOTS).mkdir(mode=0o700, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=".work-", dir=folder / SNAPSHOTS))
    try:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), workplace / FILE)
        facts = {"format": FORMAT, "digest": name, "rows": len(rows), "made": datetime.now(UTC).isoformat()}
        publish(workplace, place, facts)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return name


def read_snapshot(folder: Path, digest: str) -> list[Row]:
    """The votes of a ledger's snapshot, as `Reader.dated_votes` gave them. Raises BadInput if it is not as it was."""
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise BadInput(f"digest: expected 64 hexadecimal digits, got {ascii(digest)[:80]}")
    return read_snapshot_in(folder / SNAPSHOTS / digest, digest)


def read_snapshot_in(place: Path, expected: str | None = None) -> list[Row]:
    """Of a snapshot's own folder, wherever it was copied to. Raises BadInput where it is not what it was."""
    claimed = read_manifest(place).get("digest")
    if expected is not None and claimed != expected:
        raise BadInput(f"{place}: expected the snapshot {expected}, got {claimed}")
    if not is_whole(place):
        raise BadInput(f"{place}: expected the files that the manifest names, got others or changed ones")
    rows = pq.read_table(place / FILE).to_pylist()
    if votes_digest(rows) != claimed:
        raise BadInput(f"{place}: expected votes of the digest {claimed}, got others")
    return rows


def is_snapshot(place: Path) -> bool:
    return (place / MANIFEST).is_file() and (place / FILE).is_file()


def votes_digest(rows: list[Row]) -> str:
    """Of the rows but for DATED as JSON with sorted keys, one a line, times in microseconds."""
    said = ({name: value for name, value in row.items() if name not in DATED} for row in rows)
    lines = (json.dumps(row | {"time": _time(row)}, sort_keys=True) for row in said)
    return digest("\n".join(lines).encode())


def _time(row: Row) -> str:
    time: datetime = row["time"]
    return time.astimezone(UTC).isoformat(timespec="microseconds")
