"""The whole loop, small, as a user runs it: every stage, every artefact, again, alone, and interrupted."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = {
    "seed": 5,
    "world": {"corpus": 60, "train_prompts": 60, "heldout_prompts": 12, "heldout_wordings": 6},
    "collection": {"samples": 48, "statements": 80, "heldout": 12, "probes": 6},
    "sampling": {"prompt_tokens": 80, "response_tokens": 80},
    "reward": {"epochs": 1},
    "learning": {"minibatch": 8},
    "ppo": {"steps": 2, "episodes": 16},
    "evaluation": {"demo_samples": 2},
}


# Where a user keeps secrets that the code, or a library under it, reads.
SECRETS = {
    name: f"canary-{name.lower()}-7f3a"
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "RLHF_RAY_KEY")
}


def write_config(folder: Path, **more) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "run.yaml"
    values = SMALL | {"folder": str(folder / "run"), "cluster": {"threads_each": 1}} | more
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def call(job: str, config: Path, *words: str, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", f"jobs.{job}", str(config), *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False, env=environment)


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "ppo" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A config and its finished run."""
    config = write_config(tmp_path_factory.mktemp("pipeline"))
    done = call("pipeline", config, **SECRETS)
    assert done.returncode == 0, done.stderr[-3000:]
    (config.parent / "said").write_text(done.stdout + done.stderr, encoding="utf-8")
    return config, config.parent / "run" / "seed-5"


def test_no_secret_of_the_environment_is_in_what_a_run_leaves_or_says(finished):
    config, run = finished
    files = [path for path in config.parent.rglob("*") if path.is_file()]
    assert config.parent / "said" in files and run / "ppo" / "metrics.jsonl" in files and len(files) > 40
    told = {path: [name for name, value in SECRETS.items() if value.encode() in path.read_bytes()] for path in files}
    assert not {path: names for path, names in told.items() if names}


def test_the_reward_model_is_checked_for_over_optimisation(finished):
    config, run = finished
    done = call("check_reward", config, "evaluation.best_of_prompts=2")
    assert done.returncode == 0, done.stderr[-3000:]
    facts = json.loads((run / "overoptimisation" / "overoptimisation.json").read_text(encoding="utf-8"))
    assert [point["n"] for point in facts["curves"]["best of n"]] == [1, 2, 4, 8, 16, 32, 64]
    scores = [point["score"]["mean"] for point in facts["curves"]["best of n"]]
    assert scores == sorted(scores)
    assert len(facts["curves"]["PPO"]) == 1
    assert (run / "overoptimisation" / "overoptimisation.svg").is_file()
    assert pq.read_table(run / "overoptimisation" / "answers.parquet").num_rows == 2 * 64


def test_the_summary_has_the_documented_keys(finished):
    _, run = finished
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    documented = (ROOT / "docs" / "run-folder.md").read_text(encoding="utf-8").split("## summary.json")[1]
    keys = {
        key.split(".")[0]
        for row in documented.splitlines()
        if row.startswith("| `")
        for key in re.findall(r"`([\w.]+)", row.split("|")[1])
    }
    assert set(summary) == {key for key in keys if key}
    assert set(summary["stages"]) == {"world", "sft", "thumbs", "reward", "ppo", "report"}
    for side in ("before", "after"):
        assert (
            0
            <= summary[side]["rubric"]["low"]
            <= summary[side]["rubric"]["mean"]
            <= summary[side]["rubric"]["high"]
            <= 1
        )
    assert len(summary["demo"]) == 3


def test_every_model_loads_in_plain_transformers(finished):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, GenerationConfig

    _, run = finished
    for folder, kind in (
        (run / "sft", AutoModelForCausalLM),
        (run / "ppo" / "policy", AutoModelForCausalLM),
        (run / "reward", AutoModelForSequenceClassification),
    ):
        model, tokenizer = kind.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        assert model.config.vocab_size == len(tokenizer)
        assert (folder / "model.safetensors").is_file()
        assert (
            "interval" in (folder / "README.md").read_text(encoding="utf-8")
            or kind is AutoModelForSequenceClassification
        )
    assert GenerationConfig.from_pretrained(run / "ppo" / "policy").eos_token_id is not None


def test_every_table_loads_with_datasets(finished, tmp_path):
    from datasets import load_dataset

    _, run = finished
    expected = {
        "ppo/rollouts.parquet": 32,
        "thumbs/samples.parquet": 48,
        "report/answers.parquet": 2 * (12 + 6 + 3 * 2),
    }
    for name, rows in expected.items():
        table = load_dataset("parquet", data_files=str(run / name), cache_dir=str(tmp_path))["train"]
        assert len(table) == rows
    thumbs = load_dataset("parquet", data_files=str(run / "thumbs" / "thumbs.parquet"), cache_dir=str(tmp_path))[
        "train"
    ]
    assert thumbs.column_names == ["prompt", "completion", "label", "rater", "created_at"]


def test_the_report_needs_no_network(finished):
    _, run = finished
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)


def test_a_second_call_skips_everything(finished):
    config, run = finished
    before = (run / "ppo" / "manifest.json").stat().st_mtime_ns
    done = call("pipeline", config)
    assert done.returncode == 0
    assert done.stderr.count("unchanged, skipped") == 6
    assert (run / "ppo" / "manifest.json").stat().st_mtime_ns == before


def test_the_same_seed_gives_the_same_metrics_also_without_ray(finished, tmp_path):
    _, run = finished
    again, alone = write_config(tmp_path / "again"), write_config(tmp_path / "alone", cluster="none")
    for config in (again, alone):
        done = call("pipeline", config)
        assert done.returncode == 0, done.stderr[-3000:]
        assert metrics(config.parent / "run" / "seed-5") == metrics(run)


@pytest.fixture
def served_lengths():
    """The address of a server on loopback that scores a completion by its length."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.dumps({"scores": [len(text) for text in asked["completions"]]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_rewards_of_ones_own_reach_the_actors_and_the_page_says_that_the_judge_was_one(tmp_path, served_lengths):
    (tmp_path / "my_rewards.py").write_text(
        "def brevity(prompts, completions):\n    return [-float(len(text)) for text in completions]\n", encoding="utf-8"
    )
    rewards = {
        "served": {"source": served_lengths, "weight": 0.0},
        "thumbs": {"source": "model"},
        "brevity": {"source": "my_rewards:brevity", "weight": 0.01},
        "judge": {"source": "rlhf_ray.incidents.rubric:rubric"},
    }
    config = write_config(tmp_path / "mine", scoring={"rewards": rewards, "clip": 100.0})
    done = call("pipeline", config, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    run = config.parent / "run" / "seed-5"
    rows = pq.read_table(run / "ppo" / "rollouts.parquet").to_pylist()
    for row in rows:
        assert row["reward/brevity"] == -len(row["completion"]) == -row["reward/served"]
        assert 0 <= row["reward/judge"] <= 1
    for line in metrics(run):
        of_step = [row["reward/judge"] for row in rows if row["step"] == line["step"]]
        assert line["reward/judge"] == pytest.approx(sum(of_step) / len(of_step))
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["judge_is_reward"] is True
    assert 'data-alarm="unjudged"' in (run / "report" / "index.html").read_text(encoding="utf-8")


def test_a_replay_with_the_runs_own_settings_learns_what_the_run_learned(finished, tmp_path):
    _, run = finished
    config = write_config(tmp_path / "replayed", replay=str(run / "ppo" / "rollouts.parquet"), cluster="none")
    done = call("pipeline", config)
    assert done.returncode == 0, done.stderr[-3000:]
    for again, before in zip(metrics(config.parent / "run" / "seed-5"), metrics(run), strict=True):
        assert before.pop("rollout/lag") == 0  # a recording's weights are none of this run's
        assert again == pytest.approx(before, rel=1e-2, abs=1e-3)


def test_the_whole_loop_with_adapters_exports_them_and_a_merged_model_that_say_the_same(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    config = write_config(tmp_path / "adapted", lora={"r": 4, "targets": ["c_attn", "c_fc"]}, reward={"lr": 2e-3})
    done = call("pipeline", config)
    assert done.returncode == 0, done.stderr[-3000:]
    run = config.parent / "run" / "seed-5"
    merged, adapters = (
        AutoModelForCausalLM.from_pretrained(run / "ppo" / "policy" / part).eval() for part in ("", "adapters")
    )
    base = AutoModelForCausalLM.from_pretrained(run / "sft").eval()
    assert not (run / "ppo" / "policy" / "adapters" / "model.safetensors").exists()
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        one, other, before = (model(tokens).logits for model in (merged, adapters, base))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert (one - before).abs().max() > 1e-3
    assert metrics(run)[0]["objective/kl"] == pytest.approx(0, abs=1e-3)
    assert [line["policy/changed_share"] for line in metrics(run) if "policy/changed_share" in line] == [1.0]


def test_the_whole_loop_with_learners_that_share_the_model_ends_like_that_of_one(finished, tmp_path):
    _, run = finished
    cluster = {"samplers": 1, "scorers": 1, "learners": 2, "shard": True, "threads_each": 1}
    config = write_config(tmp_path / "sharded", cluster=cluster)
    done = call("pipeline", config)
    assert done.returncode == 0, done.stderr[-3000:]
    sharded = config.parent / "run" / "seed-5"
    for one, other in zip(metrics(sharded), metrics(run), strict=True):
        assert set(one) == set(other)
        assert one["objective/entropy"] == pytest.approx(other["objective/entropy"], rel=0.1)
    assert (sharded / "ppo" / "policy" / "model.safetensors").is_file()


def test_the_whole_loop_on_another_model_which_sft_teaches_under_ray_train(model_folder, tmp_path):
    config = write_config(
        tmp_path / "sft",
        base=os.path.relpath(model_folder, ROOT),
        sft={"epochs": 6, "batch": 8, "lr": 5e-3, "most_tokens": 600},
        sampling={"prompt_tokens": 300, "response_tokens": 24},
        reward={"epochs": 1, "most_tokens": 600},
    )
    done = call("pipeline", config)
    assert done.returncode == 0, done.stderr[-3000:]
    run = config.parent / "run" / "seed-5"
    assert loss_on_corpus(run / "sft", run) < 0.9 * loss_on_corpus(model_folder, run)
    assert (run / "ppo" / "policy" / "model.safetensors").is_file()


def loss_on_corpus(folder: Path, run: Path) -> float:
    """Mean loss a token on the completions of the corpus's first statements."""
    import torch

    from rlhf_ray.data.tables import read_table
    from rlhf_ray.models.loading import load_causal, load_tokenizer
    from rlhf_ray.text import encode_pair

    model, tokenizer = load_causal(str(folder)), load_tokenizer(str(folder))
    losses = []
    for row in read_table(run / "world" / "corpus.parquet", ("prompt", "completion"))[:10]:
        ids, begin = encode_pair(tokenizer, row["prompt"], row["completion"], 600)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, begin - 1 : -1]
        losses.append(float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[begin:]))))
    return sum(losses) / len(losses)


def test_ctrl_c_in_the_middle_leaves_nothing_half_written_and_the_next_call_goes_on(finished, tmp_path):
    _, run = finished
    config = write_config(tmp_path / "stopped")
    command = [sys.executable, "-m", "jobs.pipeline", str(config)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # A shell that runs the suite in the background makes its children deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 300
    for line in process.stderr:
        assert time.monotonic() < deadline
        if line.startswith("ppo: …"):
            break
    time.sleep(8)
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=120) == 130, rest
    assert "Traceback" not in rest
    stopped = config.parent / "run" / "seed-5"
    left = sorted(path.name for path in stopped.iterdir() if path.is_dir())
    # What PPO had done by then, if it had done anything, is kept apart.
    assert [name for name in left if not name.startswith(".unfinished-ppo-")] == ["reward", "sft", "thumbs", "world"]
    assert call("pipeline", config).returncode == 0
    assert metrics(stopped) == metrics(run)
