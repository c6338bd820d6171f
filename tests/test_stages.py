"""A stage appears whole or not at all, and is done again only when its settings or inputs changed."""

import os

import pytest

from rlhf_ray.config import BadInput
from rlhf_ray.runs import RunConfig
from rlhf_ray.stages import Run, Stage, open_run, scratch_of


@pytest.fixture
def run(tmp_path):
    with open_run(RunConfig(folder=str(tmp_path), cluster="none")) as run:
        yield run


def writes(text: str, log: list[str]):
    def work(run: Run, folder) -> None:
        log.append(text)
        (folder / "part").mkdir()
        (folder / "part" / "file.txt").write_text(text, encoding="utf-8")

    return work


def test_a_finished_stage_is_skipped(run):
    log: list[str] = []
    stage = Stage("one", (), ("world",), writes("hello", log))
    assert run.perform(stage) is True
    assert run.perform(stage) is False
    assert log == ["hello"]
    assert run.path("one", "part", "file.txt").read_text(encoding="utf-8") == "hello"


def test_other_settings_do_the_stage_again_and_other_stages_settings_do_not(run):
    log: list[str] = []
    stage = Stage("one", (), ("ppo",), writes("hello", log))
    run.perform(stage)
    unrelated = Run(run.config.model_copy(update={"world": run.config.world.model_copy(update={"corpus": 7})}))
    assert unrelated.perform(stage) is False
    for change, times in (({"seed": 1}, 2), ({"ppo": run.config.ppo.model_copy(update={"steps": 99})}, 3)):
        other = Run(run.config.model_copy(update=change))
        os.makedirs(other.folder, exist_ok=True)
        other.perform(stage)
        assert len(log) == times


def test_a_changed_input_does_the_stages_that_read_it_again(run):
    log: list[str] = []
    second = Stage("two", ("one",), (), writes("second", log))
    run.perform(Stage("one", (), ("world",), writes("a", [])))
    run.perform(second)
    assert run.perform(second) is False
    run.path("one", "part", "file.txt").unlink()
    run.perform(Stage("one", (), ("world",), writes("b", [])))
    assert run.perform(second) is True


@pytest.mark.parametrize("damage", ["changed", "missing", "extra"])
def test_an_input_that_is_not_what_its_stage_left_is_an_error_and_nothing_is_made_of_it(run, damage):
    log: list[str] = []
    second = Stage("two", ("one",), (), writes("second", log))
    run.perform(Stage("one", (), (), writes("a", [])))
    file = run.path("one", "part", "file.txt")
    if damage == "missing":
        file.unlink()
    else:
        file.with_name("file.txt" if damage == "changed" else "more.txt").write_text("b", encoding="utf-8")
    with pytest.raises(BadInput, match=r"one: expected the files that the stage 'one' left, got others"):
        run.perform(second)
    assert log == []
    assert not run.path("two").exists()


def test_what_a_stage_reads_from_elsewhere_does_it_again_when_it_changed(run):
    log: list[str] = []
    elsewhere = {"file": "a"}
    stage = Stage("one", (), (), writes("hello", log), outside=lambda config: elsewhere)
    run.perform(stage)
    assert run.perform(stage) is False
    elsewhere["file"] = "b"
    assert run.perform(stage) is True


def test_a_stage_that_resumes_and_did_nothing_leaves_nothing(run):
    def work(run, folder):
        raise BadInput("not even begun")

    with pytest.raises(BadInput):
        run.perform(Stage("one", (), (), work, resumes=True))
    assert not list(run.folder.glob(".unfinished-*"))


@pytest.mark.parametrize("damage", ["changed", "missing", "extra"])
def test_a_damaged_stage_is_done_again(run, damage):
    stage = Stage("one", (), (), writes("hello", log := []))
    run.perform(stage)
    file = run.path("one", "part", "file.txt")
    if damage == "changed":
        file.write_text("hellO", encoding="utf-8")
    elif damage == "missing":
        file.unlink()
    else:
        run.path("one", "other.txt").write_text("?", encoding="utf-8")
    assert run.perform(stage) is True
    assert len(log) == 2


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_a_stage_that_fails_leaves_nothing_and_keeps_what_was_there(run, error):
    run.perform(Stage("one", (), ("world",), writes("kept", [])))

    def fail(run, folder):
        (folder / "half").write_text("half", encoding="utf-8")
        raise error

    other = Run(run.config.model_copy(update={"world": run.config.world.model_copy(update={"corpus": 7})}))
    with pytest.raises(type(error)):
        other.perform(Stage("one", (), ("world",), fail))
    assert run.path("one", "part", "file.txt").read_text(encoding="utf-8") == "kept"
    assert not list(run.folder.glob(".tmp-*"))


def test_what_a_killed_run_left_is_swept(run):
    litter = run.folder / ".tmp-one"
    litter.mkdir()
    (litter / "half").write_text("half", encoding="utf-8")
    run.perform(Stage("one", (), (), writes("hello", [])))
    assert not litter.exists()
    assert not run.path("one", "half").exists()


def test_a_missing_input_is_named(run):
    with pytest.raises(BadInput, match="expected the finished stage 'one', found none"):
        run.perform(Stage("two", ("one",), (), writes("x", [])))


def test_two_processes_do_not_share_a_run(run):
    with pytest.raises(BadInput, match="another process holds it"), open_run(run.config):
        pass


def test_a_model_card_written_later_is_no_damage(run):
    stage = Stage("one", (), (), writes("hello", []))
    run.perform(stage)
    run.path("one", "README.md").write_text("# Card", encoding="utf-8")
    assert run.perform(stage) is False


def test_a_manifest_says_what_it_cost(run):
    run.perform(Stage("one", (), (), writes("hello", [])))
    manifest = run.manifest("one")
    assert manifest["seconds"] >= 0
    assert manifest["peak_bytes"] > 10 * 2**20
    assert set(manifest["files"]) == {"part/file.txt"}


def test_a_stage_that_resumes_finds_what_it_had_done_and_scratch_is_no_part_of_it(run):
    def work(run, folder):
        scratch = scratch_of(folder)
        scratch.mkdir(exist_ok=True)
        with open(scratch / "log", "a", encoding="utf-8") as log:
            log.write("x")
        (folder / "log").write_text((scratch / "log").read_text(encoding="utf-8"), encoding="utf-8")
        if (scratch / "log").stat().st_size < 3:
            raise KeyboardInterrupt

    stage = Stage("one", (), (), work, resumes=True)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run.perform(stage)
        assert not run.path("one").exists()
    run.perform(stage)
    assert run.path("one", "log").read_text(encoding="utf-8") == "xxx"
    assert set(run.manifest("one")["files"]) == {"log"}
    assert not list(run.folder.glob(".unfinished-*"))


def test_a_stage_with_other_settings_does_not_go_on_where_this_one_was(run):
    def work(run, folder):
        scratch_of(folder).mkdir()  # it must not be there
        raise KeyboardInterrupt

    for corpus in (7, 8):
        world = run.config.world.model_copy(update={"corpus": corpus})
        other = Run(run.config.model_copy(update={"world": world}))
        with pytest.raises(KeyboardInterrupt):
            other.perform(Stage("one", (), ("world",), work, resumes=True))


def test_what_a_kill_left_behind_a_finished_stage_is_swept(run):
    stage = Stage("one", (), (), writes("hello", []), resumes=True)
    run.perform(stage)
    litter = run.folder / f".unfinished-one-{run.manifest('one')['key'][:8]}" / "scratch"
    litter.mkdir(parents=True)
    assert run.perform(stage) is False
    assert not litter.parent.exists()
