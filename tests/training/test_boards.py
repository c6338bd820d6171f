"""Boards hear every step of a run, also one that goes on, and what is not there is said in one line."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlhf_ray.config import BadInput
from rlhf_ray.experience import Metrics, ScoredRollout
from rlhf_ray.training import boards
from rlhf_ray.training.boards import open_boards
from rlhf_ray.training.tracking import Tracker
from tests.environments import environment

ROOT = Path(__file__).parent.parent.parent


class Remembering:
    """A board that keeps what it is shown."""

    def __init__(self, key: str, folder: Path, settings: dict[str, Any]) -> None:
        self.key, self.shown, self.is_closed = key, {}, False

    def show(self, step: int, metrics: Metrics) -> None:
        self.shown[step] = metrics

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens a board in the place of W&B's."""
    monkeypatch.setitem(boards.BOARDS, "wandb", Remembering)
    return lambda: open_boards(["wandb"], tmp_path, tmp_path / "scratch", {})[0]


def test_a_board_hears_every_step_and_is_closed(opened: Any, tmp_path: Path, tokenizer: Any, scored: ScoredRollout):
    board = opened()
    with (
        pytest.raises(KeyError),
        Tracker(tmp_path, tmp_path / "parts", tokenizer, ["a", "b"], boards=[board]) as tracker,
    ):
        tracker.record(1, scored, {"objective/kl": 0.5})
        raise KeyError
    assert board.shown[1]["objective/kl"] == 0.5
    assert set(board.shown[1]) == {"objective/kl", "reward/a", "reward/b"}
    assert board.is_closed


def test_a_run_that_goes_on_is_the_same_on_the_board_and_another_is_not(opened: Any, tmp_path: Path) -> None:
    assert opened().key == opened().key
    assert open_boards(["wandb"], tmp_path, tmp_path / "other", {})[0].key != opened().key


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_named(name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadInput, match=rf'boards: expected the package {name}.* \(pip install "rlhf_ray\[{name}\]"\)'):
        open_boards([name], tmp_path, tmp_path, {})


SHOWS = """
import sys
from pathlib import Path
from rlhf_ray.training.boards import open_boards
folder = Path(sys.argv[1])
for steps in ((1, 2), (2, 3)):  # killed, it goes on
    boards = open_boards(["wandb", "mlflow"], folder, folder / "scratch", {"seed": 0, "ppo": {"steps": 3}})
    for step in steps:
        for board in boards:
            board.show(step, {"objective/kl": step / 10})
    for board in boards:
        board.close()
from mlflow import MlflowClient
client = MlflowClient()
(run,) = client.search_runs([client.get_experiment_by_name("rlhf_ray").experiment_id])
assert run.info.status == "FINISHED" and run.data.params["ppo"] == "{'steps': 3}"
shown = {(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "objective/kl")}
assert shown == {(1, 0.1), (2, 0.2), (3, 0.3)}, shown
written = b"".join(path.read_bytes() for path in folder.glob("wandb/offline-run-*/*.wandb"))
assert b"objective/kl" in written
"""


@pytest.mark.slow
def test_wandb_and_mlflow_without_a_server_have_what_was_shown(tmp_path: Path) -> None:
    python = environment(tmp_path / "environment", "wandb", "mlflow-skinny")
    offline = {
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [python, "-c", SHOWS, str(tmp_path)], env=os.environ | offline, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
