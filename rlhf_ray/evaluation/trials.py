"""What a search found: a table and a plot of its trials, and what the best is worth beyond luck."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlhf_ray.alarm import Alarm, Tripped
from rlhf_ray.data.tables import Row, write_table
from rlhf_ray.training.search import BEST
from rlhf_ray.training.trial import MODEL, Task, Trial, best_of

STYLE = {"svg.hashsalt": "rlhf_ray", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
COLOURS = {"finished": "#1b6ca8", "stopped": "#b8b8b8"}
ENDINGS = ("finished", "stopped", "failed")


def rows_of(trials: Sequence[Trial], defaults: dict[str, Any]) -> list[Row]:
    """A row a trial: how it ended, its objective with the parts of it, and its values. `defaults` names the knobs."""
    return [
        {
            "trial": number,
            "ending": trial.ending,
            "objective": trial.objective if trial.measured else None,
            **parts(trial),
            "epochs_done": trial.measured[-1]["epochs"] if trial.measured else 0.0,
            "seconds": trial.seconds,
            **{key: trial.case.values.get(key, default) for key, default in defaults.items()},
        }
        for number, trial in enumerate(trials)
    ]


def parts(trial: Trial) -> dict[str, float | None]:
    """What the objective blends; None where it was not measured."""
    metrics = trial.measured[-1]["metrics"] if trial.measured else {}
    return {
        "accuracy": (metrics.get("accuracy") or {}).get("mean"),
        "auc": metrics.get("auc"),
        "calibration_error": metrics.get("calibration_error"),
        "probes_mean": metrics.get("probes_mean"),
        "length_correlation": metrics.get("length_correlation", {}).get("within_label"),
    }


def write_trials(folder: Path, rows: list[Row]) -> None:
    """The table as `trials.parquet` and `trials.md`, best first in the latter, and the plot `trials.svg`."""
    write_table(folder / "trials.parquet", rows)
    order = sorted(rows, key=lambda row: (row["ending"] != "finished", -(row["objective"] or -1.0)))
    lines = [list(rows[0]), ["---"] + ["---:"] * (len(rows[0]) - 1)] + [
        [_said(cell) for cell in row.values()] for row in order
    ]
    (folder / "trials.md").write_text("".join(f"| {' | '.join(line)} |\n" for line in lines), encoding="utf-8")
    plot(rows, folder / "trials.svg")


def plot(rows: list[Row], file: Path) -> None:
    """The objective by trial with the best so far, and by learning rate where that was searched."""
    seen = [row for row in rows if row["objective"] is not None and row["ending"] != "failed"]
    has_lr = len({row.get("lr") for row in seen}) > 1
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.0 if has_lr else 4.8, 3.2), layout="constrained")
        axes = figure.subplots(1, 2 if has_lr else 1, squeeze=False)[0]
        _dots(axes[0], seen, "trial")
        finished = [row for row in seen if row["ending"] == "finished"]
        best = [max(row["objective"] for row in finished[: count + 1]) for count in range(len(finished))]
        axes[0].step([row["trial"] for row in finished], best, where="post", color="#c0392b", label="best so far")
        axes[0].set_ylabel("objective")
        axes[0].legend(frameon=False)
        if has_lr:
            _dots(axes[1], seen, "lr")
            axes[1].set_xscale("log")
        figure.savefig(file, format="svg", metadata={"Date": None})


def _dots(axes: Axes, rows: list[Row], key: str) -> None:
    for ending, colour in COLOURS.items():
        found = [row for row in rows if row["ending"] == ending]
        axes.plot([row[key] for row in found], [row["objective"] for row in found], "o", color=colour, label=ending)
    axes.set_xlabel("learning rate" if key == "lr" else key)
    axes.grid(alpha=0.3)


def write_models(folder: Path, task: Task, trials: Sequence[Trial], keep: int) -> None:
    """The best model as `best`, the next best as `2`, `3`, … Raises Tripped where no trial came to an end."""
    ranked = best_of(trials)
    if not ranked:
        raise Tripped(
            Alarm(
                "search",
                f"none of {len(trials)} trials finished; the first: {trials[0].why}",
                "a space whose learning rates are too large, or a machine that is too small",
                "look at search.space and at reward, with which the search begins",
            )
        )
    for number, trial in enumerate(ranked[:keep], start=1):
        shutil.copytree(task.place(trial.case.name) / MODEL, folder / (BEST if number == 1 else str(number)))


def conclude(task: Task, trials: Sequence[Trial], again: Mapping[str, Sequence[Trial]], keep: int) -> dict[str, Any]:
    """What `search.json` says of the trials; `again` are those of the first and the best with further seeds."""
    ranked = best_of(trials)
    return {
        "trials": len(trials),
        "endings": {ending: sum(trial.ending == ending for trial in trials) for ending in ENDINGS},
        "validation": task.validation.counts(),
        "default": _figures(task, trials[0]),
        "best": _figures(task, ranked[0]),
        "models": [{"trial": trial.case.name, "objective": trial.objective} for trial in ranked[:keep]],
        "confirm": {who: _spread([trial.objective for trial in found]) for who, found in again.items()},
    }


def _figures(task: Task, trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.case.name,
        "ending": trial.ending,
        "objective": trial.objective,
        "values": trial.case.values,
        "training": task.training_of(trial.case.values).model_dump(),
        "metrics": trial.measured[-1]["metrics"] if trial.measured else None,
    }


def _spread(found: list[float]) -> dict[str, Any]:
    """One configuration under several seeds: its objectives, their mean and their standard deviation."""
    return {"objectives": found, "mean": fmean(found), "std": stdev(found) if len(found) > 1 else None}


def _said(cell: Any) -> str:
    if cell is None:
        return "–"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
