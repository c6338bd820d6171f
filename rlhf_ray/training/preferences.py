"""The trainer of the reward model: TRL's RewardTrainer, which knows pairs, and learns from thumbs, too.

A thumb is half a pair: a thumb up is a chosen text beside which none was rejected, a thumb down the other way round.
TRL takes seconds to import: import this where it is needed.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from datasets import Dataset
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase, TrainerCallback
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import RewardConfig, RewardTrainer

from rlhf_ray.data.tables import Row
from rlhf_ray.models.scalar import Scalar, at_last_token
from rlhf_ray.text import encode_pair, pad_right


class AtTheEnd(nn.Module):
    """A scalar in the form that TRL and DDP expect: one logit a text, read at the last token of its mask.

    A Hugging Face classifier reads at the last token that is not the padding token, which is one token too early where
    end-of-text pads.
    """

    def __init__(self, scalar: Scalar) -> None:
        super().__init__()
        self.scalar = scalar
        self.config = scalar.classifier.config

    def forward(
        self, input_ids: Int[Tensor, "B T"], attention_mask: Bool[Tensor, "B T"], **others: Any
    ) -> SequenceClassifierOutput:
        logits = at_last_token(self.scalar.raw(input_ids, attention_mask), attention_mask)
        return SequenceClassifierOutput(logits=logits[:, None])

    def add_model_tags(self, tags: list[str]) -> None:
        """TRL marks what it uploads. Nothing is uploaded here."""


class PreferenceTrainer(RewardTrainer):
    """Minimises the mean loss of a batch's items: binary cross-entropy of a thumb, Bradley-Terry of a pair."""

    def __init__(
        self,
        scalar: Scalar,
        tokenizer: PreTrainedTokenizerBase,
        items: Dataset,
        smoothing: float,
        arguments: RewardConfig,
        callbacks: list[TrainerCallback],
    ) -> None:
        pad = tokenizer.pad_token_id
        super().__init__(
            AtTheEnd(scalar),
            arguments,
            data_collator=lambda rows: collate(rows, pad),
            train_dataset=items,
            processing_class=tokenizer,
            callbacks=callbacks,
        )
        self.smoothing = smoothing
        self.has_thumbs = any(map(_is_thumb, items))

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if not self.has_thumbs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        outputs = model(inputs["input_ids"], inputs["attention_mask"])
        logits, thumbs = outputs.logits[:, 0], len(inputs["labels"])
        wanted = inputs["labels"] * (1 - 2 * self.smoothing) + self.smoothing
        of_thumbs = F.binary_cross_entropy_with_logits(
            logits[:thumbs], wanted, weight=inputs["weights"], reduction="none"
        )
        chosen, rejected = logits[thumbs:].chunk(2)
        of_pairs = -F.logsigmoid(chosen - rejected - inputs["margin"])
        loss = torch.cat([of_thumbs, of_pairs]).mean()
        return (loss, outputs) if return_outputs else loss

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> "Order":
        def epoch() -> int:
            return self.state.global_step * int(self.args.num_train_epochs) // self.state.max_steps

        whole_batch = self.args.train_batch_size * self.args.world_size
        return Order(whole_batch, list(self.train_dataset["length"]), self.args.seed, epoch)

    def _send_telemetry(self) -> None:
        """Nobody else hears of a training."""


class Order(LengthGroupedSampler):
    """Items of about one length together, but otherwise shuffled.

    An epoch's order depends on the seed and the epoch alone, so all workers have the same, and one that goes on in the
    middle of an epoch finds it again.
    """

    def __init__(self, batch: int, lengths: list[int], seed: int, epoch: Callable[[], int]) -> None:
        super().__init__(batch, lengths=lengths)
        self.seed = seed
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.epoch() + 1):  # draws what a loader and its sampler draw, epoch for epoch
            torch.empty((), dtype=torch.int64).random_(generator=self.generator)
            order = super().__iter__()
        return order


def as_items(
    tokenizer: PreTrainedTokenizerBase,
    thumbs: list[Row],
    weights: list[float],
    pairs: list[Row],
    margin: float,
    most_tokens: int,
) -> Dataset:
    """The tokens of thumbs and pairs. `weights` are those of the thumbs, `margin` is that of one step of rating."""

    def read(row: Row, completion: str) -> list[int]:
        return encode_pair(tokenizer, row["prompt"], row[completion], most_tokens)[0]

    items: list[Row] = []
    for thumb, weight in zip(thumbs, weights, strict=True):
        side, other = ("chosen_ids", "rejected_ids") if thumb["label"] else ("rejected_ids", "chosen_ids")
        items.append({side: read(thumb, "completion"), other: None, "margin": 0.0, "weight": weight})
    for pair in pairs:
        sides = {"chosen_ids": read(pair, "chosen"), "rejected_ids": read(pair, "rejected")}
        items.append(sides | {"margin": margin * pair["margin"], "weight": 1.0})
    return Dataset.from_list(
        [item | {"length": max(len(item["chosen_ids"] or ()), len(item["rejected_ids"] or ()))} for item in items]
    )


def collate(items: list[Row], pad: int) -> dict[str, Tensor]:
    """One batch: the texts of its thumbs, then the chosen texts of its pairs, then their rejected ones."""
    thumbs, pairs = [item for item in items if _is_thumb(item)], [item for item in items if not _is_thumb(item)]
    texts = [item["chosen_ids"] or item["rejected_ids"] for item in thumbs]
    texts += [item[side] for side in ("chosen_ids", "rejected_ids") for item in pairs]
    tokens, mask = pad_right(texts, pad)
    return {
        "input_ids": tokens,
        "attention_mask": mask,
        "labels": torch.tensor([float(item["chosen_ids"] is not None) for item in thumbs]),
        "weights": torch.tensor([item["weight"] for item in thumbs]),
        "margin": torch.tensor([item["margin"] for item in pairs]),
    }


def _is_thumb(item: Row) -> bool:
    return item["chosen_ids"] is None or item["rejected_ids"] is None
