"""A snapshot says the same for ever, and notices when it does not."""

from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rlhf_ray.config import BadInput
from rlhf_ray.durable import publish
from rlhf_ray.feedback.compaction import compact
from rlhf_ray.feedback.data import Data
from rlhf_ray.feedback.ledger import Ledger
from rlhf_ray.feedback.reader import Reader
from rlhf_ray.feedback.snapshots import DATED, read_snapshot, snapshot
from rlhf_ray.feedback.sources import read_records

from .conftest import NOON, vote


def test_a_snapshot_is_the_live_votes_of_its_moment(ledger: Ledger, folder: Path) -> None:
    ledger.append_all([vote(1), vote(2, seconds=1, label=-1), vote(3, person="bob")])
    votes, pinned = Reader(folder).dated_votes(), snapshot(folder)
    ledger.append(vote(4, person="eve"))
    assert read_snapshot(folder, pinned) == votes
    assert snapshot(folder) != pinned


def test_equal_votes_have_one_digest_wherever_they_lie(ledger: Ledger, folder: Path, tmp_path: Path) -> None:
    ledger.append_all([vote(1), vote(2, person="bob")])
    pinned = snapshot(folder)
    compact(folder)
    ledger.append(vote(1, seconds=9))  # sent again
    assert snapshot(folder) == pinned
    assert [path.name for path in (folder / "snapshots").iterdir()] == [pinned]


def test_of_an_old_snapshot_nobody_knows_more_than_when_each_voted_last(
    ledger: Ledger, folder: Path, tmp_path: Path
) -> None:
    ledger.append_all([vote(1), vote(2, seconds=1, label=-1)])
    place = folder / "snapshots" / snapshot(folder)
    assert [row["came"] for row in read_records(str(place))] == [NOON]
    old = tmp_path / "old"
    old.mkdir()
    pq.write_table(pq.read_table(place / "votes.parquet").drop_columns(list(DATED)), old / "votes.parquet")
    publish(old, place, {"format": "ledger snapshot 1", "digest": place.name})
    assert [row["came"] for row in read_records(str(place))] == [NOON + timedelta(seconds=1)]


def test_nothing_has_a_snapshot_too(ledger: Ledger, folder: Path) -> None:
    assert read_snapshot(folder, snapshot(folder)) == []


@pytest.mark.parametrize("name", ["votes.parquet", "manifest.json"])
def test_every_changed_byte_is_noticed(ledger: Ledger, folder: Path, name: str) -> None:
    ledger.append(vote(1))
    pinned = snapshot(folder)
    votes, path = read_snapshot(folder, pinned), folder / "snapshots" / pinned / name
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            assert read_snapshot(folder, pinned) == votes  # of facts that say nothing of the votes, such as the time
            assert name == "manifest.json"
        except BadInput:
            pass
    path.write_bytes(whole)
    assert read_snapshot(folder, pinned) == votes


def test_a_damaged_snapshot_is_made_again(ledger: Ledger, folder: Path) -> None:
    ledger.append(vote(1))
    pinned = snapshot(folder)
    (folder / "snapshots" / pinned / "votes.parquet").write_bytes(b"")
    with pytest.raises(BadInput, match="expected the files that the manifest names"):
        read_snapshot(folder, pinned)
    assert snapshot(folder) == pinned
    assert len(read_snapshot(folder, pinned)) == 1


@pytest.mark.parametrize("digest", ["", "../x", "ab", "A" * 64])
def test_a_digest_is_no_path(ledger: Ledger, folder: Path, digest: str) -> None:
    with pytest.raises(BadInput, match="digest: expected 64 hexadecimal digits"):
        read_snapshot(folder, digest)


def test_a_run_begins_again_when_votes_change_and_not_when_they_are_compacted(ledger: Ledger, folder: Path) -> None:
    data = Data(feedback=[str(folder)])
    ledger.append(vote(1))
    first = data.fingerprints
    compact(folder)
    assert data.fingerprints == first
    ledger.append(vote(2, seconds=1, label=-1))
    assert data.fingerprints != first
