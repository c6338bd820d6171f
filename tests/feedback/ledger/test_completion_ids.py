"""Only what this server gave can be voted on, and for a day only."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from rlhf_ray.config import BadInput
from rlhf_ray.feedback.completion_ids import CompletionIds, Expired, Forged, check_age
from rlhf_ray.feedback.secret import read_secret

from .conftest import NOON

IDS = CompletionIds(b"s" * 32)


def test_a_name_follows_from_its_parts_and_differs_with_each() -> None:
    name = IDS.name("mark", "digest", 0, 1)
    assert name == IDS.name("mark", "digest", 0, 1)
    others = [("mark", "digest", 1, 0), ("mark", "digest", 0), ("mar", "kdigest", 0, 1), ("mark", "digest", "0", 1)]
    names = {IDS.name(*parts) for parts in others} | {CompletionIds(bytes(32)).name("mark", "digest", 0, 1)}
    assert name not in names
    assert len(names) == len(others) + 1


def test_a_completion_can_be_voted_on_for_a_day() -> None:
    check_age(NOON, NOON + timedelta(hours=24))
    with pytest.raises(Expired):
        check_age(NOON, NOON + timedelta(hours=24, milliseconds=1))


def test_every_changed_character_is_noticed() -> None:
    name = IDS.name("mark")
    IDS.check(name)
    for place, character in enumerate(name):
        for other in "0f\n🙂":
            if other != character:
                with pytest.raises(Forged):
                    IDS.check(name[:place] + other + name[place + 1 :])
    for wrong in ("", name[:-1], name + "0", name.upper(), CompletionIds(bytes(32)).name("mark")):
        with pytest.raises(Forged):
            IDS.check(wrong)


def test_replicas_that_begin_together_share_a_secret_that_nobody_else_reads(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: read_secret(tmp_path), range(8)))
    assert len(found) == 1
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_damaged_secret_is_said(tmp_path: Path) -> None:
    (tmp_path / ".secret").write_bytes(b"short")
    with pytest.raises(BadInput, match="expected 32 bytes, got 5"):
        read_secret(tmp_path)
