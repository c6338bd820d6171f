"""The reward model: from single thumbs to the log-odds of a thumb up.

The SFT model with a scalar head reads prompt, completion and end-of-text. First the head alone is fitted, by logistic
regression; then everything is tuned with binary cross-entropy on the thumb. At last its scores on the SFT model's own
samples are measured, and their mean and standard deviation become part of the artefact.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase, Trainer, TrainingArguments, set_seed

from rlhf_ray.alarm import Alarm, NotFinite
from rlhf_ray.config import Config
from rlhf_ray.data.tables import Row
from rlhf_ray.models.adapters import Lora, adapt
from rlhf_ray.models.loading import load_classifier, load_tokenizer
from rlhf_ray.models.plain import plain
from rlhf_ray.models.scalar import Scalar, at_last_token
from rlhf_ray.text import encode_pair, pad_right
from rlhf_ray.training.progress import Logged, own_part, quiet


class RewardTraining(Config):
    """How the reward model is trained."""

    epochs: int = Field(2, ge=1, description="Passes over the thumbs.")
    batch: int = Field(32, ge=1, description="Thumbs a step; several workers share them.")
    lr: float = Field(2e-4, gt=0, description="Peak learning rate; it warms up and falls linearly to 0.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")
    balance_labels: bool = Field(
        False, description="Both labels weigh the same, however many thumbs have them; probabilities are then off."
    )
    most_tokens: int = Field(224, ge=2, description="Most tokens of prompt and completion; a longer pair is an error.")


class ThumbModel(nn.Module):
    """A scalar model and its loss, in the form that `transformers.Trainer` and DDP expect."""

    def __init__(self, scalar: Scalar, weights: dict[bool, float]) -> None:
        super().__init__()
        self.scalar = scalar
        self.weights: Tensor
        self.register_buffer("weights", torch.tensor([weights[False], weights[True]]))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = at_last_token(self.scalar.raw(input_ids, attention_mask), attention_mask)
        weights = self.weights[labels.long()]
        return {"loss": F.binary_cross_entropy_with_logits(logits, labels, weight=weights), "logits": logits}


def train_reward(
    *,
    sft: str,
    thumbs: list[Row],
    samples: list[Row],
    training: RewardTraining,
    lora: Lora | None,
    seed: int,
    folder: str,
    report: Any,
) -> None:
    """Train on the thumbs and write the normalised reward model with its tokenizer to `folder`.

    `report(step, of, metrics)` hears of the progress.
    """
    set_seed(seed)
    tokenizer = load_tokenizer(sft)
    scalar = Scalar(load_classifier(sft))
    scalar.classifier.config.pad_token_id = tokenizer.pad_token_id
    data = []
    for row in thumbs:
        ids, _ = encode_pair(tokenizer, row["prompt"], row["completion"], training.most_tokens)
        data.append({"input_ids": ids, "label": row["label"], "length": len(ids)})
    weights = label_weights(thumbs) if training.balance_labels else {True: 1.0, False: 1.0}
    probe_head(scalar, tokenizer, thumbs, weights, training.most_tokens)
    if lora:
        adapt(scalar.classifier, lora, seed)
    model = ThumbModel(scalar, weights)

    def collate(rows: list[dict]) -> dict[str, Tensor]:
        tokens, mask = pad_right([row["input_ids"] for row in rows], tokenizer.pad_token_id)
        labels = torch.tensor([float(row["label"]) for row in rows])
        return {"input_ids": tokens, "attention_mask": mask, "labels": labels}

    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=training.epochs,
        per_device_train_batch_size=own_part(training.batch),
        learning_rate=training.lr,
        weight_decay=training.weight_decay,
        lr_scheduler_type="linear",
        warmup_steps=0.1,
        max_grad_norm=1.0,
        seed=seed,
        save_strategy="no",
        train_sampling_strategy="group_by_length",
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        ddp_find_unused_parameters=False,
    )
    trainer = Trainer(model, arguments, train_dataset=data, data_collator=collate, callbacks=[Logged(report)])
    quiet(trainer).train()
    if lora:
        scalar = Scalar(plain(scalar.classifier).to(scalar.classifier.device))
    normalise(scalar, tokenizer, samples, training.most_tokens)
    if trainer.is_world_process_zero():
        scalar.classifier.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def label_weights(thumbs: list[Row]) -> dict[bool, float]:
    """Weights with which both labels count the same and a thumb counts 1 on average."""
    ups = sum(row["label"] for row in thumbs)
    return {True: len(thumbs) / (2 * ups), False: len(thumbs) / (2 * (len(thumbs) - ups))}


@torch.no_grad()
def probe_head(
    scalar: Scalar,
    tokenizer: PreTrainedTokenizerBase,
    thumbs: list[Row],
    weights: dict[bool, float],
    most_tokens: int,
) -> None:
    """Set the head to the logistic regression on what the SFT model makes of each text, before anything is tuned.

    The first gradients through a random head would spoil what the model knows already (arXiv:2202.10054).
    """
    batches = _batches(scalar, tokenizer, thumbs, most_tokens)
    features = torch.cat([at_last_token(scalar.hidden(*batch), batch[1]).cpu() for batch in batches])
    labels = [row["label"] for row in thumbs]
    fitted = LogisticRegression(C=0.1, class_weight=weights, fit_intercept=False, max_iter=2000)
    fitted.fit(features.numpy(), labels)
    scalar.classifier.score.weight.copy_(torch.from_numpy(fitted.coef_))


def normalise(scalar: Scalar, tokenizer: PreTrainedTokenizerBase, samples: list[Row], most_tokens: int) -> None:
    """Make the model's scores on the SFT model's samples have mean 0 and standard deviation 1, in its artefact too."""
    raw = raw_scores(scalar, tokenizer, samples, most_tokens)
    mean, std = float(raw.mean()), float(raw.std())
    if not 0 < std < math.inf:
        raise NotFinite(
            Alarm(
                "score_std",
                f"the SFT model's samples have scores of standard deviation {std:g}, so none can be told from another",
                "a learning rate so large that the model left the range of its numbers, or samples that are all alike",
                "lower reward.lr, or look at the samples",
            )
        )
    scalar.mean, scalar.std = mean, std
    scalar.classifier.config.score_mean = scalar.mean
    scalar.classifier.config.score_std = scalar.std


@torch.no_grad()
def raw_scores(
    scalar: Scalar, tokenizer: PreTrainedTokenizerBase, rows: list[Row], most_tokens: int
) -> Float[Tensor, "N"]:
    """The log-odds of a thumb up for each `prompt, completion`, as the trainer reads them."""
    batches = _batches(scalar, tokenizer, rows, most_tokens)
    return torch.cat([at_last_token(scalar.raw(*batch), batch[1]).cpu() for batch in batches])


def _batches(
    scalar: Scalar, tokenizer: PreTrainedTokenizerBase, rows: list[Row], most_tokens: int, size: int = 64
) -> Iterator[tuple[Tensor, Tensor]]:
    """Tokens and mask of the rows, right-padded, on the model's device."""
    device = next(scalar.parameters()).device
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        pairs = [encode_pair(tokenizer, row["prompt"], row["completion"], most_tokens)[0] for row in part]
        tokens, mask = pad_right(pairs, tokenizer.pad_token_id)
        yield tokens.to(device), mask.to(device)
