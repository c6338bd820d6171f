"""What is said of a search's trials."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rlhf_ray.alarm import Tripped
from rlhf_ray.evaluation.trials import conclude, rows_of, write_models, write_trials
from rlhf_ray.feedback.lessons import Lessons
from rlhf_ray.training.reward import RewardTraining
from rlhf_ray.training.trial import MODEL, Case, Task, Trial
from rlhf_ray.training.validation import Validation

METRICS = {
    "accuracy": {"mean": 0.9, "low": 0.8, "high": 1.0},
    "auc": 0.95,
    "calibration_error": 0.04,
    "probes_mean": 0.8,
    "length_correlation": {"all": 0.3, "within_label": 0.1},
}
DEFAULTS = {"lr": 2e-4, "epochs": 2}


def trial(name: str, objective: float, ending: str = "finished", **values: Any) -> Trial:
    return Trial(Case(name, values, 0), [{"epochs": 1.5, "objective": objective, "metrics": METRICS}], 12.5, ending)


@pytest.fixture
def trials() -> list[Trial]:
    return [
        trial("000", 0.6, lr=2e-4, epochs=2),
        trial("001", 0.9, "stopped", lr=1e-3, epochs=1),
        trial("002", 0.8, lr=5e-4, epochs=3),
        Trial(Case("003", {}, 0), ending="failed", why="lost"),
    ]


@pytest.fixture
def task(tmp_path: Path) -> Task:
    nothing = Lessons([], [], [])
    return Task(str(tmp_path / "trials"), {}, RewardTraining(), None, nothing, Validation([], [], []), 1)


def test_a_row_has_the_values_the_objective_and_its_parts(trials: list[Trial]) -> None:
    rows = rows_of(trials, DEFAULTS)
    assert rows[2] == {
        "trial": 2,
        "ending": "finished",
        "objective": 0.8,
        "accuracy": 0.9,
        "auc": 0.95,
        "calibration_error": 0.04,
        "probes_mean": 0.8,
        "length_correlation": 0.1,
        "epochs_done": 1.5,
        "seconds": 12.5,
        "lr": 5e-4,
        "epochs": 3,
    }
    assert rows[3]["objective"] is None
    assert (rows[3]["lr"], rows[3]["epochs_done"]) == (2e-4, 0.0)


def test_the_tables_hold_all_trials_and_the_readable_one_begins_with_the_best(
    trials: list[Trial], tmp_path: Path
) -> None:
    write_trials(tmp_path, rows_of(trials, DEFAULTS))
    assert pq.read_table(tmp_path / "trials.parquet").column("trial").to_pylist() == [0, 1, 2, 3]
    lines = (tmp_path / "trials.md").read_text(encoding="utf-8").splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["trial", "---", "2", "0", "1", "3"]


def test_the_plot_is_the_same_for_the_same_trials(trials: list[Trial], tmp_path: Path) -> None:
    texts = []
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        write_trials(tmp_path / place, rows_of(trials, DEFAULTS))
        texts.append((tmp_path / place / "trials.svg").read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    assert "best so far" in texts[0]


def test_the_conclusion_names_the_default_the_best_and_the_spread_of_both(trials: list[Trial], task: Task) -> None:
    again = {"default": [trial("d1", 0.5), trial("d2", 0.7)], "best": [trial("b1", 0.8)]}
    found = conclude(task, trials, again, keep=3)
    assert found["endings"] == {"finished": 2, "stopped": 1, "failed": 1}
    assert (found["default"]["objective"], found["best"]["objective"]) == (0.6, 0.8)
    assert found["best"]["training"] == RewardTraining(lr=5e-4, epochs=3).model_dump()
    assert [model["trial"] for model in found["models"]] == ["002", "000"]
    assert found["confirm"]["default"] == {
        "objectives": [0.5, 0.7],
        "mean": pytest.approx(0.6),
        "std": pytest.approx(0.1414, abs=1e-4),
    }
    assert found["confirm"]["best"]["std"] is None


def test_the_best_models_are_copied_in_their_order(trials: list[Trial], task: Task, tmp_path: Path) -> None:
    for name in ("000", "002"):
        (task.place(name) / MODEL).mkdir(parents=True)
        (task.place(name) / MODEL / "name").write_text(name, encoding="utf-8")
    write_models(tmp_path / "result", task, trials, keep=2)
    assert {path.parent.name: path.read_text() for path in (tmp_path / "result").rglob("name")} == {
        "best": "002",
        "2": "000",
    }


def test_a_search_of_which_no_trial_finished_says_why_the_first_failed(task: Task, tmp_path: Path) -> None:
    with pytest.raises(Tripped, match=r"none of 1 trials finished; the first: it is nan"):
        write_models(tmp_path, task, [Trial(Case("000", {}, 0), ending="failed", why="it is nan")], keep=3)
