"""The doctor looks at a local Ray, and says what is there and what lacks."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from rlhf_ray.config import check
from rlhf_ray.distributed.connection import connect
from rlhf_ray.distributed.readiness import Finding, examine, token_source
from rlhf_ray.runs import RunConfig

from jobs import doctor
from jobs.ending import USER_MISTAKE, guarded


@pytest.fixture(scope="module", autouse=True)
def ray_connection() -> Iterator[None]:
    connect()
    yield
    ray.shutdown()


def found(tmp_path: Path, **more: object) -> dict[str, Finding]:
    values = {"folder": str(tmp_path / "run"), "cluster": {"threads_each": 1}} | more
    return {finding.name: finding for finding in examine(check(RunConfig, values, "test"))}


def test_what_a_run_needs_is_held_against_what_there_is(tmp_path: Path) -> None:
    all_of_it = found(tmp_path, storage=str(tmp_path / "kept"))
    assert [finding for finding in all_of_it.values() if finding.wrong] == []
    assert "ray 2." in all_of_it["versions"].said
    assert all_of_it["plan"].said == "1 sampler, 1 scorer, 1 learner on 1 seat(s)"
    assert all_of_it["CPU"].said.startswith("need 1, have ")
    assert all_of_it["shared"].said == "the folder is seen by all 1 machine(s)"
    assert all_of_it["same"].said == "all have these versions"
    assert all_of_it["ports"].said.endswith("which asks for the token")
    assert "can be written" in all_of_it["storage"].said
    assert [path.name for path in (tmp_path / "run").rglob("*") if path.is_file()] == []


def test_seats_without_room_are_wrong_and_where_machines_join_they_are_not(tmp_path: Path) -> None:
    cluster = {"samplers": 300, "threads_each": 1}
    room = found(tmp_path, cluster=cluster)["room"]
    assert room.wrong
    assert room.said.startswith("need 300 CPUs (300 seat(s) with threads_each=1), have ")
    assert not found(tmp_path, cluster=cluster | {"grows": True})["room"].wrong


def test_places_that_cannot_be_written_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    below = str(tmp_path / "file" / "run")
    all_of_it = found(tmp_path, folder=below, storage=below, cluster="none")
    assert {name for name, finding in all_of_it.items() if finding.wrong} == {"folder", "storage"}


def test_a_base_that_cannot_read_what_is_asked_is_wrong(tmp_path: Path) -> None:
    sampling = {"prompt_tokens": 100, "response_tokens": 2000}
    all_of_it = found(tmp_path, cluster="none", sampling=sampling, reward={"most_tokens": 3000})
    assert all_of_it["base"].wrong
    assert "expected prompt_tokens + response_tokens of at most" in all_of_it["base"].said


def test_a_token_that_others_can_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert token_source() == "none"
    (tmp_path / "token").write_text("secret", encoding="utf-8")
    (tmp_path / "token").chmod(0o644)
    assert token_source() == f"{tmp_path}/token, which others can read (chmod 600)"
    (tmp_path / "token").chmod(0o600)
    assert token_source() == f"{tmp_path}/token"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    assert token_source() == "RAY_AUTH_TOKEN"


def test_the_job_ends_as_all_jobs_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for folder, code in ((tmp_path / "run", 0), (tmp_path / "file" / "run", USER_MISTAKE)):
        words = ["jobs/doctor.py", "configs/rca/tiny.yaml", "cluster=none", f"folder={folder}"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            guarded(doctor.main)
        assert ended.value.code == code
    said = capsys.readouterr()
    assert "ok  plan      one process of" in said.out
    assert "no  folder    " in said.out
    assert said.err == "error: configs/rca/tiny.yaml: expected what the run needs, got no to folder\n"
