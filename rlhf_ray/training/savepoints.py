"""Where a supervised training is kept while it goes on: killed, it goes on from the newest and ends with the same bits.

transformers writes and reads what is kept: weights, optimizer, schedule, and everything random.
"""

import shutil
from pathlib import Path
from typing import Any, Protocol

from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from rlhf_ray.durable import is_whole, publish
from rlhf_ray.training.progress import quiet

EVERY = 0.2  # of the training


class Savepoints(Protocol):
    """What a training asks of the place where it is kept. Every process of the training asks."""

    workplace: Path  # where transformers writes a checkpoint

    def newest(self) -> Path | None:
        """The checkpoint to go on from; None where there is none yet."""

    def keep(self, checkpoint: Path) -> None:
        """Take the checkpoint, which was just written, away from the workplace."""


class OnDisk:
    """Savepoints of one process, in a folder: each is there whole or not at all, and the newest stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workplace = folder / "being-written"
        shutil.rmtree(self.workplace, ignore_errors=True)  # what a killed training left

    def newest(self) -> Path | None:
        return max((place for place in self._all() if is_whole(place)), key=_step, default=None)

    def keep(self, checkpoint: Path) -> None:
        older = self._all()
        publish(checkpoint, self.folder / checkpoint.name, {})
        for place in older:
            if place.name != checkpoint.name:
                shutil.rmtree(place)

    def _all(self) -> list[Path]:
        return list(self.folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"))


class Kept(TrainerCallback):
    """Hands each checkpoint of a transformers trainer on to the savepoints."""

    def __init__(self, savepoints: Savepoints) -> None:
        self.savepoints = savepoints

    def on_save(self, args, state, control, **kwargs) -> None:
        self.savepoints.keep(Path(args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"))


def saving(savepoints: Savepoints | None, folder: str) -> dict[str, Any]:
    """The arguments of a transformers trainer that say where and how often it writes a checkpoint."""
    if savepoints is None:
        return {"output_dir": folder, "save_strategy": "no"}
    return {"output_dir": str(savepoints.workplace), "save_strategy": "steps", "save_steps": EVERY}


def train(trainer: Trainer, savepoints: Savepoints | None) -> None:
    """Begin the training, or go on from its newest savepoint."""
    newest = savepoints.newest() if savepoints else None
    if savepoints:
        trainer.add_callback(Kept(savepoints))
    quiet(trainer).train(resume_from_checkpoint=str(newest) if newest else None)


def _step(place: Path) -> int:
    return int(place.name.rpartition("-")[2])
