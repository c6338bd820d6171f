"""A run as a chain of stages, each a folder that appears whole or not at all.

A stage writes into a hidden folder; a manifest with the digest of every file is written last, then the folder gets its
name. A stage whose folder is whole and whose settings and inputs are unchanged is skipped.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlhf_ray.config import BadInput
from rlhf_ray.meter import Meter
from rlhf_ray.runs import RunConfig

MANIFEST = "manifest.json"
CARD = "README.md"  # written when the run ends, with what was measured: no part of what a stage made
FORMAT = 1  # part of every key: raise it when a stage's files change their meaning


@dataclass(frozen=True)
class Stage:
    """`work(run, folder)` fills the folder from what the stages in `reads` left and the named settings."""

    name: str
    reads: tuple[str, ...]
    settings: tuple[str, ...]
    work: Callable[["Run", Path], None]


@dataclass(frozen=True)
class Run:
    config: RunConfig

    @property
    def folder(self) -> Path:
        return self.config.run_folder

    def path(self, stage: str, *parts: str) -> Path:
        return self.folder.joinpath(stage, *parts)

    def manifest(self, stage: str) -> dict[str, Any]:
        """What a finished stage says of itself. Raises BadInput where the stage is missing."""
        path = self.path(stage, MANIFEST)
        if not path.is_file():
            raise BadInput(f"{path.parent}: expected the finished stage {stage!r}, found none; run it first")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise BadInput(
                f"{path}: expected JSON, got a damaged file; delete the folder and run the stage again"
            ) from None

    def perform(self, stage: Stage) -> bool:
        """Do the stage's work, unless it is done already. Says whether there was anything to do."""
        key = self._key(stage)
        if self._is_whole(stage, key):
            return False
        workplace = self.folder / f".tmp-{stage.name}"
        shutil.rmtree(workplace, ignore_errors=True)  # what a killed run left
        workplace.mkdir(parents=True)
        try:
            with Meter() as meter:
                stage.work(self, workplace)
            manifest = {
                "stage": stage.name,
                "key": key,
                "seconds": round(meter.seconds, 2),
                "peak_bytes": meter.peak_bytes,
                "files": _digests(workplace),
            }
            _write_durably(workplace / MANIFEST, json.dumps(manifest, indent=2))
            _give_name(workplace, self.path(stage.name))
        finally:
            shutil.rmtree(workplace, ignore_errors=True)
        return True

    def _key(self, stage: Stage) -> str:
        """Changes with the stage's settings, the seed, or anything that the stage reads."""
        settings = self.config.model_dump(include=set(stage.settings) | {"seed"})
        inputs = {name: self.manifest(name)["files"] for name in stage.reads}
        return _digest(json.dumps([FORMAT, settings, inputs], sort_keys=True).encode())

    def _is_whole(self, stage: Stage, key: str) -> bool:
        if not self.path(stage.name, MANIFEST).is_file():
            return False
        manifest = self.manifest(stage.name)
        return manifest["key"] == key and manifest["files"] == _digests(self.path(stage.name))


@contextmanager
def open_run(config: RunConfig) -> Iterator[Run]:
    """The run's folder, held so that no second process writes into it. Raises BadInput where one does."""
    run = Run(config)
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
        yield run


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    _write_durably(path.with_name(f".{path.name}.tmp"), text)
    os.replace(path.with_name(f".{path.name}.tmp"), path)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (MANIFEST, CARD))
    return {str(path.relative_to(folder)): _digest(path.read_bytes()) for path in files}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_durably(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _give_name(workplace: Path, place: Path) -> None:
    """The one moment at which the stage comes to be. An older version is moved aside first and removed after."""
    aside = place.with_name(f".old-{place.name}")
    shutil.rmtree(aside, ignore_errors=True)
    if place.exists():
        place.rename(aside)
    workplace.rename(place)
    shutil.rmtree(aside, ignore_errors=True)
    parent = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
