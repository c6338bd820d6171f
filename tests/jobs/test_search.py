"""A whole search on Ray: what it leaves, that PPO uses it, and that kills change nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

CONFIG = {
    "seed": 5,
    "world": {"corpus": 60, "train_prompts": 60, "heldout_prompts": 12, "heldout_wordings": 6},
    "collection": {"samples": 48, "statements": 80, "heldout": 12},
    "sampling": {"prompt_tokens": 80, "response_tokens": 80},
    "learning": {"minibatch": 8},
    "ppo": {"steps": 2, "episodes": 16},
    "evaluation": {"demo_samples": 2},
    "reward": {"epochs": 1},
    "cluster": {"threads_each": 1},
    "search": {
        "name": "small",
        "trials": 5,
        "concurrent": 1,  # so that nothing depends on who comes first
        "confirm": 1,
        "keep": 2,
        "validation": {"share": 0.2},
        "space": {"lr": {"low": 1e-4, "high": 1e-3, "log": True}, "epochs": {"low": 1, "high": 2}},
    },
}
TABLE = ("ending", "objective", "epochs_done", "lr", "epochs")


def write_config(folder: Path) -> Path:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"folder": str(folder / "run")}), encoding="utf-8")
    return path


def start(job: str, config: Path, *words: str) -> subprocess.Popen:
    with open(config.parent / "log", "a", encoding="utf-8") as log:
        command = [sys.executable, "-m", f"jobs.{job}", str(config), *words]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)


def table(run: Path) -> list[dict[str, Any]]:
    return pq.read_table(run / "search-small" / "trials.parquet").select(TABLE).to_pylist()


def result(run: Path) -> dict[str, Any]:
    return json.loads((run / "search-small" / "search.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = write_config(tmp_path_factory.mktemp("search"))
    assert start("search_reward", config).wait(timeout=900) == 0, (config.parent / "log").read_text()[-3000:]
    return config


def test_it_leaves_a_table_a_plot_and_the_best_models_of_which_none_is_worse_than_the_default(
    undisturbed: Path,
) -> None:
    run = undisturbed.parent / "run" / "seed-5"
    rows, found = table(run), result(run)
    assert len(rows) == 5
    assert (rows[0]["lr"], rows[0]["epochs"], rows[0]["ending"]) == (2e-4, 1, "finished")
    assert found["best"]["objective"] >= found["default"]["objective"]
    assert found["best"]["objective"] == max(row["objective"] for row in rows if row["ending"] == "finished")
    left = {path.name for path in (run / "search-small").iterdir()}
    assert left >= {"trials.parquet", "trials.md", "trials.svg", "search.json", "best"}
    assert not list(run.glob(".unfinished-*"))


def test_the_pipeline_uses_it_by_its_name_alone(undisturbed: Path) -> None:
    done = start("pipeline", undisturbed, "reward=search:small").wait(timeout=900)
    assert done == 0, (undisturbed.parent / "log").read_text()[-3000:]
    run = undisturbed.parent / "run" / "seed-5"
    models = [run / "search-small" / "best" / "model.safetensors", run / "reward" / "model.safetensors"]
    assert models[0].read_bytes() == models[1].read_bytes()
    assert (run / "report" / "index.html").is_file()


@pytest.mark.parametrize("victim", ["driver", "trial"])
def test_a_search_that_is_killed_goes_on_and_finds_what_it_would_have_found(
    undisturbed: Path, tmp_path: Path, victim: str
) -> None:
    config, run = write_config(tmp_path), tmp_path / "run" / "seed-5"
    run.mkdir(parents=True)
    for stage in ("world", "sft", "thumbs"):
        subprocess.run(["cp", "-r", undisturbed.parent / "run" / "seed-5" / stage, run / stage], check=True)
    process = start("search_reward", config)
    for trial in ("001", "003"):
        wait_for(run, trial, process, config)
        for target in targets(process, victim):
            target.send_signal(signal.SIGKILL)
        if victim == "driver":
            process.wait(timeout=60)
            process = start("search_reward", config)
    assert process.wait(timeout=900) == 0, (tmp_path / "log").read_text()[-3000:]
    assert table(run) == table(undisturbed.parent / "run" / "seed-5")
    assert result(run)["confirm"] == result(undisturbed.parent / "run" / "seed-5")["confirm"]


def wait_for(run: Path, trial: str, process: subprocess.Popen, config: Path) -> None:
    """Until the trial has begun."""
    deadline = time.monotonic() + 400
    while not list(run.glob(f".unfinished-search-small-*/scratch/trials/{trial}/trial.json")):
        assert time.monotonic() < deadline, (config.parent / "log").read_text()[-3000:]
        assert process.poll() is None, (config.parent / "log").read_text()[-3000:]
        time.sleep(0.1)


def targets(process: subprocess.Popen, victim: str) -> list[psutil.Process]:
    """The driver, or those of its own descendants in which a trial runs: nobody else is ever killed."""
    driver = psutil.Process(process.pid)
    if victim == "driver":
        return [driver]
    found = []
    for child in driver.children(recursive=True):
        try:
            found += [child] if child.cmdline()[:1] and child.cmdline()[0].startswith("ray::ImplicitFunc") else []
        except psutil.NoSuchProcess:
            continue
    assert found
    return found
