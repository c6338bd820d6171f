"""Supervised fine-tuning: turn any causal language model into one that writes in the task's form (TRL's SFTTrainer)."""

from typing import Any

import torch
from datasets import Dataset
from pydantic import Field
from transformers import set_seed

from rlhf_ray.config import Config
from rlhf_ray.data.tables import Row
from rlhf_ray.models.loading import check_vocabulary, load_causal, load_tokenizer
from rlhf_ray.text import encode_pair
from rlhf_ray.training.progress import Logged
from rlhf_ray.training.savepoints import Savepoints, saving, train
from rlhf_ray.training.together import own_part


class SFT(Config):
    """How a base model learns the form of the answers. Leave it out where the base writes in that form already."""

    epochs: int = Field(1, ge=1, description="Passes over the corpus.")
    batch: int = Field(16, ge=1, description="Statements a step; several workers share them.")
    lr: float = Field(5e-5, gt=0, description="Peak learning rate; it warms up and falls linearly to 0.")
    most_tokens: int = Field(224, ge=2, description="Most tokens of prompt and completion; a longer pair is an error.")


def fine_tune(
    *,
    base: str,
    corpus: list[Row],
    sft: SFT,
    seed: int,
    folder: str,
    report: Any,
    savepoints: Savepoints | None = None,
) -> None:
    """Train on the completions of the corpus and write model and tokenizer to `folder`."""
    from trl import SFTConfig, SFTTrainer  # several seconds to import, and only this stage needs it

    set_seed(seed)
    tokenizer = load_tokenizer(base)
    model = load_causal(base)
    check_vocabulary(model, tokenizer, base)
    rows = []
    for row in corpus:
        ids, prompt_length = encode_pair(tokenizer, row["prompt"], row["completion"], sft.most_tokens)
        rows.append({"input_ids": ids, "completion_mask": [0] * prompt_length + [1] * (len(ids) - prompt_length)})
    on_cpu = not torch.cuda.is_available()
    arguments = SFTConfig(
        **saving(savepoints, folder),
        num_train_epochs=sft.epochs,
        per_device_train_batch_size=own_part(sft.batch),
        learning_rate=sft.lr,
        lr_scheduler_type="linear",
        warmup_steps=0.1,
        max_length=sft.most_tokens,
        completion_only_loss=True,
        seed=seed,
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
        use_cpu=on_cpu,
        bf16=False,
        activation_checkpointing=False,
        ddp_find_unused_parameters=False,
    )
    trainer = SFTTrainer(
        model, arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, callbacks=[Logged(report)]
    )
    train(trainer, savepoints)
    if trainer.is_world_process_zero():
        save_policy(trainer.model, tokenizer, folder)


def save_policy(model: Any, tokenizer: Any, folder: str) -> None:
    """A Hugging Face model folder: weights, tokenizer, and how to generate."""
    model.generation_config.do_sample = True
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def adopt(*, base: str, folder: str) -> None:
    """The SFT model where there is nothing to tune: the base, in float32 and with its tokenizer."""
    model, tokenizer = load_causal(base), load_tokenizer(base)
    check_vocabulary(model, tokenizer, base)
    save_policy(model, tokenizer, folder)
