"""Where feedback comes from: files, ledgers and hub datasets, as lists of records of whatever form."""

import csv
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import Row
from rlhf_ray.durable import digest, digests, file_digest
from rlhf_ray.feedback.reader import Reader, lot
from rlhf_ray.feedback.segments import is_ledger
from rlhf_ray.feedback.snapshots import is_snapshot, read_snapshot_in, votes_digest

HUB = "hub:"  # hub:<org/name or dataset folder>, and @<split> where it is not train


def read_records(source: str) -> list[Any]:
    """Every record of a source as it stands: keys and values, or what else is found in the place of a row.

    Raises BadInput where the source is missing, damaged, or no kind of file that is read.
    """
    if source.startswith(HUB):
        return _read_hub(source)
    path = Path(source).expanduser()
    if is_kept(source):
        return [_as_thumb(vote) for vote in _votes(path)]
    if path.suffix.lower() not in READERS:
        raise BadInput(
            f"{source}: expected a file that ends in {', '.join(READERS)}, the folder of a ledger or snapshot, or "
            f"{HUB}<dataset>, got another"
        )
    if not path.is_file():
        raise BadInput(f"{source}: expected a file, found none")
    kind, read = READERS[path.suffix.lower()]
    try:
        return read(path)
    except (pa.ArrowException, csv.Error, OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{source}: expected {kind}, got a file that cannot be read ({_first_line(error)})") from None


def is_kept(source: str) -> bool:
    """Whether it is the folder of a ledger or of a snapshot."""
    path = Path(source).expanduser()
    return not source.startswith(HUB) and (is_ledger(path) or is_snapshot(path))


def fingerprints(sources: Iterable[str]) -> dict[str, str]:
    """The digest of each source's content, of a ledger that of its live votes; of a dataset on the hub its name, since
    nobody here knows its files.

    Raises BadInput where a file is missing.
    """
    return {source: _fingerprint(source) for source in sources}


def _fingerprint(source: str) -> str:
    name = source.removeprefix(HUB)
    if name != source:
        folder = Path(name.partition("@")[0]).expanduser()
        return digest(json.dumps([name, digests(folder)], sort_keys=True).encode()) if folder.is_dir() else name
    path = Path(source).expanduser()
    if is_kept(source):
        return votes_digest(_votes(path))
    if not path.is_file():
        raise BadInput(f"{source}: expected a file, found none")
    return file_digest(path)


def _votes(path: Path) -> list[Row]:
    return read_snapshot_in(path) if is_snapshot(path) else Reader(path).dated_votes()


def _as_thumb(vote: Row) -> Row:
    """A thumb with what newcomers.py asks of it; an old snapshot knows no more than the time of the last vote."""
    said = {name: vote[name] for name in ("prompt", "completion", "label")}
    dated = {name: vote.get(name, vote["time"]) for name in ("given", "came")}
    dated |= {"lot": vote.get("lot", lot(vote["person"], vote["completion_id"]))}
    return said | {"rater": vote["person"], "created_at": vote["time"]} | dated


def _read_parquet(path: Path) -> list[Any]:
    return pq.read_table(path).to_pylist()


def _read_jsonl(path: Path) -> list[Any]:
    with _opened(path) as file:
        return [_parsed(line) for line in file if line.strip()]


def _parsed(line: str) -> Any:
    """A line that is no JSON stays a text: it is its row that is bad, not the file."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return line


def _read_json(path: Path) -> list[Any]:
    with _opened(path) as file:
        records = json.load(file)
    if not isinstance(records, list):
        raise ValueError(f"a list of rows is wanted, not {type(records).__name__}")
    return records


def _read_csv(path: Path) -> list[Any]:
    csv.field_size_limit(sys.maxsize)  # how long a text may be is judged row by row
    with _opened(path, newline="") as file:
        rows = csv.DictReader(file, strict=True)
        columns = rows.fieldnames or []
        if len(set(columns)) < len(columns):
            raise ValueError("a column stands in it twice")
        return list(rows)


def _read_hub(source: str) -> list[Any]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    name, _, split = source.removeprefix(HUB).partition("@")
    try:
        return load_dataset(str(Path(name).expanduser()), split=split or "train").to_list()
    except (DatasetsError, pa.ArrowException, OSError, ValueError, RuntimeError) as error:  # the last: a script in it
        raise BadInput(f"{source}: expected a dataset that loads, got: {_first_line(error)}") from None


def _opened(path: Path, newline: str | None = None) -> TextIO:
    """Bytes that are no UTF-8 spoil their row, not the file."""
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


READERS: dict[str, tuple[str, Callable[[Path], list[Any]]]] = {
    ".parquet": ("Parquet", _read_parquet),
    ".jsonl": ("a JSON object a line", _read_jsonl),
    ".json": ("a JSON list of rows", _read_json),
    ".csv": ("comma-separated values with a line of column names", _read_csv),
}
