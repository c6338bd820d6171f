"""What an operator types to turn what is served to another run, and back."""

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_ray.client import Client
from tests.serve.house import House, serving
from tests.serve.listening import listening
from tests.serve.runs import save_runs
from tests.serve.served import free_port

from serve.keys import Keys, issue


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, policy_folder: str) -> Path:
    return save_runs(tmp_path_factory.mktemp("runs"), policy_folder, 2)


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    return {scope: issue(tmp_path / "keys", scope, [scope]) for scope in ("admin", "generate")}


@pytest.fixture
def url(runs: Path, tmp_path: Path, keys: dict[str, str]) -> Iterator[str]:
    """A server that wants keys."""
    house = House(serving(runs, tmp_path / "versions.json"))
    with listening(house.application(keys=Keys.read(tmp_path / "keys"))) as url:
        yield url
    house.close()


def typed(monkeypatch: pytest.MonkeyPatch, job: str, *words: str, **environment: str) -> int | str | None:
    """How the job ends."""
    monkeypatch.setattr(sys, "argv", [job, *words])
    for name in ("RLHF_RAY_KEY", "RLHF_RAY_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        runpy.run_module(job, run_name="__main__")
    return end.value.code


def test_a_run_is_promoted_and_rolled_back(url, keys, runs, tmp_path, monkeypatch, capfd) -> None:
    admin = Client(url, keys["admin"])
    before = {model["id"]: model["version"] for model in admin.models()}
    monkeypatch.chdir(runs)  # a run is named from where one stands
    assert typed(monkeypatch, "jobs.promote", "run-2", url, RLHF_RAY_KEY=keys["admin"]) == 0
    after = {model["id"]: model["version"] for model in admin.models()}
    assert after["tuned"] != before["tuned"] and after["sft"] == before["sft"]
    said = capfd.readouterr()
    assert f"tuned: {after['tuned']}\n" in said.out
    assert said.err == f"of {runs / 'run-2'}\n"
    (tmp_path / "key").write_text(f"{keys['admin']}\n", encoding="utf-8")
    assert typed(monkeypatch, "jobs.rollback", url, RLHF_RAY_KEY_FILE=str(tmp_path / "key")) == 0
    assert {model["id"]: model["version"] for model in admin.models()} == before
    said = capfd.readouterr()
    assert f"tuned: {before['tuned']}\n" in said.out and said.err == "of the serving file\n"
    assert typed(monkeypatch, "jobs.rollback", url, RLHF_RAY_KEY=keys["admin"]) == 2
    assert capfd.readouterr().err.startswith(f"error: {url}: 409: expected something to go back to")


def test_what_cannot_be_done_is_one_line_and_changes_nothing(url, keys, monkeypatch, capfd) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setattr("jobs.admin.Client", lambda url, key, timeout_s: Client(url, key, tries=1))
    for words, key, expected in (
        (["no-run", url], keys["admin"], f"{url}: 409: run: expected the folder of a finished run"),
        (["run-2", url], keys["generate"], f"{url}: 403: "),
        (["run-2", url], "", f"{url}: 401: "),
        (["run-2", nobody], "", f"{nobody}: expected a server that answers, got: "),
        ([], "", "expected python -m jobs.promote RUN [URL], got 0 words"),
    ):
        assert typed(monkeypatch, "jobs.promote", *words, RLHF_RAY_KEY=key) == 2
        said = capfd.readouterr()
        assert said.err.startswith(f"error: {expected}") and said.err.count("\n") == 1 and not said.out
        assert not key or key not in said.err
    assert typed(monkeypatch, "jobs.rollback", url, RLHF_RAY_KEY_FILE="/no/key") == 2
    assert capfd.readouterr().err.startswith("error: RLHF_RAY_KEY_FILE: expected a file with a key at /no/key")
    assert Client(url, keys["admin"]).versions()["history"] == []
