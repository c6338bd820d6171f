"""Compaction changes where entries lie and nothing else, wherever it is killed."""

import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_ray.config import BadInput
from rlhf_ray.feedback.archive import Manifest
from rlhf_ray.feedback.compaction import _alone, compact
from rlhf_ray.feedback.ledger import Ledger
from rlhf_ray.feedback.reader import Reader
from rlhf_ray.feedback.segments import segments

from .conftest import NOON, completion, vote

OPERATIONS = ("replace", "rename", "unlink", "fsync", "mkdir", "open")


class Killed(BaseException):
    """No code of the product catches it."""


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> None:
    """Let the process die at its `step`-th file operation. Who is dead does nothing more, no tidying up either."""
    left = [step]

    def dying(operation: Callable[..., Any]) -> Callable[..., Any]:
        def perform(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0 or (left[0] == 0 and not after):
                raise Killed
            done = operation(*arguments, **named)
            if left[0] == 0:
                raise Killed
            return done

        return perform

    for name in OPERATIONS:
        real = (lambda file: None) if name == "fsync" else getattr(os, name)  # a killed process leaves the page cache
        monkeypatch.setattr(os, name, dying(real))


def contents(folder: Path) -> tuple[list[Any], list[Any], dict[str, Any]]:
    reader = Reader(folder)
    return reader.votes(), reader.live_votes(), reader.completions([f"c{number}" for number in range(9)])


def filled(folder: Path) -> Path:
    """Something compacted, something sealed that repeats it, and two days."""
    for begin in (0, 2):
        with Ledger.open(folder, "r0") as ledger:
            ledger.append_all(completion(number) for number in range(begin, begin + 3))
            ledger.append_all(vote(number, seconds=40_000 * number - begin) for number in range(begin, begin + 3))
        if not begin:
            compact(folder)
    return folder


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_file_operation_nothing_is_lost_or_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    step, died, whole = 0, True, filled(tmp_path / "whole")
    before = contents(whole)
    monkeypatch.setattr(os, "fsync", lambda file: None)
    while died:
        step += 1
        folder = tmp_path / f"{step}"
        shutil.copytree(whole, folder)
        with pytest.MonkeyPatch.context() as patch:
            kill_at(step, patch, after=after)
            try:
                compact(folder)
                died = False
            except Killed:
                pass
        assert contents(folder) == before
        compact(folder)
        assert contents(folder) == before
        assert_only_what_the_manifest_names(folder)
    assert step > 20


def assert_only_what_the_manifest_names(folder: Path) -> None:
    manifest = Manifest.read(folder)
    found = {str(path.relative_to(folder)) for path in folder.rglob("date=*/*")}
    assert found == set(manifest.parts)
    assert not segments(folder)
    for table, identity in (("votes", "vote_id"), ("completions", "completion_id")):
        seen = [name for part in manifest.of(table) for name in pq.read_table(folder / part)[identity].to_pylist()]
        assert len(seen) == len(set(seen)) > 0


def test_a_day_is_a_partition_and_a_small_part_takes_up_the_next_rows(ledger: Ledger, folder: Path) -> None:
    for number, day in enumerate((0, 0, 1)):
        ledger.append(vote(number, person=str(number), time=NOON + timedelta(days=day)))
        compact(folder)
    votes = Manifest.read(folder).of("votes")
    assert sorted(part.split("/")[1] for part in votes) == ["date=2026-11-25", "date=2026-11-26"]
    assert sorted(Manifest.read(folder).parts[part].rows for part in votes) == [1, 2]


def test_a_segment_that_is_written_is_compacted_and_stays(ledger: Ledger, folder: Path) -> None:
    ledger.append(vote(1))
    first = compact(folder)
    assert first and first.consumed == {path.name: path.stat().st_size for path in segments(folder)}
    ledger.append(vote(2, person="bob"))
    assert [row["vote_id"] for row in ledger.live_votes()] == ["v1", "v2"]
    ledger.close()
    compact(folder)
    assert not segments(folder)
    assert [row["vote_id"] for row in Reader(folder).live_votes()] == ["v1", "v2"]


def test_one_compactor_at_a_time(ledger: Ledger, folder: Path) -> None:
    with _alone(folder) as first:
        assert first
        assert compact(folder) is None
    assert compact(folder) is not None


def test_without_news_nothing_is_written(folder: Path) -> None:
    filled(folder)
    compact(folder)
    settled = compact(folder)
    assert compact(folder) == settled


def test_a_damaged_part_is_named(folder: Path) -> None:
    filled(folder)
    compact(folder)
    part = folder / next(iter(Manifest.read(folder).of("votes")))
    damaged = bytearray(part.read_bytes())
    for place in range(0, len(damaged), 101):
        damaged[place] ^= 1
        part.write_bytes(damaged)
        with pytest.raises(BadInput, match=r"part-.*: expected the file that was written"):
            Reader(folder).votes()
        damaged[place] ^= 1


def test_a_folder_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected the folder of a ledger"):
        compact(tmp_path)


ACTIONS = st.lists(
    st.one_of(
        st.just("compact"),
        st.builds(
            vote,
            st.integers(0, 3),
            seconds=st.sampled_from([0, 1, 2, 90_000]),
            person=st.sampled_from(["ada", "bob"]),
            completion_id=st.sampled_from(["c0", "c1"]),
            label=st.sampled_from([1, -1]),
        ),
    ),
    max_size=20,
)


@given(ACTIONS, st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_whoever_wrote_and_whenever_it_was_compacted_the_last_wins(actions: list[Any], chance: Any) -> None:
    votes = [action for action in actions if action != "compact"]
    expected: dict[tuple[str, str], tuple[Any, ...]] = {}
    first: dict[tuple[Any, ...], Any] = {}
    for said in votes:
        name = (said.vote_id, said.person, said.completion_id, said.label)
        first[name] = min(first.get(name, said.time), said.time)
    for (vote_id, person, about, label), time in first.items():
        order = (time, vote_id, person, about, str(label))
        expected[person, about] = max(expected.get((person, about), order), order)
    with TemporaryDirectory() as place:
        folder = Path(place) / "ledger"
        with Ledger.open(folder, "a") as one, Ledger.open(folder, "b") as other:
            one.append_all([completion(0), completion(1)])
            for action in actions:
                if action == "compact":
                    compact(folder)
                else:
                    chance.choice([one, other]).append(action)
            live = {
                (row["person"], row["completion_id"]): (
                    row["time"],
                    row["vote_id"],
                    row["person"],
                    row["completion_id"],
                    str(row["label"]),
                )
                for row in one.live_votes()
            }
            assert live == expected
            assert len(one._reader.votes()) == len(first)
