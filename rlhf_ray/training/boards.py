"""Boards: where people look at metrics while a run is going. Each is told every step, and keeps no truth of its own."""

import importlib
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

from tensorboardX import SummaryWriter

from rlhf_ray.config import BadInput
from rlhf_ray.experience import Metrics

BoardName = Literal["wandb", "mlflow"]
PROJECT = "rlhf_ray"  # W&B's project and MLflow's experiment, unless their own variables name others
TAG = "rlhf_ray.run"
LONGEST_PARAMETER = 6000  # characters; what MLflow takes


class Board(Protocol):
    def show(self, step: int, metrics: Metrics) -> None:
        """Called once a step. A run that goes on does the steps behind its checkpoint again, to the same bits."""

    def close(self) -> None:
        """Called once, however the run ended."""


class TensorBoard:
    """Event files in a folder. What an earlier attempt wrote behind step `after` is no longer shown."""

    def __init__(self, folder: Path, after: int) -> None:
        self.writer = SummaryWriter(str(folder), purge_step=after + 1)

    def show(self, step: int, metrics: Metrics) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """Weights & Biases. With WANDB_MODE=offline it writes into the folder."""

    def __init__(self, key: str, folder: Path, settings: dict[str, Any]) -> None:
        wandb = _package("wandb", "wandb")
        about = {"id": key, "name": str(folder), "config": settings, "dir": str(folder)}
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        try:
            self.run = wandb.init(project=project, resume="allow", reinit="create_new", **about)
        except wandb.errors.Error as error:
            raise BadInput(f"boards: wandb: expected to begin a run, got: {_first_line(error)}") from None

    def show(self, step: int, metrics: Metrics) -> None:
        self.run.log(metrics, step=step)

    def close(self) -> None:
        self.run.finish()


class Mlflow:
    """MLflow, where MLFLOW_TRACKING_URI says. A run that goes on is found by its tag.

    A step that the server did not take is said, and the training goes on: metrics.jsonl has it.
    """

    def __init__(self, key: str, folder: Path, settings: dict[str, Any]) -> None:
        self.mlflow = _package("mlflow", "mlflow-skinny")
        self.client = self.mlflow.MlflowClient()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        try:
            known = self.client.get_experiment_by_name(experiment)
            place = known.experiment_id if known else self.client.create_experiment(experiment)
            begun = self.client.search_runs([place], filter_string=f"tags.`{TAG}` = '{key}'")
            self.run = begun[0].info.run_id if begun else self._begin(place, key, folder, settings)
            self.client.update_run(self.run, status="RUNNING")
        except self.mlflow.MlflowException as error:
            raise BadInput(f"boards: mlflow: expected to begin a run, got: {_first_line(error)}") from None

    def show(self, step: int, metrics: Metrics) -> None:
        try:
            for name, value in metrics.items():
                self.client.log_metric(self.run, name, value, step=step)
        except self.mlflow.MlflowException as error:
            print(f"warning: boards: mlflow has no step {step}: {_first_line(error)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        try:
            self.client.set_terminated(self.run)
        except self.mlflow.MlflowException as error:
            print(f"warning: boards: mlflow: the run's end: {_first_line(error)}", file=sys.stderr, flush=True)

    def _begin(self, place: str, key: str, folder: Path, settings: dict[str, Any]) -> str:
        run = self.client.create_run(place, run_name=str(folder), tags={TAG: key}).info.run_id
        for section, values in settings.items():
            self.client.log_param(run, section, str(values)[:LONGEST_PARAMETER])
        return run


BOARDS: dict[BoardName, Callable[[str, Path, dict[str, Any]], Board]] = {"wandb": Wandb, "mlflow": Mlflow}


def open_boards(names: Sequence[BoardName], folder: Path, scratch: Path, settings: dict[str, Any]) -> list[Board]:
    """The boards of the run in `folder`, each with what it was set to.

    A run that goes on has the same scratch and is the same run on the board, too. Raises BadInput.
    """
    key = scratch / "boards"
    if names and not key.exists():
        key.parent.mkdir(parents=True, exist_ok=True)
        key.write_text(secrets.token_hex(8), encoding="utf-8")
    return [BOARDS[name](key.read_text(encoding="utf-8"), folder, settings) for name in names]


def _package(name: str, wheel: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise BadInput(f'boards: expected the package {wheel} (pip install "rlhf_ray[{name}]"), found none') from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
