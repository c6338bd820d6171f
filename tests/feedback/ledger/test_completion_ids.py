"""Only what this server gave can be voted on, and for a day only."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from rlhf_ray.feedback.completion_ids import CompletionIds, Expired, Forged

from .conftest import NOON


def test_a_minted_id_holds_for_a_day(tmp_path: Path) -> None:
    ids = CompletionIds.open(tmp_path)
    name = ids.mint(NOON)
    ids.check(name, NOON)
    CompletionIds.open(tmp_path).check(name, NOON + timedelta(hours=24))
    with pytest.raises(Expired):
        ids.check(name, NOON + timedelta(hours=24, milliseconds=1))


def test_every_changed_character_is_noticed(tmp_path: Path) -> None:
    ids = CompletionIds.open(tmp_path)
    name = ids.mint(NOON)
    for place, character in enumerate(name):
        for other in "0f\n🙂":
            if other != character:
                with pytest.raises(Forged):
                    ids.check(name[:place] + other + name[place + 1 :], NOON)
    for wrong in ("", name[:-1], name + "0", name.upper(), CompletionIds(bytes(32)).mint(NOON)):
        with pytest.raises(Forged):
            ids.check(wrong, NOON)


def test_replicas_that_begin_together_share_a_secret_that_nobody_else_reads(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: CompletionIds.open(tmp_path), range(8)))
    name = ids[0].mint(NOON)
    for one in ids:
        one.check(name, NOON)
    (secret,) = tmp_path.iterdir()
    assert secret.stat().st_mode & 0o777 == 0o600


def test_ids_do_not_repeat(tmp_path: Path) -> None:
    ids = CompletionIds.open(tmp_path)
    assert len({ids.mint(NOON) for _ in range(1000)}) == 1000
