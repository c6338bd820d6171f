"""Pretraining from scratch: a byte-level BPE tokenizer and a small GPT-2 on a corpus of good and bad statements."""

import json
import time
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from rlhf_ray.chat import plain_ids
from rlhf_ray.config import Config
from rlhf_ray.data.tables import Row
from rlhf_ray.text import encode_pair, pad_right
from rlhf_ray.training.progress import quiet
from rlhf_ray.training.sft import save_policy

END, PAD = "<|endoftext|>", "<|pad|>"
EXACT_LOSSES = 10  # the first losses are kept one by one, so that a rerun can be compared with them
CURVE_EVERY = 50
INITIAL_SCALE = 0.08  # about 1/sqrt(width); GPT-2's 0.02 is for wide models, and costs a narrow one its first 300 steps
TOKENIZED = 20_000  # texts of the corpus that the tokenizer is trained on


class Pretraining(Config):
    """The shipped base model and how it is made."""

    seed: int = Field(0, ge=0, description="Of the texts, their order, and the weights.")
    statements: int = Field(160_000, ge=1, description="Statements to learn to write from.")
    near_misses: int = Field(160_000, ge=0, description="Statements to be read for their reviews alone.")
    steps: int = Field(20_000, ge=1, description="Optimizer steps.")
    batch: int = Field(16, ge=1, description="Texts a step.")
    lr: float = Field(
        2.5e-3, gt=0, description="Peak learning rate; 100 steps of warm-up, then a cosine to a twentieth."
    )
    review_weight: float = Field(1.0, ge=0, description="What a token of a review counts against one of a statement.")
    vocabulary: int = Field(2048, ge=260, description="Tokens of the tokenizer.")
    width: int = Field(128, ge=1, description="Embedding size.")
    layers: int = Field(4, ge=1, description="Transformer blocks.")
    heads: int = Field(4, ge=1, description="Attention heads a block.")
    context: int = Field(256, ge=2, description="Longest sequence in tokens.")
    threads: int = Field(2, ge=1, description="CPU threads.")


def train_tokenizer(texts: list[str], pretraining: Pretraining) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=pretraining.vocabulary, special_tokens=[END, PAD], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=pretraining.context,
    )


def pretrain(
    corpus: list[Row], pretraining: Pretraining, folder: Path, report: Any, stop_after: int | None = None
) -> list[float]:
    """Train a tokenizer and a model from nothing on rows of `prompt, completion, review, quoted`; each step's loss.

    What is learned of a row is its completion, unless it is quoted, and its review. Writes the model to `folder` in
    bfloat16 with `losses.json`. `stop_after` ends early, on the same path, for those who only want to see the first
    losses again.
    """
    started = time.monotonic()
    set_seed(pretraining.seed)
    tokenizer = train_tokenizer([row["prompt"] + row["completion"] for row in corpus[:TOKENIZED]], pretraining)
    model = GPT2LMHeadModel(_architecture(tokenizer, pretraining))
    data = [_encode(tokenizer, row, pretraining.context) for row in corpus]
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=pretraining.steps,
        per_device_train_batch_size=pretraining.batch,
        learning_rate=pretraining.lr,
        adam_beta2=0.98,
        weight_decay=0.01,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.05},
        warmup_steps=100,
        train_sampling_strategy="group_by_length",
        seed=pretraining.seed,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=True,
        bf16=False,
    )
    losses = _Losses(report, stop_after)

    def collate(rows: list[dict]) -> dict[str, Tensor]:
        tokens, mask = pad_right([row["input_ids"] for row in rows], tokenizer.pad_token_id)
        place = torch.arange(tokens.shape[1])
        begin, review = (torch.tensor([row[name] for row in rows])[:, None] for name in ("begin", "review"))
        return {"input_ids": tokens, "said": mask & (place >= begin), "is_review": mask & (place >= review)}

    trainer = _Pretrainer(
        model,
        arguments,
        train_dataset=data,
        data_collator=collate,
        callbacks=[losses],
        weight=pretraining.review_weight,
    )
    quiet(trainer).train()
    save_policy(model.eval().to(torch.bfloat16), tokenizer, str(folder))
    _write_losses(folder, losses.all, (time.monotonic() - started) / 60, model)
    return losses.all


def _encode(tokenizer: PreTrainedTokenizerBase, row: Row, most_tokens: int) -> dict[str, Any]:
    """The row's tokens, the first of them that is learned, and where its review begins."""
    verdict = [*plain_ids(tokenizer, row["review"]), tokenizer.eos_token_id]
    ids, begin = encode_pair(tokenizer, row["prompt"], row["completion"], most_tokens - len(verdict))
    review = len(ids)
    ids = [*ids, *verdict]
    return {"input_ids": ids, "begin": review if row["quoted"] else begin, "review": review, "length": len(ids)}


class _Pretrainer(Trainer):
    """Cross-entropy on statements and on reviews, each averaged over its tokens; logits only where they are needed."""

    def __init__(self, *arguments: Any, weight: float, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.weight = weight

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        tokens, said = inputs["input_ids"], inputs["said"][:, 1:]
        reviews = inputs["is_review"][:, 1:][said]
        hidden = model.transformer(input_ids=tokens).last_hidden_state[:, :-1]
        losses = F.cross_entropy(model.lm_head(hidden[said]), tokens[:, 1:][said], reduction="none")
        return _mean(losses[~reviews]) + self.weight * _mean(losses[reviews])


def _mean(losses: Tensor) -> Tensor:
    return losses.sum() / max(1, len(losses))


class _Losses(TrainerCallback):
    def __init__(self, report: Any, stop_after: int | None) -> None:
        self.report = report
        self.stop_after = stop_after
        self.all: list[float] = []

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if logs and "loss" in logs:
            self.all.append(float(logs["loss"]))
            self.report(state.global_step, state.max_steps, {"loss": self.all[-1]})
        control.should_training_stop = control.should_training_stop or state.global_step == self.stop_after


def _architecture(tokenizer: PreTrainedTokenizerFast, pretraining: Pretraining) -> GPT2Config:
    return GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=pretraining.context,
        n_embd=pretraining.width,
        n_layer=pretraining.layers,
        n_head=pretraining.heads,
        initializer_range=INITIAL_SCALE,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own function in one fused kernel
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _write_losses(folder: Path, losses: list[float], minutes: float, model: PreTrainedModel) -> None:
    curve = [
        {"step": start + CURVE_EVERY, "loss": round(sum(part) / len(part), 4)}
        for start in range(0, len(losses) - CURVE_EVERY + 1, CURVE_EVERY)
        for part in [losses[start : start + CURVE_EVERY]]
    ]
    facts = {
        "first_losses": losses[:EXACT_LOSSES],
        "curve": curve,
        "minutes": round(minutes, 1),
        "parameters": model.num_parameters(),
    }
    (folder / "losses.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
