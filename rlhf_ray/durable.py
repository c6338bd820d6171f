"""Files and folders that are there whole or not at all, and folders that know what they hold.

A folder is filled under a hidden name. When everything in it has reached the disk, a manifest with the digest of every
file is written, and then the folder gets its name: that is the one moment at which it comes to be.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlhf_ray.config import BadInput

MANIFEST = "manifest.json"


def publish(workplace: Path, place: Path, facts: dict[str, Any], unlisted: Iterable[str] = ()) -> None:
    """Give the filled `workplace` the name `place`, with a manifest of `facts` and of the digests of its files.

    An older folder of that name makes way. Files named in `unlisted` are no part of it.
    """
    (workplace / f".{MANIFEST}.tmp").unlink(missing_ok=True)  # of an attempt that was killed right here
    write_whole(workplace / MANIFEST, json.dumps(facts | {"files": digests(workplace, unlisted)}, indent=2))
    name_whole(workplace, place)


def name_whole(workplace: Path, place: Path) -> None:
    """Give a folder its name when all in it has reached the disk. An older one of that name is moved aside first."""
    for path in [*workplace.rglob("*"), workplace]:
        sync(path)
    aside = place.with_name(f".old-{place.name}")
    shutil.rmtree(aside, ignore_errors=True)
    if place.exists():
        place.rename(aside)
    workplace.rename(place)
    sync(place.parent)
    shutil.rmtree(aside, ignore_errors=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a published folder says of itself. Raises BadInput where it is missing or damaged."""
    path = folder / MANIFEST
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: expected a manifest, found none") from None
    except ValueError:
        raise BadInput(f"{path}: expected JSON, got a damaged file") from None
    if not isinstance(facts, dict) or not isinstance(facts.get("files"), dict):
        raise BadInput(f"{path}: expected a manifest with the digests of files, got a damaged file")
    return facts


def is_whole(folder: Path, unlisted: Iterable[str] = ()) -> bool:
    """Whether the folder holds exactly the files that it was published with."""
    try:
        return read_manifest(folder)["files"] == digests(folder, unlisted)
    except BadInput:
        return False


def digests(folder: Path, unlisted: Iterable[str] = ()) -> dict[str, str]:
    """The sha256 of every file, by its path in the folder; the manifest and files of the names `unlisted` left out."""
    apart = {MANIFEST, *unlisted}
    return {str(path.relative_to(folder)): file_digest(path) for path in _files(folder) if path.name not in apart}


def file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, and has reached the disk."""
    with appearing(path) as hidden:
        hidden.write_text(text, encoding="utf-8")


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A hidden place to write a file to; at the end the file has reached the disk, and then it gets its name."""
    hidden = path.with_name(f".{path.name}.tmp")
    try:
        yield hidden
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
    sync(hidden)
    os.replace(hidden, path)
    sync(path.parent)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
