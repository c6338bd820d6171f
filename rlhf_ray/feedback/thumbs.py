"""The record of a thumb, and the door through which thumbs come in."""

from pathlib import Path

from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import Row, read_table

COLUMNS = ("prompt", "completion", "label")  # TRL's names for unpaired preferences


def read_thumbs(path: Path) -> list[Row]:
    """Thumbs from Parquet. Raises BadInput, naming row and column, and where all labels are the same."""
    rows = read_table(path, COLUMNS)
    for number, row in enumerate(rows):
        for column, kind in (("prompt", str), ("completion", str), ("label", bool)):
            if not isinstance(row[column], kind):
                raise BadInput(f"{path}: row {number}: {column}: expected {kind.__name__}, got {row[column]!r}")
        if not row["prompt"]:  # a completion may be empty: a model that said nothing deserves its thumb, too
            raise BadInput(f"{path}: row {number}: prompt: expected a text, got an empty one")
    ups = sum(row["label"] for row in rows)
    if not 0 < ups < len(rows):
        raise BadInput(
            f"{path}: label: expected both thumbs up and thumbs down, got {ups} up and {len(rows) - ups} down"
        )
    return rows
