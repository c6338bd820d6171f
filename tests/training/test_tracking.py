"""What a run writes down stays, step by step, and a run that goes on continues it without a gap or a double."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rlhf_ray.config import BadInput
from rlhf_ray.experience import ScoredRollout
from rlhf_ray.training.tracking import Tracker

REWARDS = {"reward/taste": 0.375, "reward/brevity": 0.125}  # the means of what is scored here


@pytest.fixture
def track(tmp_path: Path, tokenizer: Any, scored: ScoredRollout) -> Callable:
    def track(*steps: int, after: int = 0, finish: bool = False) -> list[dict[str, float]]:
        """Write these steps down; gives the history that is then known."""
        with Tracker(tmp_path, tmp_path / "scratch" / "rollouts", tokenizer, ["taste", "brevity"], after) as tracker:
            for step in steps:
                tracker.record(step, scored, {"value": step / 10})
            if finish:
                tracker.finish()
            return tracker.history

    return track


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_step_is_a_line_and_a_part(track: Callable, tmp_path: Path) -> None:
    assert track(1, 2, 3) == [{"value": value} | REWARDS for value in (0.1, 0.2, 0.3)]
    assert lines(tmp_path) == [{"step": step, "value": step / 10} | REWARDS for step in (1, 2, 3)]
    assert len(list((tmp_path / "scratch" / "rollouts").glob("*.parquet"))) == 3


def test_a_run_that_goes_on_keeps_what_was_before_and_drops_what_it_does_again(track: Callable, tmp_path: Path) -> None:
    track(1, 2, 3, 4, 5)
    assert track(4, after=3) == [{"value": value} | REWARDS for value in (0.1, 0.2, 0.3, 0.4)]
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]
    track(5, 6, after=4, finish=True)
    table = pq.read_table(tmp_path / "rollouts.parquet").to_pylist()
    assert [row["step"] for row in table] == [step for step in range(1, 7) for _ in range(2)]
    assert [row["sample"] for row in table] == [0, 1] * 6


def test_a_run_that_begins_anew_forgets_everything(track: Callable, tmp_path: Path) -> None:
    track(1, 2, 3)
    track(1, finish=True)
    assert [line["step"] for line in lines(tmp_path)] == [1]
    assert len(pq.read_table(tmp_path / "rollouts.parquet")) == 2


def test_a_rollout_is_written_with_its_tokens_and_with_every_reward_by_name(track: Callable, tmp_path: Path) -> None:
    track(1, finish=True)
    one, other = pq.read_table(tmp_path / "rollouts.parquet").to_pylist()
    assert (one["response_ids"], other["response_ids"]) == ([20, 21, 0], [22, 23])
    assert (one["logprobs"], other["logprobs"]) == ([0.0] * 3, [0.0] * 2)
    assert (one["reward/taste"], one["reward/brevity"], one["score"]) == (0.25, 0.75, 0.5)
    assert (other["reward/taste"], other["reward/brevity"], other["score"]) == (0.5, -0.5, -0.5)


def test_finishing_again_changes_nothing(track: Callable, tmp_path: Path) -> None:
    track(1, 2, finish=True)
    before = (tmp_path / "rollouts.parquet").read_bytes()
    track(after=2, finish=True)
    assert (tmp_path / "rollouts.parquet").read_bytes() == before


def test_rollouts_that_are_gone_are_missed(track: Callable, tmp_path: Path) -> None:
    track(1, 2, 3)
    (tmp_path / "scratch" / "rollouts" / "step-000002.parquet").unlink()
    with pytest.raises(BadInput, match=r"rollouts: expected the 3 steps of the newest checkpoint, got 2"):
        track(after=3)


def test_a_record_that_is_shorter_than_its_checkpoint_is_an_error(track: Callable) -> None:
    track(1, 2)
    with pytest.raises(BadInput, match=r"metrics.jsonl: expected the 5 steps of the newest checkpoint, got 2"):
        track(after=5)
