"""What is kept elsewhere comes back as it was, or is not there; whoever is killed in the middle leaves nothing torn."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import FileInfo, FileSelector, FileSystemHandler, LocalFileSystem, PyFileSystem, SubTreeFileSystem

from rlhf_ray.config import BadInput
from rlhf_ray.durable import is_whole, publish
from rlhf_ray.runs import RunConfig
from rlhf_ray.stages import Run, Stage, open_run, scratch_of
from rlhf_ray.storage import Storage


class Killed(Exception):
    """The process that was at it is no more."""


class Mortal(FileSystemHandler):
    """An object store whose user is killed at a given operation: objects are there whole, folders are not."""

    def __init__(self, root: Path, dies_at: int) -> None:
        root.mkdir(exist_ok=True)
        self.files, self.left = SubTreeFileSystem(str(root), LocalFileSystem()), dies_at

    def step(self) -> SubTreeFileSystem:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return self.files

    def get_type_name(self) -> str:
        return "mortal"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        return self.step().get_file_info(paths)

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        return self.step().get_file_info(selector)

    def create_dir(self, path: str, recursive: bool) -> None:
        self.step().create_dir(path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        """File by file, as the object stores do it, with a kill possible between any two."""
        for info in self.files.get_file_info(FileSelector(path, recursive=True)):
            if info.is_file:
                self.step().delete_file(info.path)
        self.step().delete_dir(path)

    def delete_file(self, path: str) -> None:
        self.step().delete_file(path)

    def open_input_stream(self, path: str) -> Any:
        return self.step().open_input_stream(path)

    def open_input_file(self, path: str) -> Any:
        return self.step().open_input_file(path)

    def open_output_stream(self, path: str, metadata: dict) -> Any:
        return self.step().open_output_stream(path)

    def _never(self, *arguments: object) -> None:
        raise NotImplementedError

    open_append_stream = move = copy_file = delete_dir_contents = delete_root_dir_contents = _never


def mortal(root: Path, dies_at: int = 10**9) -> Storage:
    return Storage(PyFileSystem(Mortal(root, dies_at)), "runs/seed-0")


def each_death(begin: Any, work: Any) -> Iterator[bool]:
    """Does `work(begin(), n)` for every n, until it is not killed any more; says after each whether it was."""
    for dies_at in range(200):
        try:
            work(begin(), dies_at)
        except Killed:
            yield True
            continue
        yield False
        return
    raise AssertionError("the work never ended")


def published(folder: Path, **texts: str) -> Path:
    workplace = folder.with_name(".work")
    for name, text in texts.items():
        path = workplace / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (workplace / "part").mkdir()
    (workplace / "part" / "empty").write_bytes(b"")
    publish(workplace, folder, {"stage": folder.name})
    return folder


def test_a_folder_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    folder, storage = published(tmp_path / "sft", one="1", two="2"), Storage.at(str(tmp_path / "store"), "seed-0")
    storage.keep(folder)
    storage.put(folder / "manifest.json", "config.yaml")
    assert storage.finished() == ["sft"]
    storage.fetch("sft", tmp_path / "elsewhere" / "sft")
    assert is_whole(tmp_path / "elsewhere" / "sft")
    found = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(found) == 4
    for path, data in found.items():
        assert (tmp_path / "elsewhere" / "sft" / path).read_bytes() == data
    assert os.listdir(tmp_path / "elsewhere") == ["sft"]


def test_what_is_there_already_is_not_sent_again_and_what_is_newer_takes_its_place(tmp_path: Path) -> None:
    folder, storage = published(tmp_path / "sft", one="1", two="2"), Storage.at(f"file://{tmp_path}/store")
    storage.keep(folder)
    there = tmp_path / "store" / "sft" / "one.txt"
    before = there.stat().st_mtime_ns
    storage.keep(folder)
    assert there.stat().st_mtime_ns == before
    storage.keep(published(tmp_path / "sft", one="newer"))
    assert there.read_text(encoding="utf-8") == "newer"
    assert not there.with_name("two.txt").exists()


def test_what_is_damaged_there_is_said_and_gets_no_name_here(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "store"))
    storage.keep(published(tmp_path / "sft", one="1"))
    (tmp_path / "store" / "sft" / "one.txt").write_text("2", encoding="utf-8")
    with pytest.raises(BadInput, match=r"store/sft: expected the files of its manifest, got others"):
        storage.fetch("sft", tmp_path / "here" / "sft")
    assert os.listdir(tmp_path / "here") == []


@pytest.mark.parametrize("name", ["../outside", "/outside", "part/../../outside", ""])
def test_no_name_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    there = tmp_path / "store" / "sft"
    there.mkdir(parents=True)
    (there / "manifest.json").write_text(json.dumps({"files": {name: "0"}}), encoding="utf-8")
    with pytest.raises(BadInput, match="expected the name of a file within its folder"):
        Storage.at(str(tmp_path / "store")).fetch("sft", tmp_path / "here" / "sft")
    assert not (tmp_path / "here" / "outside").exists()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://key:secret@bucket/runs", "expected an address without a password"),
        ("ftp://host/runs", r"expected a place that can be read and written at ftp://host/runs, got: Unrecognized"),
    ],
)
def test_an_address_that_cannot_be_used_is_named_without_its_password(address: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        Storage.at(address)
    assert "secret" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(BadInput, match=r"storage: expected a place that can be read and written at .*file"):
        Storage.at(str(tmp_path / "file" / "store")).keep(published(tmp_path / "sft", one="1"))


def test_killed_at_any_operation_a_kept_folder_is_the_newer_or_none(tmp_path: Path) -> None:
    newer, store, deaths = published(tmp_path / "newer" / "sft", one="newer"), tmp_path / "store", 0

    def begin() -> None:
        shutil.rmtree(store, ignore_errors=True)
        mortal(store).keep(published(tmp_path / "older" / "sft", one="older", two="2"))

    for was_killed in each_death(begin, lambda _, dies_at: mortal(store, dies_at).keep(newer)):
        deaths += was_killed
        for name in mortal(store).finished():
            mortal(store).fetch(name, tmp_path / "here" / name)  # raises where it is torn
            text = (tmp_path / "here" / name / "one.txt").read_text(encoding="utf-8")
            assert text == "newer" or was_killed
        mortal(store).keep(newer)
        mortal(store).fetch("sft", tmp_path / "here" / "sft")
        assert (tmp_path / "here" / "sft" / "one.txt").read_text(encoding="utf-8") == "newer"
    assert deaths > 10


def going_on(folder: Path, step: int) -> Path:
    """A stage that has made so many steps: a checkpoint of each of the last two, and a line for every step."""
    (folder / "result").mkdir(parents=True, exist_ok=True)
    (folder / "result" / "metrics").write_text("x" * step, encoding="utf-8")
    for number in (step - 1, step):
        place = folder / "scratch" / f"step-{number}"
        if not place.exists():
            published(place, state=str(number))
    shutil.rmtree(folder / "scratch" / f"step-{step - 2}", ignore_errors=True)
    (folder / "scratch" / ".tmp-step").mkdir(exist_ok=True)
    (folder / "scratch" / ".tmp-step" / "half").write_text("half", encoding="utf-8")
    return folder


def test_killed_at_any_operation_a_mirror_holds_a_checkpoint_and_what_belongs_to_it(tmp_path: Path) -> None:
    store, found = tmp_path / "store", set()

    def begin() -> Path:
        shutil.rmtree(store, ignore_errors=True)
        shutil.rmtree(tmp_path / ".unfinished", ignore_errors=True)
        folder = going_on(tmp_path / ".unfinished", 3)
        mortal(store).mirror(folder)
        return going_on(folder, 4)

    for _ in each_death(begin, lambda folder, dies_at: mortal(store, dies_at).mirror(folder)):
        here = tmp_path / "here" / ".unfinished"
        mortal(store).fetch_mirrored(".unfinished", here)
        whole = [int(place.name[-1]) for place in (here / "scratch").glob("step-*") if is_whole(place)]
        newest = max(whole)
        assert len((here / "result" / "metrics").read_text(encoding="utf-8")) >= newest
        assert not list(here.rglob("half"))
        found.add(newest)
    assert newest == 4
    assert found == {3, 4}


def counts_to_three(run: Run, folder: Path) -> None:
    """A stage that is interrupted after every step but the third."""
    count = scratch_of(folder) / "count"
    count.parent.mkdir(exist_ok=True)
    said = (count.read_text(encoding="utf-8") if count.exists() else "") + "x"
    count.write_text(said, encoding="utf-8")
    run.store_unfinished(folder)
    if len(said) < 3:
        raise KeyboardInterrupt
    (folder / "said").write_text(said, encoding="utf-8")


def test_a_run_goes_on_wherever_its_storage_can_be_reached(tmp_path: Path) -> None:
    log: list[str] = []

    def first(run: Run, folder: Path) -> None:
        log.append("first")
        (folder / "file").write_text("1", encoding="utf-8")
        (folder / "README.md").write_text("card", encoding="utf-8")

    stages = [Stage("first", (), (), first), Stage("second", ("first",), (), counts_to_three, resumes=True)]
    for machine in range(3):
        config = RunConfig(folder=str(tmp_path / f"machine-{machine}"), storage=str(tmp_path / "store"), cluster="none")
        try:
            with open_run(config) as run:
                for stage in stages:
                    run.perform(stage)
        except KeyboardInterrupt:
            continue
    assert log == ["first"]
    assert run.path("second", "said").read_text(encoding="utf-8") == "xxx"
    kept = tmp_path / "store" / "seed-0"
    assert sorted(os.listdir(kept)) == ["config.yaml", "first", "second"]
    assert sorted(os.listdir(kept / "first")) == ["file", "manifest.json"]
    with open_run(config.model_copy(update={"folder": str(tmp_path / "reader")})) as run:
        assert run.path("second", "said").is_file()
        assert run.perform(stages[1]) is False


def test_a_storage_that_is_named_late_gets_what_had_been_finished(tmp_path: Path) -> None:
    config = RunConfig(folder=str(tmp_path / "run"), cluster="none")
    with open_run(config):
        published(tmp_path / "run" / "seed-0" / "sft", one="1")
    with open_run(config.model_copy(update={"storage": str(tmp_path / "store")})) as run:
        assert run.storage and run.storage.finished() == ["sft"]
    run.storage.fetch("sft", tmp_path / "here" / "sft")
