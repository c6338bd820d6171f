"""PPO is killed again and again, in any of its processes, and ends with the bits of a run that nobody disturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SEED = 11  # of the kills
VICTIMS = {0: ("driver", "Colocated"), 1: ("driver", "Sampler", "Scorer", "Learner")}  # by ppo.lead
KILLS = int(os.environ.get("RLHF_RAY_KILLS", "0"))  # 0: one of each
STEPS = 40
CONFIG = {
    "seed": 5,
    "world": {"corpus": 60, "train_prompts": 60, "heldout_prompts": 12, "heldout_wordings": 6},
    "collection": {"samples": 48, "statements": 80, "heldout": 12},
    "sampling": {"prompt_tokens": 80, "response_tokens": 80, "rows": 8},
    "reward": {"epochs": 1},
    "learning": {"minibatch": 8},
    "ppo": {"steps": STEPS, "episodes": 16},
    "save_every": 3,
    "returns": {"kl_target": 1.0, "kl_horizon": 100},
}


def write_config(folder: Path, **more) -> Path:
    path = folder / "run.yaml"
    values = CONFIG | {"folder": str(folder / "run"), "cluster": {"threads_each": 1}} | more
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def start(job: str, config: Path, log: Path) -> subprocess.Popen:
    with open(log, "a", encoding="utf-8") as file:
        return subprocess.Popen(
            [sys.executable, "-m", f"jobs.{job}", str(config)],
            cwd=ROOT,
            stdout=file,
            stderr=file,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def family(process: subprocess.Popen, role: str) -> Iterator[psutil.Process]:
    """The driver, or those of its own descendants that are actors of the role: nobody else is ever killed."""
    driver = psutil.Process(process.pid)
    if role == "driver":
        yield driver
        return
    for child in driver.children(recursive=True):
        try:
            if child.cmdline()[:1] and child.cmdline()[0].startswith(f"ray::{role}"):
                yield child
        except psutil.NoSuchProcess:
            continue


def result(folder: Path) -> tuple[str, str, list[str]]:
    """Digest of the policy, the metrics, and the digests of all rollouts in order."""
    manifest = json.loads((folder / "ppo" / "manifest.json").read_text(encoding="utf-8"))
    files = manifest["files"]
    return files["policy/model.safetensors"], files["metrics.jsonl"], [files["rollouts.parquet"]]


@pytest.fixture(scope="module", params=[0, 1], ids=["in turn", "ahead"])
def ppo(request: pytest.FixtureRequest) -> dict[str, int]:
    return CONFIG["ppo"] | {"lead": request.param}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, ppo: dict[str, int]) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    config = write_config(folder, ppo=ppo)
    for job in ("synthesize", "train_sft", "collect_thumbs", "train_reward", "train_ppo"):
        assert start(job, config, folder / "log").wait(timeout=600) == 0, (folder / "log").read_text()[-3000:]
    return folder / "run" / "seed-5"


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(
    undisturbed: Path, ppo: dict[str, int], tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    config = write_config(tmp_path, ppo=ppo)
    run = tmp_path / "run" / "seed-5"
    run.mkdir(parents=True)
    for stage in ("world", "sft", "thumbs", "reward"):
        subprocess.run(["cp", "-r", undisturbed / stage, run / stage], check=True)
    roles = VICTIMS[ppo["lead"]]
    victims = [roles[number % len(roles)] for number in range(KILLS or len(roles))]
    chance.shuffle(victims)
    log = tmp_path / "log"
    process, hit = start("train_ppo", config, log), 0
    for number, victim in enumerate(victims, start=1):
        process = wait_for_step(number * STEPS // (len(victims) + 1), process, config, run, log)
        time.sleep(chance.uniform(0, 1))
        targets = list(family(process, victim))
        hit += len(targets)
        process = kill(targets, process, config, log)
    assert hit >= len(victims)
    process = wait_for_step(STEPS, process, config, run, log)  # and once more while it puts its results together
    process = kill([psutil.Process(process.pid)], process, config, log)
    assert process.wait(timeout=600) == 0, log.read_text()[-3000:]
    assert result(run) == result(undisturbed)
    steps = [json.loads(line)["step"] for line in (run / "ppo" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, STEPS + 1))
    assert not list(run.glob(".unfinished-*"))


def kill(targets: list[psutil.Process], driver: subprocess.Popen, config: Path, log: Path) -> subprocess.Popen:
    """Kill them; the driver is begun again, as a person would."""
    for target in targets:
        target.send_signal(signal.SIGKILL)
    if driver.pid not in [target.pid for target in targets]:
        return driver
    driver.wait(timeout=60)
    return start("train_ppo", config, log)


def wait_for_step(step: int, process: subprocess.Popen, config: Path, run: Path, log: Path) -> subprocess.Popen:
    """Until this step, which no attempt had come to before, is written down; a driver that gave up is begun again."""
    deadline = time.monotonic() + 240
    while count_steps(run) < step:
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        if process.poll() not in (None, 0):
            process = start("train_ppo", config, log)
        assert process.poll() is None, "the run ended before all kills were done: give it more steps"
        time.sleep(0.05)
    return process


def count_steps(run: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in run.glob(".unfinished-ppo-*/result/metrics.jsonl"))
