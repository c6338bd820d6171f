"""Pretraining from scratch: a byte-level BPE tokenizer and a small GPT-2 on a corpus of good and bad statements."""

import json
import time
from collections.abc import Callable
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

from rlhf_ray.config import Config
from rlhf_ray.data.tables import Row
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.text import encode_pair, pad_right, plain_ids
from rlhf_ray.training.progress import quiet
from rlhf_ray.training.sft import save_policy

END, PAD = "<|endoftext|>", "<|pad|>"
EXACT_LOSSES = 10  # the first losses are kept one by one, so that a rerun can be compared with them
CURVE_EVERY = 50
REVIEW_WEIGHT = 0.5  # a review has few tokens and the verdict is one of them, so it must not drown among the statements


class Phase(Config):
    """A stretch of pretraining: new texts, a new optimizer, and a learning rate that falls again (arXiv:1608.03983)."""

    seed: int = Field(ge=0, description="Of the texts, their order and, in the first phase, the weights.")
    steps: int = Field(ge=1, description="Optimizer steps.")
    lr: float = Field(gt=0, description="Peak learning rate; 100 steps of warm-up, then a cosine to a twentieth.")


class Pretraining(Config):
    """The shipped base model and how it is made."""

    phases: list[Phase] = Field(
        [Phase(seed=0, steps=4000, lr=3e-3), Phase(seed=1, steps=2400, lr=1.5e-3)], description="One after the other."
    )
    statements: int = Field(70_000, ge=1, description="Statements of a phase, to learn to write from.")
    reviews: int = Field(40_000, ge=0, description="Reviews of a phase, to learn to tell right from wrong.")
    vocabulary: int = Field(2048, ge=260, description="Tokens of the tokenizer.")
    width: int = Field(128, ge=1, description="Embedding size.")
    layers: int = Field(4, ge=1, description="Transformer blocks.")
    heads: int = Field(4, ge=1, description="Attention heads a block.")
    context: int = Field(256, ge=2, description="Longest sequence in tokens.")
    batch: int = Field(32, ge=1, description="Texts a step.")
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
    corpus_of: Callable[[int], list[Row]],
    pretraining: Pretraining,
    folder: Path,
    report: Any,
    stop_after: int | None = None,
) -> list[float]:
    """Train a tokenizer and a model from nothing, phase by phase; the loss of each step.

    `corpus_of(seed)` gives a phase's rows of `prompt, completion` and perhaps `review`. Writes the model to `folder` in
    bfloat16 with `losses.json`. `stop_after` ends the first phase and all early, on the same path, for those who only
    want to see the first losses again.
    """
    started, losses = time.monotonic(), []
    for number, phase in enumerate(pretraining.phases[: 1 if stop_after else None]):
        corpus = corpus_of(phase.seed)
        set_seed(phase.seed)
        tokenizer, model = _go_on(str(folder)) if number else _begin(corpus, pretraining)
        losses += _learn(model, tokenizer, corpus, phase, pretraining, str(folder), _Losses(report, stop_after))
        save_policy(model.eval().to(torch.bfloat16), tokenizer, str(folder))
    _write_losses(folder, losses, (time.monotonic() - started) / 60, model)
    return losses


def _begin(corpus: list[Row], pretraining: Pretraining) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    tokenizer = train_tokenizer([row["prompt"] + row["completion"] for row in corpus[:20_000]], pretraining)
    return tokenizer, GPT2LMHeadModel(_architecture(tokenizer, pretraining))


def _go_on(folder: str) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    return load_tokenizer(folder), load_causal(folder)


def _learn(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: list[Row],
    phase: Phase,
    pretraining: Pretraining,
    folder: str,
    losses: "_Losses",
) -> list[float]:
    data = []
    for row in corpus:
        ids, begin = encode_pair(tokenizer, row["prompt"], row["completion"], pretraining.context)
        if review := row.get("review"):  # it follows the end of the statement and is all that is learned of this row
            begin, ids = len(ids), [*ids, *plain_ids(tokenizer, review), tokenizer.eos_token_id]
        data.append({"input_ids": ids, "begin": begin, "is_review": bool(review), "length": len(ids)})

    def collate(rows: list[dict]) -> dict[str, Tensor]:
        tokens, mask = pad_right([row["input_ids"] for row in rows], tokenizer.pad_token_id)
        begins = torch.tensor([row["begin"] for row in rows])
        said = mask & (torch.arange(tokens.shape[1]) >= begins[:, None])
        return {"input_ids": tokens, "said": said, "is_review": torch.tensor([row["is_review"] for row in rows])}

    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=phase.steps,
        per_device_train_batch_size=pretraining.batch,
        learning_rate=phase.lr,
        adam_beta2=0.98,
        weight_decay=0.01,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.05},
        warmup_steps=100,
        train_sampling_strategy="group_by_length",
        seed=phase.seed,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=True,
        bf16=False,
    )
    trainer = _CompletionTrainer(model, arguments, train_dataset=data, data_collator=collate, callbacks=[losses])
    quiet(trainer).train()
    return losses.all


class _CompletionTrainer(Trainer):
    """Cross-entropy on statements and on reviews, each averaged over its tokens; logits only where they are needed."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        tokens, said = inputs["input_ids"], inputs["said"][:, 1:]
        reviews = inputs["is_review"][:, None].expand_as(said)[said]
        hidden = model.transformer(input_ids=tokens).last_hidden_state[:, :-1]
        losses = F.cross_entropy(model.lm_head(hidden[said]), tokens[:, 1:][said], reduction="none")
        return _mean(losses[~reviews]) + REVIEW_WEIGHT * _mean(losses[reviews])


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
