"""Finished runs of tiny models, as the pipeline leaves them: stages with manifests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel

from rlhf_ray.data.tables import write_table
from rlhf_ray.durable import publish
from rlhf_ray.models.loading import load_tokenizer
from tests.conftest import tiny_config

PROMPTS = ["the quick", "pack my", "how vexingly", "the lazy dog", "five dozen", "jumps over"]


def save_runs(folder: Path, policy_folder: str, count: int) -> Path:
    """Finished runs `run-1`, `run-2`, …, each drawn by its number, in the folder that is given back."""
    for seed in range(1, count + 1):
        save_run(folder / f"run-{seed}", policy_folder, seed=seed)
    return folder


def save_run(
    folder: Path,
    policy_folder: str,
    *,
    seed: int,
    ends: float = 3.0,
    reward: bool = True,
    change: Callable[[GPT2LMHeadModel], Any] = lambda model: None,
) -> Path:
    """A run whose models are drawn by `seed`; `ends` is how much likelier than another token the end is, in nats."""
    tokenizer = load_tokenizer(policy_folder)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        policy = GPT2LMHeadModel(tiny_config())
        policy.transformer.ln_f.bias += (towards := torch.randn(32) * 1.5)
        policy.transformer.wte.weight[0] = ends * towards / towards.square().sum()
        change(policy)
        judge = GPT2ForSequenceClassification(tiny_config(num_labels=1, pad_token_id=1))
        judge.config.score_mean, judge.config.score_std = 0.1, 1.3
    for stage, model, place in (("ppo", policy, "policy"), ("sft", policy, "."), ("reward", judge, ".")):
        if stage == "reward" and not reward:
            continue
        (workplace := folder / f".tmp-{stage}").mkdir(parents=True)
        model.save_pretrained(workplace / place)
        tokenizer.save_pretrained(workplace / place)
        if stage == "ppo":
            rows = [{"prompt": prompt, "completion": f" said {row}"} for row, prompt in enumerate(PROMPTS)]
            write_table(workplace / "rollouts.parquet", rows)
        publish(workplace, folder / stage, {"stage": stage, "key": str(seed)})
    return folder
