"""Finished work where it outlives every machine: a folder elsewhere, S3 or Google Cloud Storage.

None of these gives a folder its name at one moment, so its manifest does: it is removed first and written last, and a
folder without one is not there. What is fetched gets its name here when it is what its manifest says, and not before.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from uuid import uuid4

from pyarrow import ArrowException
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem, copy_files

from rlhf_ray.config import BadInput
from rlhf_ray.durable import MANIFEST, appearing, is_whole, name_whole, read_manifest

HERE = LocalFileSystem()


class Storage:
    """Folders and files by their names, under one root of a pyarrow file system.

    Every method raises BadInput where the storage does not answer or refuses.
    """

    def __init__(self, files: FileSystem, root: str) -> None:
        self.files = files
        self.root = root.rstrip("/")
        self._mirrored: dict[Path, tuple[int, int]] = {}  # size and time of change of what is there already

    @classmethod
    def at(cls, address: str, *parts: str) -> "Storage":
        """`address` is a path or a URI, such as s3://bucket/runs?region=eu-west-1. Raises BadInput where it is none."""
        if "@" in urlsplit(address).netloc:
            raise BadInput("storage: expected an address without a password, which the environment gives, got one")
        place = address if "://" in address else str(Path(address).resolve())
        with _answering(address):
            files, root = FileSystem.from_uri(place)
        return cls(files, "/".join([root.rstrip("/"), *parts]))

    def finished(self) -> list[str]:
        """The names of the folders that are whole there."""
        with _answering(self.root):
            names = [info.base_name for info in self._list(self.root) if info.type == FileType.Directory]
            shown = sorted(name for name in names if not name.startswith("."))
            return [name for name in shown if self._has(f"{name}/{MANIFEST}")]

    def keep(self, folder: Path) -> None:
        """Copy a published folder there under its own name, in the place of an older one. It may be there already."""
        with _answering(self.root):
            if self._read(f"{folder.name}/{MANIFEST}") == (folder / MANIFEST).read_bytes():
                return
            self.drop(folder.name)
            for name in [*read_manifest(folder)["files"], MANIFEST]:
                self._send(folder / name, f"{folder.name}/{name}")

    def fetch(self, name: str, place: Path) -> None:
        """Bring a folder that is whole there. Raises BadInput where it is not what its manifest says."""
        workplace = _hidden(place)
        with _answering(self.root):
            self._bring(f"{name}/{MANIFEST}", workplace / MANIFEST)
            for file in read_manifest(workplace)["files"]:
                self._bring(f"{name}/{_inside(file)}", workplace / file)
        if not is_whole(workplace):
            shutil.rmtree(workplace)
            raise BadInput(f"{self.root}/{name}: expected the files of its manifest, got others; delete the folder")
        name_whole(workplace, place)

    def mirror(self, folder: Path) -> None:
        """Make the folder there what it is here, where work goes on. Hidden files are left out.

        Manifests come last, and what is gone here goes after that: whenever the mirroring is killed, what has a
        manifest there is whole, or will be found damaged where it was about to go.
        """
        here = {path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(folder))}
        with _answering(self.root):
            for path in sorted(here, key=_manifests_last):
                state = (path.stat().st_size, path.stat().st_mtime_ns)
                if self._mirrored.get(path) != state:
                    self._send(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
                    self._mirrored[path] = state
            names = {path.relative_to(folder).as_posix() for path in here}
            gone = [Path(name) for name in self._names(folder.name) if name not in names]
            for path in sorted(gone, key=_manifests_last, reverse=True):
                self.files.delete_file(f"{self.root}/{folder.name}/{path.as_posix()}")

    def fetch_mirrored(self, name: str, place: Path) -> None:
        """Bring what was mirrored, if anything was; the folder gets its name when all of it is here."""
        with _answering(self.root):
            names = self._names(name)
            if not names:
                return
            workplace = _hidden(place)
            for file in names:
                self._bring(f"{name}/{_inside(file)}", workplace / file)
        name_whole(workplace, place)

    def drop(self, name: str) -> None:
        """Remove a folder, if it is there; its manifest goes first."""
        with _answering(self.root):
            if self._has(f"{name}/{MANIFEST}"):
                self.files.delete_file(f"{self.root}/{name}/{MANIFEST}")
            if self.files.get_file_info(f"{self.root}/{name}").type == FileType.Directory:
                self.files.delete_dir(f"{self.root}/{name}")

    def check(self) -> None:
        """Write a file there, and remove it."""
        name = f".probe-{uuid4().hex}"
        with _answering(self.root):
            self.files.create_dir(self.root)
            with self.files.open_output_stream(f"{self.root}/{name}") as stream:
                stream.write(b"written")
            self.files.delete_file(f"{self.root}/{name}")

    def put(self, path: Path, name: str) -> None:
        """Copy a file there, in the place of an older one."""
        with _answering(self.root):
            self._send(path, name)

    def _names(self, folder: str) -> list[str]:
        """Of all files in a folder there, within it."""
        infos = self._list(f"{self.root}/{folder}", recursive=True)
        return [info.path.removeprefix(f"{self.root}/{folder}/") for info in infos if info.type == FileType.File]

    def _list(self, path: str, recursive: bool = False) -> list[FileInfo]:
        return self.files.get_file_info(FileSelector(path, allow_not_found=True, recursive=recursive))

    def _has(self, name: str) -> bool:
        return self.files.get_file_info(f"{self.root}/{name}").type == FileType.File

    def _read(self, name: str) -> bytes | None:
        if not self._has(name):
            return None
        with self.files.open_input_stream(f"{self.root}/{name}") as stream:
            return stream.read()

    def _send(self, path: Path, name: str) -> None:
        place = f"{self.root}/{name}"
        self.files.create_dir(place.rpartition("/")[0])
        if isinstance(self.files, LocalFileSystem):  # where a file would be seen while it grows, unlike an object
            with appearing(Path(place)) as hidden:
                shutil.copyfile(path, hidden)
            return
        copy_files(str(path), place, source_filesystem=HERE, destination_filesystem=self.files)

    def _bring(self, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        copy_files(f"{self.root}/{name}", str(path), source_filesystem=self.files, destination_filesystem=HERE)


@contextmanager
def _answering(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ArrowException) as error:
        said = " ".join(str(error).split())
        raise BadInput(f"storage: expected a place that can be read and written at {address}, got: {said}") from None


def _hidden(place: Path) -> Path:
    """Where a folder is put together, beside its place; what a kill left there is gone."""
    workplace = place.with_name(f".fetched-{place.name}")
    shutil.rmtree(workplace, ignore_errors=True)
    workplace.mkdir(parents=True)
    return workplace


def _inside(name: str) -> str:
    """The name of a file. Raises BadInput where it leads out of its folder: a storage is written by others, too."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise BadInput(f"storage: expected the name of a file within its folder, got {name!r}")
    return name


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _manifests_last(path: Path) -> tuple[bool, Path]:
    return path.name == MANIFEST, path
