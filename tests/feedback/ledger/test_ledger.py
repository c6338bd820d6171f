"""What was acknowledged is read back, once, and the last vote of a person counts."""

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlhf_ray.config import BadInput
from rlhf_ray.feedback.compaction import compact
from rlhf_ray.feedback.ledger import Ledger, LedgerClosed
from rlhf_ray.feedback.reader import Reader
from rlhf_ray.feedback.segments import framed, frames, segments

from .conftest import completion, vote


def test_what_was_appended_is_read_back_to_the_bit(ledger: Ledger, folder: Path) -> None:
    for _ in range(2):  # from a segment, then from Parquet
        assert ledger.completion("c2") == completion(2)
        assert Reader(folder).completions(["c1", "c3", "no"]) == {"c1": completion(1), "c3": completion(3)}
        assert ledger.completion("no") is None
        compact(folder)


def test_the_last_vote_of_a_person_counts_and_the_others_stay(ledger: Ledger) -> None:
    ledger.append(vote(1, seconds=1, label=1))
    ledger.append(vote(2, seconds=3, label=-1, comment="on reflection"))
    ledger.append(vote(3, seconds=2, label=1))  # was late
    ledger.append(vote(4, seconds=1, person="bob"))
    live = {row["person"]: row for row in ledger.live_votes()}
    assert (live["ada"]["label"], live["ada"]["comment"]) == (-1, "on reflection")
    assert live["ada"]["completion"] == completion(0).completion
    assert [row["vote_id"] for row in ledger.live_votes("bob")] == ["v4"]
    assert [(row["vote_id"], row["live"]) for row in ledger.history("ada")] == [
        ("v1", False),
        ("v3", False),
        ("v2", True),
    ]


def test_a_vote_that_is_sent_again_counts_once_and_keeps_its_first_time(ledger: Ledger, folder: Path) -> None:
    first, changed = vote(1, seconds=1), vote(2, seconds=2, label=-1)
    ledger.append_all([first, changed, vote(1, seconds=3)])  # the client never heard of the first, and asks again
    assert [row["vote_id"] for row in ledger.history("ada")] == ["v1", "v2"]
    assert ledger.live_votes()[0]["label"] == -1
    compact(folder)
    ledger.append(vote(1, seconds=0.5))  # of another replica, whose segment is read later
    compact(folder)
    assert [(row["vote_id"], row["time"]) for row in ledger.history("ada")] == [
        ("v1", vote(1, seconds=0.5).time),
        ("v2", changed.time),
    ]


def test_a_key_that_is_used_for_another_vote_loses_neither(ledger: Ledger) -> None:
    ledger.append_all([vote(1), vote(1, completion_id="c1"), vote(1, person="bob", label=-1)])
    assert len(ledger.live_votes()) == 3


def test_votes_on_completions_that_are_not_here_are_no_live_votes(ledger: Ledger) -> None:
    ledger.append(vote(1, completion_id="elsewhere"))
    assert ledger.live_votes() == []


def test_replicas_read_each_other(ledger: Ledger, folder: Path) -> None:
    with Ledger.open(folder, "r1") as other:
        assert other.completion("c0") == completion(0)
        other.append(vote(1))
        other.append(completion(9))
        assert ledger.completion("c9") == completion(9)
    assert [row["vote_id"] for row in ledger.live_votes()] == ["v1"]


def test_many_threads_and_tasks_append_at_once(ledger: Ledger) -> None:
    async def tasks() -> None:
        await asyncio.gather(*(ledger.aappend(vote(number, person=f"p{number}")) for number in range(100)))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: ledger.append(vote(number, person=f"p{number}")), range(100, 200)))
    asyncio.run(tasks())
    assert {row["vote_id"] for row in ledger.live_votes()} == {f"v{number}" for number in range(200)}


def test_an_acknowledged_entry_has_been_synced(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, sync = [], os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: synced.append(os.fstat(file).st_size) or sync(file))
    ledger.append(vote(1))
    assert synced == [sum(path.stat().st_size for path in segments(ledger.folder))]


def test_short_writes_are_continued(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data[:7])))
    ledger.append(vote(1))
    monkeypatch.undo()
    assert [row["vote_id"] for row in ledger.live_votes()] == ["v1"]


def test_after_a_failed_sync_nothing_is_acknowledged_and_a_new_segment_begins(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="Input/output"):
        ledger.append(vote(1))
    monkeypatch.undo()
    ledger.append(vote(2, seconds=1, label=-1))
    assert len(segments(ledger.folder)) == 2
    assert ledger.live_votes()[0]["label"] == -1


def test_a_closed_ledger_says_so(folder: Path) -> None:
    opened = Ledger.open(folder, "r0")
    opened.close()
    opened.close()
    with pytest.raises(LedgerClosed, match="closed"):
        opened.append(vote(1))


def test_a_cancelled_task_leaves_the_ledger_at_work(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, free = os.fdatasync, threading.Event()

    def wait(file: int) -> None:
        free.wait(20)
        sync(file)

    async def hang_up() -> None:
        task = asyncio.create_task(ledger.aappend(vote(1)))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        free.set()
        await ledger.aappend(vote(2))

    monkeypatch.setattr(os, "fdatasync", wait)
    asyncio.run(hang_up())
    assert {row["vote_id"] for row in ledger.history("ada")} == {"v1", "v2"}


@pytest.mark.parametrize("replica", ["", "../r", "R", "a/b", "a" * 65, ".r"])
def test_a_replica_names_a_file(folder: Path, replica: str) -> None:
    with pytest.raises(BadInput, match="replica: expected a name"):
        Ledger.open(folder, replica)


def test_nobody_else_can_read_it(ledger: Ledger, folder: Path) -> None:
    ledger.append(vote(1))
    compact(folder)
    for path in [folder, *folder.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_last_entry_cut_at_any_byte_is_as_if_it_had_never_been(folder: Path) -> None:
    with Ledger.open(folder, "r0") as opened:
        opened.append_all([completion(0), vote(1), vote(2, person="bob")])
    (path,) = segments(folder)
    whole = path.read_bytes()
    begin = len(whole) - len(framed(vote(2, person="bob")))
    for cut in range(begin, len(whole)):
        path.write_bytes(whole[:cut])
        assert [row["vote_id"] for row in Reader(folder).votes()] == ["v1"]
        if cut % 16 == 0:
            with Ledger.open(folder, "r0") as again:
                assert path.stat().st_size == begin
                again.append(vote(cut + 100, person="bob"))
                assert [row["vote_id"] for row in again.live_votes()] == ["v1", f"v{cut + 100}"]
            for later in segments(folder)[1:]:
                later.unlink()


def test_replicas_of_one_name_leave_each_others_segments_alone_while_they_are_written(folder: Path) -> None:
    with Ledger.open(folder, "doors") as first:
        first.append(completion(1))
        segment = first._segment
        assert segment
        torn = framed(completion(2))
        os.write(segment._file, torn[:-7])  # in the middle of an append
        with Ledger.open(folder, "doors") as second:
            second.append(completion(3))
            compact(folder)
            os.write(segment._file, torn[-7:])
            first.append(completion(4))
            names = {"c1", "c2", "c3", "c4"}
            assert Reader(folder).completions(names).keys() == names
        os.write(segment._file, torn[:-7])  # and now it dies
        kept = segment.path.stat().st_size - len(torn[:-7])
    Ledger.open(folder, "doors").close()
    assert segment.path.stat().st_size == kept
    assert Reader(folder).completions(names).keys() == names


def test_a_flipped_bit_costs_its_entry_and_no_other() -> None:
    entries = [framed(vote(number)) for number in range(3)]
    whole = [frame.data for frame in frames(b"".join(entries))]
    for bit in range(8 * len(entries[1])):
        changed = bytearray(entries[1])
        changed[bit // 8] ^= 1 << bit % 8
        assert [frame.data for frame in frames(entries[0] + changed + entries[2])] == [whole[0], whole[2]]


def test_a_lost_block_of_zeros_is_no_entry() -> None:
    assert list(frames(b"\xff\xfeRL" + bytes(100))) == []


FILLS_THE_DISK = """
import resource, sys
from pathlib import Path
from rlhf_ray.feedback.ledger import Ledger, LedgerFull
from tests.feedback.ledger.conftest import completion, vote

def limit(soft):
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))

number = 0
with Ledger.open(Path(sys.argv[1]), "r0") as ledger:
    ledger.append(completion(0))
    for soft in (5_000, 3_001, 0, 0):
        limit(soft)
        try:
            while True:
                number += 1
                ledger.append(vote(number, person=str(number)))
                print(number)
        except LedgerFull as full:
            print(full, file=sys.stderr)
    limit(resource.RLIM_INFINITY)
    ledger.append(vote(1000, person="later"))
    print(1000)
"""


def test_on_a_full_disk_nothing_is_acknowledged_and_afterwards_it_goes_on(folder: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FILLS_THE_DISK, folder], capture_output=True, text=True, timeout=120, check=True
    )
    kept = [row["vote_id"] for row in Reader(folder).votes()]
    acknowledged = {f"v{number}" for number in ended.stdout.split()}
    assert ended.stderr.count(f"{folder}: expected room on the disk, got File too large") == 4
    assert len(acknowledged) > 10 and "v1000" in acknowledged
    assert acknowledged <= set(kept) and len(kept) == len(set(kept))
    assert len(segments(folder)) <= 4  # a write that took nothing needs no new segment
