"""A trial of a search: one configuration, trained in one process and measured every half epoch."""

import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from rlhf_ray.alarm import Alarm, NotFinite, Tripped
from rlhf_ray.data.tables import Row
from rlhf_ray.durable import write_whole
from rlhf_ray.evaluation.reward import objective
from rlhf_ray.feedback.lessons import Lessons
from rlhf_ray.models.adapters import Lora
from rlhf_ray.models.loading import check_finite
from rlhf_ray.models.scalar import Scalar
from rlhf_ray.training.reward import RewardTraining, raw_scores, train_reward
from rlhf_ray.training.validation import Validation

EVERY = 0.5  # epochs from one measuring to the next
WORST = -1.0  # the objective of a trial that failed: below that of any model
RECORD, MODEL = "trial.json", "model"

Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Case:
    """What one trial tries: its values of the space's knobs, and its seed."""

    name: str
    values: dict[str, Any]
    seed: int


@dataclass(frozen=True)
class Task:
    """What all trials of a search have in common. `training` holds what no case changes."""

    folder: str
    backbones: dict[str, str]
    training: RewardTraining
    lora: Lora | None
    lessons: Lessons
    validation: Validation
    threads: int

    def training_of(self, values: dict[str, Any]) -> RewardTraining:
        return RewardTraining.model_validate(self.training.model_dump() | values)

    def place(self, name: str) -> Path:
        return Path(self.folder, name)

    def clear(self, keep: int) -> None:
        """Remove the models of all finished trials but the best."""
        trials = [trial for path in Path(self.folder).iterdir() if (trial := Trial.read(path))]
        for trial in best_of(trials)[keep:]:
            shutil.rmtree(self.place(trial.case.name) / MODEL, ignore_errors=True)


@dataclass
class Trial:
    """What came of a case so far. It is `finished`, `stopped` early or `failed` when it is over.

    Each of `measured` has `epochs`, `objective` and the `metrics` that it blends.
    """

    case: Case
    measured: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    ending: str = ""
    why: str = ""

    @property
    def objective(self) -> float:
        return self.heard[-1]["objective"] if self.heard else WORST

    @property
    def heard(self) -> list[dict[str, float]]:
        """What the search hears of it, in order: the epochs done, and the objective then."""
        measured = [{"epochs": one["epochs"], "objective": one["objective"]} for one in self.measured]
        return measured + ([{"epochs": len(measured) * EVERY, "objective": WORST}] if self.ending == "failed" else [])

    def write(self, place: Path) -> None:
        write_whole(place / RECORD, json.dumps(asdict(self)))

    @classmethod
    def read(cls, place: Path) -> "Trial | None":
        """The trial that lies there, if one does."""
        if not (place / RECORD).is_file():
            return None
        values = json.loads((place / RECORD).read_text(encoding="utf-8"))
        return cls(**values | {"case": Case(**values["case"])})


def best_of(trials: Iterable[Trial]) -> list[Trial]:
    """Those that finished, the best first."""
    finished = [trial for trial in trials if trial.ending == "finished"]
    return sorted(finished, key=lambda trial: (-trial.objective, trial.case.name))


def try_out(case: Case, task: Task, report: Report) -> None:
    """Train as the case says, and leave record and model in its place. `report` hears epochs and objective.

    A trial that was over before is reported again, not done again; one that was killed is begun anew.
    """
    torch.set_num_threads(task.threads)
    place = task.place(case.name)
    before = Trial.read(place)
    if before and before.case == case and before.ending:
        for heard in before.heard:
            report(heard)
        return
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    trial = Trial(case)
    trial.write(place)
    try:
        _train(trial, task, place, report)
        check_finite(place / MODEL)
        trial.ending = "finished"
    except Tripped as tripped:
        trial.ending, trial.why = "failed", str(tripped)
        report(trial.heard[-1])
    trial.write(place)


def _train(trial: Trial, task: Task, place: Path, report: Report) -> None:
    case, training, begin = trial.case, task.training_of(trial.case.values), time.monotonic()

    def examine(scalar: Scalar, tokenizer: PreTrainedTokenizerBase) -> None:
        def score(rows: list[Row]) -> list[float]:
            return _finite(raw_scores(scalar, tokenizer, rows, training.most_tokens)).tolist()

        metrics = task.validation.measure(score)
        epochs = min(EVERY * (len(trial.measured) + 1), training.epochs)
        trial.measured.append({"epochs": epochs, "objective": objective(metrics), "metrics": metrics})
        trial.seconds = round(time.monotonic() - begin, 2)
        trial.write(place)
        report(trial.heard[-1])

    train_reward(
        backbone=task.backbones[training.backbone],
        thumbs=task.lessons.thumbs,
        pairs=task.lessons.pairs,
        samples=task.lessons.samples,
        training=training,
        lora=task.lora,
        seed=case.seed,
        folder=str(place / MODEL),
        report=lambda step, of, metrics: None,
        examine=examine,
        examine_every=EVERY,
    )
    trial.seconds = round(time.monotonic() - begin, 2)
    trial.measured[-1]["epochs"] = training.epochs  # few steps have no place for every half epoch


def _finite(scores: torch.Tensor) -> torch.Tensor:
    if not scores.isfinite().all():
        raise NotFinite(
            Alarm(
                "score",
                "the model of a trial gives scores that are not numbers",
                "a learning rate so large that the model left the range of its numbers",
                "lower the upper end of search.space.lr",
            )
        )
    return scores
