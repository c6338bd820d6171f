"""A machine is gone with its disk, and its run goes on elsewhere from what S3 has, to the same bits."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
import yaml
from pyarrow.fs import FileSelector, FileSystem, FileType

from tests.environments import environment
from tests.serve.served import free_port

ROOT = Path(__file__).parent.parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = 6
CONFIG = {
    "seed": 5,
    "world": {"corpus": 60, "train_prompts": 60, "heldout_prompts": 12, "heldout_wordings": 6},
    "collection": {"samples": 48, "statements": 80, "heldout": 12, "probes": 2},
    "sampling": {"prompt_tokens": 80, "response_tokens": 80, "rows": 8},
    "reward": {"epochs": 1},
    "learning": {"minibatch": 8},
    "ppo": {"steps": STEPS, "episodes": 16},
    "evaluation": {"demo_samples": 2},
    "save_every": 2,
    "cluster": "none",
}


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a bucket on a server of this machine that speaks S3's protocol."""
    python = environment(tmp_path / "environment", "moto[server]")
    port = str(free_port())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nobody knows")
    server = subprocess.Popen(
        [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", port],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        made = urllib3.request("PUT", f"http://127.0.0.1:{port}/kept", retries=urllib3.Retry(20, backoff_factor=0.2))
        assert made.status == 200
        yield f"s3://kept/runs?scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1"
    finally:
        server.terminate()
        server.wait(20)


def start(machine: Path, **more: str) -> subprocess.Popen:
    machine.mkdir()
    config = machine / "run.yaml"
    config.write_text(yaml.safe_dump(CONFIG | {"folder": str(machine / "run")} | more), encoding="utf-8")
    with open(machine / "log", "w", encoding="utf-8") as log:
        command, variables = [sys.executable, "-m", "jobs.pipeline", str(config)], os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=variables)


def said(machine: Path) -> str:
    return (machine / "log").read_text(encoding="utf-8")


def steps_begun(machine: Path) -> int:
    files = (machine / "run" / "seed-5").glob(".unfinished-ppo-*/result/metrics.jsonl")
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)


def digests_of(machine: Path) -> dict[str, str]:
    """Of policy, metrics and rollouts, and of both models' answers with their judgements."""
    run = machine / "run" / "seed-5"
    files = {stage: json.loads((run / stage / "manifest.json").read_text())["files"] for stage in ("ppo", "report")}
    names = ("policy/model.safetensors", "metrics.jsonl", "rollouts.parquet")
    return {name: files["ppo"][name] for name in names} | {"answers": files["report"]["answers.parquet"]}


def test_a_run_whose_machine_is_gone_goes_on_from_s3_alone_to_the_same_bits(bucket: str, tmp_path: Path) -> None:
    assert start(tmp_path / "undisturbed").wait(300) == 0, said(tmp_path / "undisturbed")[-3000:]

    first = start(tmp_path / "first", storage=bucket)
    while steps_begun(tmp_path / "first") < STEPS - 2:
        assert first.poll() is None, said(tmp_path / "first")[-3000:]
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait(60)
    assert not (tmp_path / "first" / "run" / "seed-5" / "ppo").exists()
    shutil.rmtree(tmp_path / "first")

    assert start(tmp_path / "second", storage=bucket).wait(300) == 0, said(tmp_path / "second")[-3000:]
    assert said(tmp_path / "second").count("unchanged, skipped") == 4
    assert f"ppo        step {STEPS}/" in said(tmp_path / "second")
    assert "ppo        step 1/" not in said(tmp_path / "second"), "it begins at a checkpoint"
    assert digests_of(tmp_path / "second") == digests_of(tmp_path / "undisturbed")

    files, root = FileSystem.from_uri(bucket)
    found = files.get_file_info(FileSelector(f"{root}/seed-5", recursive=True))
    there = {info.path.removeprefix(f"{root}/seed-5/") for info in found if info.type == FileType.File}
    assert {f"{stage}/manifest.json" for stage in ("world", "sft", "thumbs", "reward", "ppo", "report")} <= there
    assert not [name for name in there if name.startswith(".")], "what was unfinished is gone when it is finished"
