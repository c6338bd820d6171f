"""The records of thumbs and pairs, and the door through which they come to the training."""

from pathlib import Path

from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import Row, read_table

COLUMNS = ("prompt", "completion", "label")  # TRL's names for unpaired preferences
PAIR_COLUMNS = ("prompt", "chosen", "rejected")  # TRL's names for preferences with an explicit prompt


def read_thumbs(path: Path) -> list[Row]:
    """Thumbs from Parquet, with their raters where they have any. Raises BadInput, naming row and column."""
    rows = read_table(path, COLUMNS, ("rater",))
    for number, row in enumerate(rows):
        for column, kind in (("prompt", str), ("completion", str), ("label", bool)):
            if not isinstance(row[column], kind):
                raise BadInput(f"{path}: row {number}: {column}: expected {kind.__name__}, got {row[column]!r}")
        if not row["prompt"]:  # a completion may be empty: a model that said nothing deserves its thumb, too
            raise BadInput(f"{path}: row {number}: prompt: expected a text, got an empty one")
    return rows


def good_examples(thumbs: list[Row], pairs: list[Row]) -> list[Row]:
    """What people liked or chose, `prompt, completion`, each once."""
    liked = [(row["prompt"], row["completion"]) for row in thumbs if row["label"]]
    chosen = [(row["prompt"], row["chosen"]) for row in pairs]
    return [{"prompt": prompt, "completion": said} for prompt, said in dict.fromkeys(liked + chosen)]
