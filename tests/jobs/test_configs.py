"""The configs for models of other architectures, each run whole, with a tiny random model of the same kind as its base.

What is left of a file is what it says of lengths, adapters, precision and learning rates; how much is done is small.
What a run leaves is then read by those for whom it is meant: plain transformers, and TRL's trainers.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open

from rlhf_ray.data.tables import read_table
from tests.architectures import gpt2, qwen

ROOT = Path(__file__).parent.parent.parent
SMALL = (
    "cluster=none",
    "sft.epochs=1",
    "world={corpus: 24, train_prompts: 24, heldout_prompts: 6, heldout_wordings: 2}",
    "collection={samples: 16, statements: 32, heldout: 6, probes: 2}",
    "ppo={steps: 2, episodes: 8}",
    "learning.minibatch=4",
    "evaluation.demo_samples=1",
    "tripwires={kl: off, entropy: off}",  # a random model may do what it likes
)
# The names under which vLLM 0.32 knows the models, and those of the layers whose adapters it takes.
VLLM = {
    "distilgpt2": {"ppo/policy": "GPT2LMHeadModel", "reward": "GPT2ForSequenceClassification"},
    "qwen-lora": {"ppo/policy": "Qwen2ForCausalLM", "reward": "Qwen2ForSequenceClassification"},
}
ADAPTED = re.compile(
    r"base_model\.model\.model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.lora_[AB]\.weight"
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(config: str, base: Path, *more: str) -> Path:
    words = [f"base={base}", f"folder={base.parent / 'runs'}", *SMALL, *more]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.pipeline", f"configs/rca/{config}.yaml", *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return base.parent / "runs" / "seed-0"


@pytest.fixture(scope="module", params=["distilgpt2", "qwen-lora"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The config's name, and its finished run."""
    base = tmp_path_factory.mktemp(request.param) / "base"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        {"distilgpt2": gpt2, "qwen-lora": qwen}[request.param](base)
    return request.param, run(request.param, base)


def test_a_run_ends_with_all_its_artefacts(finished: tuple[str, Path]) -> None:
    _, folder = finished
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["judged"] is True
    assert summary["prompts"] == 6
    documented = set(re.findall(r"`([\w/]+)`", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")))
    for line in (folder / "ppo" / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        assert set(json.loads(line)) - {"step", "reward/model"} <= documented
    asked = {row["prompt"] for row in read_table(folder / "world" / "prompts.parquet", ("prompt",))}
    assert set(pq.read_table(folder / "ppo" / "rollouts.parquet")["prompt"].to_pylist()) <= asked


def test_models_load_in_plain_transformers_and_answer_a_question(finished: tuple[str, Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, pipeline

    name, folder = finished
    policy, tokenizer = folder / "ppo" / "policy", AutoTokenizer.from_pretrained(folder / "ppo" / "policy")
    assert bool(tokenizer.chat_template) == (name == "qwen-lora")
    asked: str | Sequence[dict] = "Why is it down?\n"
    if tokenizer.chat_template:
        asked = [{"role": "user", "content": asked}]
    speak = pipeline("text-generation", model=str(policy), device="cpu")
    assert speak(asked, max_new_tokens=4)[0]["generated_text"]
    model = AutoModelForCausalLM.from_pretrained(policy)
    assert not hasattr(model, "peft_config")
    before = AutoModelForCausalLM.from_pretrained(folder / "sft").state_dict()
    assert any(not torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    judge = AutoModelForSequenceClassification.from_pretrained(folder / "reward")
    assert judge.config.num_labels == 1
    assert judge(**tokenizer("It is down.", return_tensors="pt")).logits.shape == (1, 1)


def test_a_card_says_data_numbers_limits_and_where_it_comes_from(finished: tuple[str, Path]) -> None:
    from huggingface_hub import ModelCard

    _, folder = finished
    for model in ("sft", "reward", "ppo/policy"):
        card = ModelCard.load(folder / model / "README.md")
        assert "rlhf_ray" in card.data.tags
        assert "## Limits" in card.text
        for stage in ("base", "world", "sft", "thumbs", "reward", "ppo"):
            assert f"| {stage} | `" in card.text
        assert ("## Data" in card.text) == (model != "sft")
        assert "None" not in card.text


def test_adapters_are_there_beside_the_merged_model(finished: tuple[str, Path]) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    name, folder = finished
    adapters = folder / "ppo" / "policy" / "adapters"
    assert adapters.is_dir() == (name == "qwen-lora")
    if adapters.is_dir():
        apart = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / "sft"), adapters).eval()
        merged = AutoModelForCausalLM.from_pretrained(folder / "ppo" / "policy").eval()
        tokens = torch.arange(20)[None]
        torch.testing.assert_close(apart(tokens).logits, merged(tokens).logits, atol=1e-4, rtol=1e-4)


def test_vllm_finds_what_its_loader_reads(finished: tuple[str, Path]) -> None:
    """vLLM is not installed here. Its loader was tried by hand (docs/run-folder.md); this is what it asks for."""
    name, folder = finished
    for place, architecture in VLLM[name].items():
        form = json.loads((folder / place / "config.json").read_text(encoding="utf-8"))
        assert form["architectures"] == [architecture]
        assert not any(form.get(key) for key in ("auto_map", "quantization_config", "add_cross_attention"))
        assert {"tokenizer.json", "tokenizer_config.json", "model.safetensors"} <= set(os.listdir(folder / place))
        with safe_open(folder / place / "model.safetensors", "pt") as weights:
            assert not [key for key in weights.keys() if "lora" in key or "base_layer" in key]  # noqa: SIM118
    adapters = folder / "ppo" / "policy" / "adapters"
    if adapters.is_dir():
        form = json.loads((adapters / "adapter_config.json").read_text(encoding="utf-8"))
        assert (form["bias"], form["use_dora"], form["modules_to_save"]) == ("none", False, None)
        with safe_open(adapters / "adapter_model.safetensors", "pt") as weights:
            assert all(ADAPTED.fullmatch(key) for key in weights.keys())  # noqa: SIM118


def test_trl_goes_on_from_what_a_run_left(finished: tuple[str, Path], tmp_path: Path) -> None:
    """TRL's own trainers take the folders by their names and train a step on the run's own tables."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

    _, folder = finished
    rows = read_table(folder / "thumbs" / "probes.parquet", ("prompt", "chosen", "rejected"))[:4]
    pairs = Dataset.from_list([{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows])
    small = {"max_steps": 1, "per_device_train_batch_size": 2, "report_to": "none", "disable_tqdm": True}
    on_cpu = {"use_cpu": True, "bf16": False, "activation_checkpointing": False, "save_strategy": "no"}
    for trainer, config, model in (
        (DPOTrainer, DPOConfig, folder / "ppo" / "policy"),
        (RewardTrainer, RewardConfig, folder / "reward"),
    ):
        arguments = config(str(tmp_path / trainer.__name__), **small, **on_cpu)
        trained = trainer(model=str(model), args=arguments, train_dataset=pairs)
        assert trained.train().training_loss > 0
