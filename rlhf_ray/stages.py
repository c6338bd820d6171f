"""A run as a chain of stages, each a folder that appears whole or not at all.

A stage whose folder is whole and whose settings and inputs are unchanged is skipped. One that resumes keeps what it has
done so far in a folder of its own until it has finished; whatever else is half done is swept. Where the run has a
storage, finished stages are kept there as well, and a run goes on with those that its folder lacks.
"""

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlhf_ray.config import BadInput
from rlhf_ray.durable import MANIFEST, digest, is_whole, publish, read_manifest, write_whole
from rlhf_ray.evaluation.cards import CARD
from rlhf_ray.meter import Meter
from rlhf_ray.runs import RunConfig
from rlhf_ray.storage import Storage

FORMAT = 4  # part of every key: raise it when a stage's files change their meaning


@dataclass(frozen=True)
class Stage:
    """`work(run, folder)` fills the folder from what the stages in `reads` left and the named settings.

    `outside` gives the digests of what it reads from elsewhere, such as a model folder that the config names. `also`
    names further stages that it reads with this config, and raises BadInput where they lack what the config asks for.

    Where it `resumes`, the folder and the one beside it that `scratch_of` names still hold what an earlier attempt with
    the same settings and inputs left there; the latter is no part of the result.
    """

    name: str
    reads: tuple[str, ...]
    settings: tuple[str, ...]
    work: Callable[["Run", Path], None]
    resumes: bool = False
    outside: Callable[[RunConfig], dict[str, str]] = lambda config: {}
    also: Callable[[RunConfig], tuple[str, ...]] = lambda config: ()


@dataclass(frozen=True)
class Run:
    config: RunConfig
    storage: Storage | None = None

    @property
    def folder(self) -> Path:
        return self.config.run_folder

    def path(self, stage: str, *parts: str) -> Path:
        return self.folder.joinpath(stage, *parts)

    def manifest(self, stage: str) -> dict[str, Any]:
        """What a finished stage says of itself. Raises BadInput where the stage is missing."""
        folder = self.path(stage)
        if not (folder / MANIFEST).is_file():
            raise BadInput(f"{folder}: expected the finished stage {stage!r}, found none; run it first")
        try:
            return read_manifest(folder)
        except BadInput as mistake:
            raise BadInput(f"{mistake}; delete the folder and run the stage again") from None

    def digests(self, stages: Sequence[str]) -> dict[str, str]:
        """Of each stage one that changes with any of its files. Raises BadInput where a stage is missing."""
        files = {name: json.dumps(self.manifest(name)["files"], sort_keys=True) for name in stages}
        return {name: digest(text.encode()) for name, text in files.items()}

    def perform(self, stage: Stage) -> bool:
        """Do the stage's work, unless it is done already. Says whether there was anything to do."""
        key = self._key(stage)
        workplace = self.folder / (f".unfinished-{stage.name}-{key[:8]}" if stage.resumes else f".tmp-{stage.name}")
        if self._is_done(stage, key):
            shutil.rmtree(workplace, ignore_errors=True)  # it was killed after it had finished
            self._store(stage, workplace)
            return False
        if not stage.resumes:
            shutil.rmtree(workplace, ignore_errors=True)  # what a killed run left
        elif self.storage and not workplace.exists():
            self.storage.fetch_mirrored(workplace.name, workplace)
        result = workplace / "result"
        result.mkdir(parents=True, exist_ok=stage.resumes)
        try:
            with Meter() as meter:
                stage.work(self, result)
            cost = {"seconds": round(meter.seconds, 2), "peak_bytes": meter.peak_bytes}
            publish(result, self.path(stage.name), {"stage": stage.name, "key": key} | cost, unlisted=[CARD])
        except BaseException:
            has_begun = any(path.is_file() for path in scratch_of(result).rglob("*"))
            if not (stage.resumes and has_begun):
                shutil.rmtree(workplace, ignore_errors=True)
            raise
        shutil.rmtree(workplace, ignore_errors=True)
        self._store(stage, workplace)
        return True

    def store_unfinished(self, folder: Path) -> None:
        """Called by a stage that resumes, with the folder it fills, where it could be gone on with from here."""
        if self.storage:
            self.storage.mirror(folder.parent)

    def _store(self, stage: Stage, workplace: Path) -> None:
        if self.storage:
            self.storage.keep(self.path(stage.name))
            self.storage.drop(workplace.name)

    def _key(self, stage: Stage) -> str:
        """Changes with the stage's settings, the seed, or anything that the stage reads.

        Raises BadInput where an input is not what its stage left: nothing true could be said of what came of it.
        """
        settings = self.config.model_dump(include=set(stage.settings) | {"seed"})
        reads = stage.reads + stage.also(self.config)
        inputs = {name: self.manifest(name)["files"] for name in reads}
        for name in reads:
            if not is_whole(self.path(name), unlisted=[CARD]):
                raise BadInput(
                    f"{self.path(name)}: expected the files that the stage {name!r} left, got others (changed, "
                    "damaged, more or fewer); delete the folder and run the stage again"
                )
        outside = stage.outside(self.config)
        return digest(json.dumps([FORMAT, settings, inputs, outside], sort_keys=True).encode())

    def _is_done(self, stage: Stage, key: str) -> bool:
        folder = self.path(stage.name)
        if not (folder / MANIFEST).is_file():
            return False
        return self.manifest(stage.name)["key"] == key and is_whole(folder, unlisted=[CARD])


def scratch_of(folder: Path) -> Path:
    """Where a stage that resumes keeps what it needs to go on, beside the folder that it fills."""
    return folder.with_name("scratch")


@contextmanager
def open_run(config: RunConfig) -> Iterator[Run]:
    """The run's folder, held so that no second process writes into it. Raises BadInput where one does."""
    storage = None if config.storage == "none" else Storage.at(config.storage, config.run_folder.name)
    run = Run(config, storage)
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        lock = open(run.folder / ".lock", "w")  # noqa: SIM115  (closed below)
    except OSError as error:
        raise BadInput(f"folder: expected a place to write to, got {run.folder} ({error.strerror})") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(
                f"{run.folder}: expected a run that nobody else is working on, but another process holds it"
            ) from None
        write_whole(run.folder / "config.yaml", yaml.safe_dump(config.model_dump(), sort_keys=False))
        if storage:
            share_finished(storage, run.folder)
        yield run
        if storage:
            store_reports(storage, run.folder)


def share_finished(storage: Storage, folder: Path) -> None:
    """Bring the finished stages that the run's folder lacks, and keep those that the storage lacks."""
    there = storage.finished()
    for manifest in folder.glob(f"[!.]*/{MANIFEST}"):
        if manifest.parent.name not in there:
            storage.keep(manifest.parent)
    for name in there:
        if not (folder / name).exists():
            storage.fetch(name, folder / name)


def store_reports(storage: Storage, folder: Path) -> None:
    """What no manifest lists: the models' cards, the summary and the config."""
    cards = [path for path in folder.glob("[!.]*/**/*") if path.name == CARD]
    for path in [*cards, *folder.glob("[!.]*.*")]:
        storage.put(path, path.relative_to(folder).as_posix())
