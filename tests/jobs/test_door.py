"""A user's mistake is one line on standard error and exit code 2; nothing half-written remains."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from rlhf_ray.config import load
from rlhf_ray.runs import RunConfig
from rlhf_ray.stages import Run, Stage

from jobs import collect_thumbs, synthesize, train_ppo, train_reward, train_sft
from jobs.door import perform
from jobs.ending import INTERRUPTED, TRIPPED, USER_MISTAKE

ROOT = Path(__file__).parent.parent.parent
SMALL = {"corpus": 40, "train_prompts": 40, "heldout_prompts": 8, "heldout_wordings": 4}


@pytest.fixture
def config(tmp_path, model_folder):
    """A config for the tiny random model, everything in one process."""
    path = tmp_path / "run.yaml"
    values = {
        "folder": str(tmp_path / "run"),
        "base": str(model_folder),
        "cluster": "none",
        "world": SMALL,
        "sampling": {"prompt_tokens": 300, "response_tokens": 4},
        "reward": {"most_tokens": 600},
    }
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture
def call(config, monkeypatch, capsys):
    """Calls a job's stages as the command line would; gives the exit code and what was said."""

    def call(*stages, overrides=()):
        monkeypatch.setattr(sys, "argv", ["jobs/x.py", str(config), *overrides])
        with pytest.raises(SystemExit) as ended:
            perform(stages)
        return ended.value.code, capsys.readouterr().err

    return call


def assert_one_line(code: int, said: str, *expected: str) -> None:
    assert code == USER_MISTAKE
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, said
    assert "Traceback" not in said
    for part in expected:
        assert part in lines[0], lines[0]


def test_an_unknown_key(call):
    code, said = call(synthesize.STAGE, overrides=["world.corpsu=3"])
    assert_one_line(code, said, "world.corpsu: unknown key, did you mean 'corpus'?")


def test_a_base_that_is_not_there(call, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    code, said = call(synthesize.STAGE, train_sft.STAGE, overrides=[f"base={empty}"])
    assert_one_line(code, said, str(empty), "expected a model folder with config.json, found none")
    assert not (tmp_path / "run" / "seed-0" / "sft").exists()


def test_a_context_that_is_too_short(call):
    code, said = call(synthesize.STAGE, train_sft.STAGE, overrides=["sampling.prompt_tokens=590"])
    assert_one_line(code, said, "sampling: expected prompt_tokens + response_tokens of at most 511", "got 594")


def test_a_prompt_longer_than_the_width(call, tmp_path):
    code, said = call(
        synthesize.STAGE,
        train_sft.STAGE,
        collect_thumbs.STAGE,
        overrides=["sampling.prompt_tokens=5", "sampling.response_tokens=4"],
    )
    assert_one_line(code, said, "prompt: expected 1 to 5 tokens, got ")
    assert not (tmp_path / "run" / "seed-0" / "thumbs").exists()


def test_a_stage_whose_input_is_missing(call):
    code, said = call(train_reward.STAGE)
    assert_one_line(code, said, "expected the finished stage 'sft', found none; run it first")


def test_a_folder_that_cannot_be_written(call, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    code, said = call(synthesize.STAGE, overrides=[f"folder={tmp_path / 'file' / 'run'}"])
    assert_one_line(code, said, "folder: expected a place to write to")


def replace_thumbs(tmp_path, rows, cut: int = 0, pairs=()) -> None:
    """A thumbs stage that left this table, without its last bytes, and the pairs, if there are any."""

    def work(run, folder):
        pq.write_table(pa.Table.from_pylist(rows), folder / "thumbs.parquet")
        data = (folder / "thumbs.parquet").read_bytes()
        (folder / "thumbs.parquet").write_bytes(data[: len(data) - cut])
        pq.write_table(pa.Table.from_pylist(rows), folder / "samples.parquet")
        pq.write_table(pa.Table.from_pylist(rows), folder / "heldout.parquet")
        if pairs:
            pq.write_table(pa.Table.from_pylist(list(pairs)), folder / "pairs.parquet")

    Run(load(RunConfig, tmp_path / "run.yaml")).perform(Stage("thumbs", ("world", "sft"), (), work))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"prompt": "a", "completion": "b", "label": True}] * 4,
            "thumbs: label: expected both thumbs up and thumbs down, or pairs, got 4 up, 0 down and no pairs",
        ),
        (
            [{"prompt": "a", "completion": "b", "label": "yes"}] * 4,
            "parquet: row 0: label: expected bool, got 'yes'",
        ),
        (
            [{"prompt": "a", "completion": None, "label": True}],
            "parquet: row 0: completion: expected str, got None",
        ),
        (
            [{"prompt": "", "completion": "a", "label": True}],
            "thumbs.parquet: row 0: prompt: expected a text, got an empty one",
        ),
        ([{"prompt": "a", "completion": "b"}], "thumbs.parquet: expected the column 'label', got prompt, completion"),
    ],
    ids=["all up", "text for a label", "no completion", "empty prompt", "no label"],
)
def test_thumbs_that_cannot_be_used(call, tmp_path, rows, said):
    call(synthesize.STAGE, train_sft.STAGE)
    replace_thumbs(tmp_path, rows)
    code, err = call(train_reward.STAGE)
    assert_one_line(code, err, said)
    assert not (tmp_path / "run" / "seed-0" / "reward").exists()


def test_a_model_that_said_nothing_deserves_its_thumb_too(call, tmp_path):
    call(synthesize.STAGE, train_sft.STAGE)
    rows = [
        {"prompt": "a", "completion": "b" * (place % 2), "label": bool(place % 2), "kind": "x"} for place in range(8)
    ]
    replace_thumbs(tmp_path, rows)
    code, said = call(train_reward.STAGE)
    assert code == 0, said
    assert (tmp_path / "run" / "seed-0" / "reward" / "model.safetensors").is_file()


SHORT = [{"prompt": "a", "completion": "b" * (place % 3), "label": bool(place % 2), "kind": "x"} for place in range(8)]
PAIR = {"prompt": "a", "chosen": "b", "rejected": "c", "margin": 1.0}


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_a_pair_that_is_too_long(call, tmp_path, side):
    call(synthesize.STAGE, train_sft.STAGE)
    replace_thumbs(tmp_path, SHORT, pairs=[PAIR, PAIR | {side: "long " * 400}])
    code, said = call(train_reward.STAGE)
    assert_one_line(code, said, "completion: expected at most 512 tokens with its prompt")
    assert not list((tmp_path / "run" / "seed-0").glob(".unfinished-*"))


def test_pairs_are_read_beside_thumbs_and_the_base_may_get_the_head(call, tmp_path):
    call(synthesize.STAGE, train_sft.STAGE)
    replace_thumbs(tmp_path, SHORT, pairs=[PAIR])
    code, said = call(train_reward.STAGE, overrides=["reward.backbone=base"])
    assert code == 0, said
    record = json.loads((tmp_path / "run" / "seed-0" / "reward" / "training.json").read_text(encoding="utf-8"))
    assert (record["thumbs"], record["pairs"], record["settings"]["backbone"]) == (8, 1, "base")


def test_a_corrupt_table(call, tmp_path):
    call(synthesize.STAGE, train_sft.STAGE)
    rows = [{"prompt": "a", "completion": "b", "label": True}, {"prompt": "a", "completion": "c", "label": False}]
    replace_thumbs(tmp_path, rows, cut=20)
    code, said = call(train_reward.STAGE)
    assert_one_line(code, said, "thumbs.parquet: expected a Parquet file, got one that cannot be read")


def test_a_table_that_somebody_changed(call, tmp_path):
    call(synthesize.STAGE, train_sft.STAGE)
    replace_thumbs(tmp_path, [{"prompt": "a", "completion": "b", "label": bool(place % 2)} for place in range(4)])
    table = tmp_path / "run" / "seed-0" / "thumbs" / "thumbs.parquet"
    table.write_bytes(table.read_bytes()[:-20])
    code, said = call(train_reward.STAGE)
    assert_one_line(code, said, "thumbs: expected the files that the stage 'thumbs' left, got others")


def test_a_model_file_that_is_cut_off(call, tmp_path, model_folder):
    broken = tmp_path / "broken"
    shutil.copytree(model_folder, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:3000])
    code, said = call(synthesize.STAGE, train_sft.STAGE, overrides=[f"base={broken}"])
    assert_one_line(code, said, str(broken), "expected a model folder or hub name that loads")
    assert not (tmp_path / "run" / "seed-0" / "sft").exists()


def test_a_base_whose_files_changed_is_adopted_again(call, tmp_path, model_folder):
    base = tmp_path / "base"
    shutil.copytree(model_folder, base)
    words = [f"base={base}"]
    call(synthesize.STAGE, train_sft.STAGE, overrides=words)
    assert "sft: unchanged, skipped" in call(train_sft.STAGE, overrides=words)[1]
    config = base / "config.json"
    config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert "sft: unchanged, skipped" not in call(train_sft.STAGE, overrides=words)[1]


def test_a_training_that_ends_in_numbers_that_are_none_is_stopped(call, tmp_path):
    code, said = call(synthesize.STAGE, train_sft.STAGE, overrides=["sft={lr: 1e30, most_tokens: 600}"])
    assert code == TRIPPED
    assert "stopped: weights: after the training" in said
    assert not (tmp_path / "run" / "seed-0" / "sft").exists()


def test_a_recording_that_is_not_there_is_noticed_before_anything_is_done(call, tmp_path):
    code, said = call(synthesize.STAGE, overrides=[f"replay={tmp_path / 'nowhere'}"])
    assert_one_line(code, said, "replay: expected a rollouts.parquet, found none at")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["folder=runs/x"], "folder: expected a place that outlives a submitted job, an absolute path on the cluster"),
        (["folder=runs/x", "storage=../kept"], "storage: expected a place that outlives a submitted job"),
    ],
)
def test_a_submitted_job_does_not_leave_its_run_where_ray_removes_it(call, monkeypatch, words, said):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")  # as Ray's job supervisor sets it
    code, err = call(synthesize.STAGE, overrides=words)
    assert_one_line(code, err, said)


def test_a_submitted_job_that_keeps_its_stages_elsewhere_may_have_any_folder(call, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    code, err = call(synthesize.STAGE, overrides=[f"storage=file://{tmp_path}/kept"])
    assert code == 0, err
    assert (tmp_path / "kept" / "seed-0" / "world" / "manifest.json").is_file()
    assert (tmp_path / "kept" / "seed-0" / "config.yaml").is_file()


def test_help_is_no_mistake(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jobs/pipeline.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        perform([])
    assert ended.value.code == 0
    assert "usage: python -m jobs.pipeline CONFIG [key=value …]" in capsys.readouterr().out


def test_a_polite_end_is_a_ctrl_c(call, tmp_path):
    def ended(run, folder):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    code, said = call(Stage("one", (), (), ended))
    assert code == INTERRUPTED
    assert "interrupted; what had been finished is kept" in said


def test_a_polite_end_is_a_ctrl_c_also_while_ray_is_connected():
    """Ray's own handler would abort the process in the middle of its end."""
    code = """
from time import sleep
from jobs.ending import guarded
from rlhf_ray.distributed.connection import connect

def work():
    connect()
    print("connected", flush=True)
    try:
        sleep(60)
    finally:
        sleep(4)
        print("in order", flush=True)

guarded(work)
"""
    job = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert job.stdout.readline() == "connected\n"
    job.terminate()
    out, err = job.communicate(timeout=60)
    assert job.returncode == INTERRUPTED, err
    assert out == "in order\n"
    assert err.endswith("interrupted; what had been finished is kept\n")


def test_a_reward_model_of_another_vocabulary(call, tmp_path, model_folder, other_vocabulary_reward_folder):
    call(synthesize.STAGE, train_sft.STAGE)

    def work(run, folder):
        shutil.copytree(other_vocabulary_reward_folder, folder, dirs_exist_ok=True)

    Run(load(RunConfig, tmp_path / "run.yaml")).perform(Stage("reward", (), (), work))
    code, said = call(train_ppo.STAGE)
    assert_one_line(code, said, "expected the vocabulary of", "got another one")


def test_ctrl_c_says_so_and_keeps_finished_stages(call, tmp_path):
    def interrupted(run, folder):
        (folder / "half").write_text("half", encoding="utf-8")
        raise KeyboardInterrupt

    code, said = call(synthesize.STAGE, Stage("two", ("world",), (), interrupted))
    assert code == INTERRUPTED
    assert "Traceback" not in said
    run = tmp_path / "run" / "seed-0"
    assert (run / "world" / "manifest.json").is_file()
    assert sorted(p.name for p in run.iterdir()) == [".lock", "config.yaml", "world"]


def test_the_command_line_itself(tmp_path):
    command = [sys.executable, "-m", "jobs.pipeline", str(tmp_path / "missing.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == USER_MISTAKE
    assert "missing.yaml: expected a YAML file, found none" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_thumb_longer_than_the_reward_model_reads(call, tmp_path):
    call(synthesize.STAGE, train_sft.STAGE)
    replace_thumbs(
        tmp_path, [{"prompt": "a", "completion": "b" * 5000 * (i % 2) + "c", "label": i % 2 == 0} for i in range(4)]
    )
    code, said = call(train_reward.STAGE)
    assert_one_line(code, said, "completion: expected at most 512 tokens with its prompt, got ")


def test_a_corpus_longer_than_sft_reads(call):
    code, said = call(synthesize.STAGE, train_sft.STAGE, overrides=["sft={most_tokens: 9}"])
    assert_one_line(code, said, "completion: expected at most 9 tokens with its prompt, got ")


@pytest.mark.parametrize("words", [("one", "two"), ("--steps",)])
def test_pretraining_wants_one_folder_at_most(tmp_path, words):
    command = [sys.executable, "-m", "jobs.pretrain", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ROOT})
    assert (done.returncode, done.stderr.count("\n")) == (USER_MISTAKE, 1)
    assert f"got {' '.join(words)!r}" in done.stderr
    assert not any(tmp_path.iterdir())
