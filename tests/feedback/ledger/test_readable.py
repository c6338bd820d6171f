"""Others read a ledger, too: the recipes of docs/ledger.md."""

from pathlib import Path

import datasets
import duckdb
import pytest

from rlhf_ray.feedback.compaction import compact
from rlhf_ray.feedback.ledger import Ledger

from .conftest import vote

DOCS = Path(__file__).parents[3] / "docs" / "ledger.md"


@pytest.fixture
def voted(ledger: Ledger) -> Ledger:
    ledger.append_all([vote(1), vote(2, seconds=5, label=-1), vote(3, person="bob", seconds=90_000)])
    compact(ledger.folder)
    return ledger


def test_datasets_reads_the_tables(voted: Ledger) -> None:
    votes = datasets.load_dataset(
        "parquet",
        data_files=str(voted.folder / "votes" / "*" / "*.parquet"),
        split="train",
        cache_dir=str(voted.folder.parent / "cache"),
    )
    assert sorted(votes["vote_id"]) == ["v1", "v2", "v3"]
    assert {row["time"].date().isoformat() for row in votes} == {"2026-11-25", "2026-11-26"}


def test_duckdb_says_the_same_of_live_votes(voted: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    query = DOCS.read_text(encoding="utf-8").split("```sql\n")[1].split("```")[0]
    monkeypatch.chdir(voted.folder.parent)
    with duckdb.connect() as connection:
        found = connection.sql(query).fetchall()
    assert sorted(found) == sorted((row["person"], row["label"], row["prompt"]) for row in voted.live_votes())
