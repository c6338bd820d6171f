"""Tokenizers that can read any text, and files as people bring them."""

import csv
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="session")
def plain_tokenizer() -> Any:
    """The shipped base's: it has no chat template."""
    from rlhf_ray.models.loading import load_tokenizer

    return load_tokenizer("shipped")


@pytest.fixture(scope="session")
def chat_tokenizer(plain_tokenizer: Any) -> Any:
    tokenizer = deepcopy(plain_tokenizer)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes records in the form that the file's ending names, and gives its path."""

    def write(records: list[Any], name: str = "feedback.jsonl") -> str:
        path = tmp_path / name
        WRITERS[path.suffix](path, records)
        return str(path)

    return write


def _write_csv(path: Path, records: list[dict]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, list(records[0]))
        rows.writeheader()
        rows.writerows(records)


WRITERS = {
    ".jsonl": lambda path, records: path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8"),
    ".json": lambda path, records: path.write_text(json.dumps(records), encoding="utf-8"),
    ".parquet": lambda path, records: pq.write_table(pa.Table.from_pylist(records), path),
    ".csv": _write_csv,
}
