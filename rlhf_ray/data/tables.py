"""Parquet files with a known set of columns."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_ray.config import BadInput

Row = dict[str, Any]


def write_table(path: Path, rows: list[Row], columns: dict[str, pa.DataType] | None = None) -> None:
    """The rows as Parquet; `columns`, where given, have these types also where there are no rows."""
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(columns) if columns else None), path)


def read_table(path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()) -> list[Row]:
    """The rows of a Parquet file, with the optional columns that it has.

    Raises BadInput where it is missing, damaged or lacks one of the others.
    """
    if not path.is_file():
        raise BadInput(f"{path}: expected a Parquet file, found none")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(
            f"{path}: expected a Parquet file, got one that cannot be read ({str(error).splitlines()[0]})"
        ) from None
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise BadInput(f"{path}: expected the column {missing[0]!r}, got {', '.join(table.column_names)}")
    return table.select([*columns, *(column for column in optional if column in table.column_names)]).to_pylist()


def read_if_there(path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()) -> list[Row]:
    """The rows of a table that a stage leaves only where there is something to put into it."""
    return read_table(path, columns, optional) if path.is_file() else []
