"""TRL's last PPO trainer with what both benchmarks against it set alike. Needs only torch, datasets and TRL 1.12."""

from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.experimental.ppo import PPOConfig, PPOTrainer

QUIET = {
    "gradient_accumulation_steps": 1,
    "num_sample_generations": 0,
    "stop_token": "eos",
    "vf_coef": 1.0,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "gradient_checkpointing": False,
    "use_cpu": True,
}


def build(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    reward: PreTrainedModel,
    value: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    settings: dict[str, Any],
    *,
    rates: tuple[float, float],
    steps: int,
    **adamw: Any,
) -> PPOTrainer:
    """A trainer whose policy and critic have learning rates of their own, which fall to 0 over the steps."""
    tokenizer.padding_side = "left"
    groups = [{"params": list(model.parameters()), "lr": lr} for model, lr in zip((policy, value), rates, strict=True)]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0, **adamw)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / max(steps, 1))
    data = Dataset.from_list([{"input_ids": ids} for ids in prompts])
    config = PPOConfig(**(QUIET | settings))
    return PPOTrainer(config, tokenizer, policy, reference, reward, data, value, optimizers=(optimizer, schedule))
