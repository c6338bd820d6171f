"""A trial is measured every half epoch, says how it ended, and is not done twice."""

from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_ray.feedback.lessons import Lessons
from rlhf_ray.training.reward import RewardTraining
from rlhf_ray.training.trial import MODEL, RECORD, WORST, Case, Task, Trial, best_of, try_out
from rlhf_ray.training.validation import Validation

WORDS = ("the quick brown fox", "jugs of liquor", "daft zebras jump", "pack my box", "five dozen", "how vexingly quick")


@pytest.fixture
def task(tmp_path: Path, policy_folder: str) -> Task:
    """Two kinds of answers, one of which everybody likes."""
    thumbs = [
        {"prompt": prompt, "completion": answer, "label": answer == " jump", "kind": None}
        for prompt in WORDS
        for answer in (" jump", " box")
    ]
    return Task(
        folder=str(tmp_path / "trials"),
        backbones={"sft": policy_folder, "base": policy_folder},
        training=RewardTraining(batch=4, most_tokens=64),
        lora=None,
        lessons=Lessons(thumbs, [], samples=thumbs),
        validation=Validation(thumbs, [], []),
        threads=1,
    )


def heard(case: Case, task: Task) -> list[dict[str, float]]:
    reports: list[dict[str, float]] = []
    try_out(case, task, reports.append)
    return reports


def test_it_is_measured_every_half_epoch_and_leaves_a_model(task: Task) -> None:
    case = Case("000", {"epochs": 2, "lr": 1e-2}, seed=0)
    reports = heard(case, task)
    assert [report["epochs"] for report in reports] == [0.5, 1.0, 1.5, 2.0]
    trial = Trial.read(task.place("000"))
    assert trial is not None
    assert (trial.case, trial.ending, trial.heard, trial.objective) == (
        case,
        "finished",
        reports,
        reports[-1]["objective"],
    )
    assert (task.place("000") / MODEL / "model.safetensors").is_file()


def test_its_values_reach_the_training(task: Task) -> None:
    small, large = (heard(Case(f"{lr}", {"epochs": 1, "lr": lr}, seed=0), task) for lr in (1e-6, 1e-1))
    assert small[-1]["objective"] != large[-1]["objective"]


@pytest.mark.parametrize("ending", ["finished", "stopped", "failed"])
def test_one_that_is_over_is_told_again_and_not_done_again(task: Task, ending: str) -> None:
    case = Case("000", {"epochs": 1}, seed=0)
    measured = [{"epochs": 0.5, "objective": 0.25, "metrics": {}}]
    task.place("000").mkdir(parents=True)
    Trial(case, measured, seconds=7.0, ending=ending).write(task.place("000"))
    told = heard(case, task)
    assert told[0] == {"epochs": 0.5, "objective": 0.25}
    assert [report["objective"] for report in told[1:]] == ([WORST] if ending == "failed" else [])
    assert not (task.place("000") / MODEL).exists()  # nobody trained


@pytest.mark.parametrize("ending", ["", "finished"], ids=["killed", "of other values"])
def test_one_that_was_killed_or_was_another_is_begun_anew(task: Task, ending: str) -> None:
    case = Case("000", {"epochs": 1}, seed=0)
    before = case if not ending else replace(case, values={"epochs": 3})
    task.place("000").mkdir(parents=True)
    Trial(before, [{"epochs": 0.5, "objective": 0.25, "metrics": {}}], ending=ending).write(task.place("000"))
    assert [report["epochs"] for report in heard(case, task)] == [0.5, 1.0]
    trial = Trial.read(task.place("000"))
    assert trial is not None
    assert (trial.case, trial.ending, len(trial.measured)) == (case, "finished", 2)


def test_one_whose_model_leaves_the_range_of_its_numbers_has_failed_and_says_why(task: Task) -> None:
    reports = heard(Case("000", {"epochs": 2, "lr": 1e30}, seed=0), task)
    trial = Trial.read(task.place("000"))
    assert trial is not None
    assert trial.ending == "failed"
    assert "learning rate" in trial.why
    assert reports[-1]["objective"] == trial.objective == WORST
    assert best_of([trial]) == []


def of(name: str, objective: float, ending: str = "finished") -> Trial:
    return Trial(Case(name, {}, 0), [{"epochs": 1.0, "objective": objective, "metrics": {}}], ending=ending)


def test_the_best_are_those_that_finished_and_of_equals_the_earlier() -> None:
    trials = [of("000", 0.5), of("001", 0.9, "stopped"), of("002", 0.7), of("003", 0.7), of("004", 0.8, "failed")]
    assert [trial.case.name for trial in best_of(trials)] == ["002", "003", "000"]


def test_models_that_cannot_be_among_the_best_are_cleared_away(task: Task) -> None:
    for trial in (of("000", 0.5), of("001", 0.9), of("002", 0.7)):
        (task.place(trial.case.name) / MODEL).mkdir(parents=True)
        trial.write(task.place(trial.case.name))
    task.clear(keep=2)
    left = {path.parent.name for path in Path(task.folder).glob(f"*/{MODEL}")}
    assert left == {"001", "002"}
    assert len(list(Path(task.folder).glob(f"*/{RECORD}"))) == 3
