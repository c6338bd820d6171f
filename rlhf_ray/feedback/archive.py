"""What has been compacted: Parquet files by day, and the manifest that says which of them count.

    manifest.json                               which parts count, and how far each segment is in them
    completions/date=2026-11-25/part-….parquet  by the day (UTC) on which they were given
    votes/date=2026-11-25/part-….parquet        every vote once, replaced ones, too

Parts are never changed; a newer manifest names others in their place.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from rlhf_ray.config import BadInput, Strict, check
from rlhf_ray.data.tables import Row
from rlhf_ray.durable import MANIFEST, appearing, digest, file_digest
from rlhf_ray.feedback.entries import Completion, Entry

_TIME = pa.timestamp("us", tz="UTC")
COMPLETIONS = pa.schema(
    {
        "completion_id": pa.string(),
        "prompt": pa.string(),
        "completion": pa.string(),
        "token_ids": pa.list_(pa.int32()),
        "logprobs": pa.list_(pa.float64()),
        "model_version": pa.string(),
        "model_digest": pa.string(),
        "sampling": pa.string(),  # JSON
        "seed": pa.int64(),
        "arm": pa.string(),
        "pair": pa.string(),
        "score": pa.float64(),
        "time": _TIME,
    }
)
VOTES = pa.schema(
    {
        "vote_id": pa.string(),
        "completion_id": pa.string(),
        "person": pa.string(),
        "label": pa.int8(),
        "comment": pa.string(),
        "score": pa.float64(),
        "probability": pa.float64(),
        "judge": pa.string(),
        "time": _TIME,
    }
)
SCHEMAS = {"completions": COMPLETIONS, "votes": VOTES}
# What makes two rows the same one, sent twice.
KEYS = {"completions": ("completion_id",), "votes": ("vote_id", "person", "completion_id", "label", "comment")}


class Part(Strict):
    """A Parquet file of one table and one day."""

    rows: int
    bytes: int
    sha256: str


class Manifest(Strict):
    """`parts` by their paths in the ledger, `consumed` the byte up to which a segment, by its name, is in them."""

    generation: int = 0
    parts: dict[str, Part] = Field({})
    consumed: dict[str, int] = Field({})

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """An empty one where nothing was compacted yet. Raises BadInput where it is damaged."""
        path = folder / MANIFEST
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        except ValueError:
            raise BadInput(f"{path}: expected JSON, got a damaged file") from None
        return check(cls, values, str(path))

    def write(self, folder: Path) -> None:
        with appearing(folder / MANIFEST) as hidden:
            hidden.touch(mode=0o600)
            hidden.write_text(self.model_dump_json(indent=1), encoding="utf-8")

    def of(self, table: str) -> dict[str, Part]:
        """The parts of a table."""
        return {name: part for name, part in self.parts.items() if table_in(name) == table}


def table_in(name: str) -> str:
    """Of a part's path in the ledger."""
    return name.partition("/")[0]


def table_of(entry: Entry) -> str:
    return f"{entry.kind}s"


def as_row(entry: Entry) -> Row:
    row = entry.model_dump(exclude={"kind"})
    return row | {"sampling": json.dumps(row["sampling"], sort_keys=True)} if "sampling" in row else row


def as_completion(row: Row) -> Completion:
    known = {name: value for name, value in row.items() if value is not None}
    return Completion(**known | {"sampling": json.loads(row["sampling"])})


def key(table: str, row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEYS[table])


def write_part(folder: Path, name: str, rows: list[Row]) -> Part:
    path = folder / name
    with appearing(path) as hidden:
        hidden.touch(mode=0o600)
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMAS[table_in(name)]), hidden, compression="zstd")
        return Part(rows=len(rows), bytes=hidden.stat().st_size, sha256=file_digest(hidden))


def read_parts(
    folder: Path,
    parts: Mapping[str, Part],
    columns: Sequence[str] | None = None,
    ids: Iterable[str] | None = None,
) -> list[Row]:
    """The rows of the parts, or those of the completions `ids`.

    Raises FileNotFoundError where a newer manifest has replaced one, and BadInput where one is damaged.
    """
    wanted = None if ids is None else pc.field("completion_id").isin(pa.array(ids, pa.string()))
    names = None if columns is None else list(columns)
    rows: list[Row] = []
    for name, part in parts.items():
        data = (folder / name).read_bytes()
        if digest(data) != part.sha256:
            raise BadInput(f"{folder / name}: expected the file that was written, got a changed one")
        schema = SCHEMAS[table_in(name)]  # a part may have been written before there was some column
        rows += pq.read_table(pa.BufferReader(data), columns=names, filters=wanted, schema=schema).to_pylist()
    return rows
