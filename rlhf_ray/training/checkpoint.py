"""Checkpoints of a run that is going: each is whole or not there, and the newest whole one is where a run goes on."""

import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from rlhf_ray.alarm import Tripped
from rlhf_ray.algorithms.kl import KlState
from rlhf_ray.durable import is_whole, publish, read_manifest
from rlhf_ray.weights import Weights, read_weights, write_weights

KEPT = 2  # the newest ones: should the last be damaged later, there is another
STATE = "progress.json"
OLDER = "older-"  # the files of weights that a rollout begun ahead is spoken with
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a run is: iterations that are done, and the KL coefficient of the next one.

    With the learner's own state this is all there is: prompts, samples and minibatches follow from seed and step. Where
    rollouts are begun ahead, those of the next steps are begun again, with the weights `older` than the learner's.
    """

    step: int
    kl: KlState
    older: tuple[Weights, ...] = ()


class Remembers(Protocol):
    """A learner that can write down all it is and read it again. Folders are absolute paths."""

    def remember(self, folder: str) -> None: ...
    def recall(self, folder: str) -> None: ...


class Checkpoints:
    """Folders `step-000010` under `folder`, one after every `every` iterations and one after the last.

    `saved` is called when one is there.
    """

    def __init__(self, folder: Path, every: int, saved: Callable[[], None] = lambda: None) -> None:
        self.folder = folder.resolve()
        self.every = every
        self.saved = saved
        for litter in self.folder.glob(".tmp-*"):  # what a killed run left
            shutil.rmtree(litter)

    def save_if_due(self, progress: Progress, steps: int, learner: Remembers) -> None:
        if progress.step % self.every == 0 or progress.step == steps:
            self.save(progress, learner)

    def save(self, progress: Progress, learner: Remembers) -> None:
        place = self.folder / f"step-{progress.step:06d}"
        workplace = self.folder / f".tmp-{place.name}"
        shutil.rmtree(workplace, ignore_errors=True)
        workplace.mkdir(parents=True)
        learner.remember(str(workplace))
        state = {"step": progress.step, "kl_coef": progress.kl.coef}
        (workplace / STATE).write_text(json.dumps(state), encoding="utf-8")
        for weights in progress.older:
            write_weights(weights.fetch(), workplace / f"{OLDER}{weights.version:06d}.npz")
        publish(workplace, place, _versions())
        for old in self._all()[:-KEPT]:
            shutil.rmtree(old)
        self.saved()

    def restore(self, learner: Remembers) -> Progress | None:
        """Bring the learner to where the newest whole checkpoint is; None where there is none."""
        for place in reversed(self._all()):
            if not is_whole(place):
                log.warning("%s: damaged, passed over", place)
                continue
            _compare_versions(place)
            learner.recall(str(place))
            state = json.loads((place / STATE).read_text(encoding="utf-8"))
            older = tuple(read_weights(path) for path in sorted(place.glob(f"{OLDER}*")))
            return Progress(state["step"], KlState(state["kl_coef"]), older)
        return None

    @contextmanager
    def named_when_tripped(self) -> Iterator[None]:
        """A run that stops itself in here says where its newest good checkpoint is."""
        try:
            yield
        except Tripped:
            if kept := next((place for place in reversed(self._all()) if is_whole(place)), None):
                print(f"the newest good checkpoint: {kept}", file=sys.stderr)
            raise

    def newest_step(self) -> int:
        """The step of the newest one, 0 where there is none."""
        return max((int(place.name.removeprefix("step-")) for place in self._all()), default=0)

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers")}


def _compare_versions(place: Path) -> None:
    """Other versions may compute other bits: the run goes on, but not as the undisturbed one would."""
    made_with = read_manifest(place)
    for name, here in _versions().items():
        if made_with[name] != here:
            log.warning("%s: made with %s %s, going on with %s", place, name, made_with[name], here)
