"""What a reward model is measured on is read as it lies there."""

from pathlib import Path
from typing import Any

from rlhf_ray.data.tables import write_table
from rlhf_ray.feedback.heldout import Heldout, read_heldout

THUMB = {"prompt": "a", "completion": "b", "label": True}
PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}


def test_a_table_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    assert read_heldout(tmp_path) == Heldout([], [], [])


def test_kinds_are_read_where_there_are_any(tmp_path: Path) -> None:
    for row in (THUMB, THUMB | {"kind": "good"}):
        write_table(tmp_path / "heldout.parquet", [row | {"more": 1}])
        write_table(tmp_path / "heldout_pairs.parquet", [PAIR])
        write_table(tmp_path / "probes.parquet", [PAIR | {"probe": "made_up"}])
        assert read_heldout(tmp_path) == Heldout([row], [PAIR], [{"probe": "made_up"} | PAIR])


def test_a_probe_that_is_too_long_to_read_is_left_out(tokenizer: Any) -> None:
    long = PAIR | {"rejected": "the quick brown fox " * 20}
    heldout = Heldout([THUMB], [], [PAIR, long, PAIR])
    assert heldout.fitting(tokenizer, 16) == Heldout([THUMB], [], [PAIR, PAIR])
