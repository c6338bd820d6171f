"""The reward model: from single thumbs, pairs or both to the log-odds of a thumb up.

The SFT model with a scalar head reads prompt, completion and end-of-text. First the head alone is fitted, by logistic
regression; then everything is tuned, with binary cross-entropy on a thumb and Bradley-Terry on a pair. At last its
scores on the SFT model's own samples are measured, and their mean and standard deviation become part of the artefact,
with all that was used.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedTokenizerBase, set_seed

from rlhf_ray.alarm import Alarm, NotFinite
from rlhf_ray.config import BadInput, Config
from rlhf_ray.data.tables import Row
from rlhf_ray.models.activations import fuse_activations
from rlhf_ray.models.adapters import Lora, adapt
from rlhf_ray.models.loading import load_classifier, load_tokenizer
from rlhf_ray.models.plain import plain
from rlhf_ray.models.scalar import Scalar, at_last_token
from rlhf_ray.text import as_completions
from rlhf_ray.training.examination import Examined, undisturbed
from rlhf_ray.training.head import TOGETHER, batches, features_of, fit_head
from rlhf_ray.training.progress import Logged
from rlhf_ray.training.raters import RaterWeights, rater_weights, thumb_weights
from rlhf_ray.training.savepoints import Savepoints, saving, train
from rlhf_ray.training.together import own_part, share_out

RECORD = "training.json"  # in the artefact: what the model was trained with

Examine = Callable[[Scalar, PreTrainedTokenizerBase], None]


class RewardTraining(Config):
    """How the reward model is trained."""

    epochs: int = Field(2, ge=1, description="Passes over the thumbs and pairs.")
    batch: int = Field(32, ge=1, description="Thumbs and pairs a step; several workers share them.")
    lr: float = Field(2e-4, gt=0, description="Peak learning rate; it warms up and falls linearly to 0.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")
    balance_labels: bool = Field(
        False, description="Both labels weigh the same, however many thumbs have them; probabilities are then off."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="A thumb counts as given the wrong way with this probability."
    )
    weigh_raters: bool = Field(
        False, description="A rater's thumbs weigh the more, the more they agree with what all thumbs together teach."
    )
    margin: float = Field(
        0.5, ge=0, description="Logits by which the chosen text must win for each step between the ratings of a pair."
    )
    backbone: Literal["sft", "base"] = Field(
        "sft", description="The model that gets the head: the SFT model, or the base as it was before."
    )
    normalise: Literal["samples", "none"] = Field(
        "samples", description="Scores have mean 0 and deviation 1 on the SFT model's samples; none: they are log-odds."
    )
    most_tokens: int = Field(224, ge=2, description="Most tokens of prompt and completion; a longer pair is an error.")


def train_reward(
    *,
    backbone: str,
    thumbs: list[Row],
    pairs: list[Row],
    samples: list[Row],
    training: RewardTraining,
    lora: Lora | None,
    seed: int,
    folder: str,
    report: Any,
    examine: Examine | None = None,
    examine_every: float = 0.5,
    savepoints: Savepoints | None = None,
) -> None:
    """Train on thumbs and pairs and write the normalised reward model with its tokenizer to `folder`.

    `report(step, of, metrics)` hears of the progress. Every `examine_every` epochs and at the end, the first process
    calls `examine(scalar, tokenizer)`. Raises BadInput where there is nothing to tell apart.
    """
    from rlhf_ray.training.preferences import PreferenceTrainer, as_items  # TRL takes seconds to import

    check_rows(thumbs, pairs, samples)
    set_seed(seed)
    tokenizer = load_tokenizer(backbone)
    scalar = Scalar(fuse_activations(load_classifier(backbone)))
    scalar.classifier.config.pad_token_id = tokenizer.pad_token_id
    raters, weights = begin_head(scalar, tokenizer, thumbs, pairs, training)
    if lora:
        adapt(scalar.classifier, lora, seed)

    def look() -> None:
        if examine:
            with undisturbed(scalar):
                examine(scalar, tokenizer)

    items = as_items(tokenizer, thumbs, weights, pairs, training.margin, training.most_tokens)
    arguments = _arguments(training, seed, saving(savepoints, folder))
    callbacks = [Logged(report), Examined(look, examine_every)]
    trainer = PreferenceTrainer(scalar, tokenizer, items, training.label_smoothing, arguments, callbacks)
    train(trainer, savepoints)
    if lora:
        scalar = Scalar(plain(scalar.classifier).to(scalar.classifier.device))
    scalar.eval()
    normalise(scalar, tokenizer, samples, training)
    if trainer.is_world_process_zero():
        look()
        scalar.classifier.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        _write_record(Path(folder, RECORD), {"thumbs": len(thumbs), "pairs": len(pairs)}, training, raters)


def check_rows(thumbs: list[Row], pairs: list[Row], samples: list[Row]) -> None:
    """Raises BadInput where nothing can be learned: there is neither a pair nor a thumb of each kind."""
    if not thumbs and not pairs:
        raise BadInput("thumbs: expected thumbs or pairs to learn from, got none of either")
    ups = sum(row["label"] for row in thumbs)
    if not pairs and not 0 < ups < len(thumbs):
        raise BadInput(
            f"thumbs: label: expected both thumbs up and thumbs down, or pairs, got {ups} up, {len(thumbs) - ups} down "
            "and no pairs"
        )
    if len(samples) < 2:
        raise BadInput(f"samples: expected at least 2 to normalise the scores by, got {len(samples)}")


def begin_head(
    scalar: Scalar, tokenizer: PreTrainedTokenizerBase, thumbs: list[Row], pairs: list[Row], training: RewardTraining
) -> tuple[RaterWeights, list[float]]:
    """Fit the head. Gives what the raters weigh, where they are weighed, and each thumb's weight."""

    def read(rows: list[Row]) -> Float[Tensor, "n D"]:
        return features_of(scalar, tokenizer, rows, training.most_tokens)

    features, chosen, rejected = (
        share_out(rows, read, whole=TOGETHER).numpy()
        for rows in (thumbs, as_completions(pairs, "chosen"), as_completions(pairs, "rejected"))
    )
    raters = rater_weights(features, thumbs) if training.weigh_raters else {}
    weights = thumb_weights(thumbs, raters, training.balance_labels)
    labels = np.array([row["label"] for row in thumbs], dtype=bool)
    fit_head(scalar, features, labels, weights, chosen - rejected)
    return raters, weights


def _arguments(training: RewardTraining, seed: int, place: dict[str, Any]) -> Any:
    from trl import RewardConfig

    return RewardConfig(
        **place,
        num_train_epochs=training.epochs,
        per_device_train_batch_size=own_part(training.batch),
        learning_rate=training.lr,
        weight_decay=training.weight_decay,
        lr_scheduler_type="linear",
        warmup_steps=0.1,
        max_grad_norm=1.0,
        max_length=None,  # too long a text is an error, and has been one already
        disable_dropout=False,
        seed=seed,
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        activation_checkpointing=False,
        ddp_find_unused_parameters=False,
    )


def normalise(scalar: Scalar, tokenizer: PreTrainedTokenizerBase, samples: list[Row], training: RewardTraining) -> None:
    """Give the model, and its artefact, the mean and standard deviation by which its raw scores are normalised."""
    mean, std = 0.0, 1.0
    if training.normalise == "samples":
        raw = share_out(samples, lambda part: raw_scores(scalar, tokenizer, part, training.most_tokens), whole=TOGETHER)
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
    scalar.classifier.config.score_mean = mean
    scalar.classifier.config.score_std = std


def _write_record(path: Path, counts: dict[str, int], training: RewardTraining, raters: RaterWeights) -> None:
    """What the model was trained with: settings, how many thumbs and pairs, and what each rater's thumbs weighed."""
    named = {"none" if rater is None else rater: weight for rater, weight in raters.items()}
    record = counts | {"settings": training.model_dump(), "rater_weights": named}
    path.write_text(json.dumps(record, indent=2), encoding="utf-8")


@torch.no_grad()
def raw_scores(
    scalar: Scalar, tokenizer: PreTrainedTokenizerBase, rows: list[Row], most_tokens: int
) -> Float[Tensor, " N"]:
    """The log-odds of a thumb up for each `prompt, completion`, as the trainer reads them."""
    read = batches(scalar, tokenizer, rows, most_tokens)
    return torch.cat([torch.empty(0), *(at_last_token(scalar.raw(*batch), batch[1]).cpu() for batch in read)])
