"""What a reward model is measured on is read as it lies there."""

from pathlib import Path
from typing import Any

import pytest

from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import write_table
from rlhf_ray.feedback.heldout import Heldout, read_heldout

THUMB = {"prompt": "a", "completion": "b", "label": True}
LONG = "the quick brown fox " * 20
PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}


def test_a_table_that_is_not_there_has_no_rows(tmp_path: Path, tokenizer: Any) -> None:
    assert read_heldout(tmp_path, tokenizer, 16) == Heldout([], [], [])


def test_kinds_are_read_where_there_are_any(tmp_path: Path, tokenizer: Any) -> None:
    for row in (THUMB, THUMB | {"kind": "good"}):
        write_table(tmp_path / "heldout.parquet", [row | {"more": 1}])
        write_table(tmp_path / "heldout_pairs.parquet", [PAIR])
        write_table(tmp_path / "probes.parquet", [PAIR | {"probe": "made_up"}])
        assert read_heldout(tmp_path, tokenizer, 16) == Heldout([row], [PAIR], [{"probe": "made_up"} | PAIR])


def test_a_probe_that_is_too_long_to_read_is_left_out(tmp_path: Path, tokenizer: Any) -> None:
    probe = {"probe": "made_up"} | PAIR
    write_table(tmp_path / "probes.parquet", [probe, probe | {"rejected": LONG}, probe])
    assert read_heldout(tmp_path, tokenizer, 16).probes == [probe, probe]


def test_a_thumb_that_is_too_long_to_read_is_a_mistake(tmp_path: Path, tokenizer: Any) -> None:
    write_table(tmp_path / "heldout.parquet", [THUMB | {"completion": LONG}])
    with pytest.raises(BadInput, match="completion: expected at most 16 tokens"):
        read_heldout(tmp_path, tokenizer, 16)
