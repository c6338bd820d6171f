"""The reward model's head before anything is tuned: logistic regression on what the backbone makes of each text.

The first gradients through a random head would spoil what the backbone knows already (arXiv:2202.10054).
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf_ray.data.tables import Row
from rlhf_ray.models.scalar import Scalar, at_last_token
from rlhf_ray.text import encode_pair, pad_right

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

TOGETHER = 64  # rows that are read at once


def regression() -> "LogisticRegression":
    """A linear head has no intercept."""
    from sklearn.linear_model import LogisticRegression  # a second to import, and only this stage needs it

    return LogisticRegression(C=0.1, fit_intercept=False, max_iter=2000)


@torch.no_grad()
def fit_head(
    scalar: Scalar,
    features: Float[np.ndarray, "N D"],
    labels: Bool[np.ndarray, " N"],
    weights: Sequence[float],
    differences: Float[np.ndarray, "M D"],
) -> None:
    """Set the head to the best for thumbs and pairs together; `differences` are the pairs', chosen minus rejected.

    To tell chosen from rejected is to like the difference and to dislike its opposite, each of them half a pair.
    """
    ups, downs = np.ones(len(differences), dtype=bool), np.zeros(len(differences), dtype=bool)
    fitted = regression().fit(
        np.concatenate([features, differences, -differences]),
        np.concatenate([labels, ups, downs]),
        sample_weight=np.concatenate([weights, 0.5 * ups, 0.5 * ups]),
    )
    scalar.classifier.score.weight.copy_(torch.from_numpy(fitted.coef_))


@torch.no_grad()
def features_of(
    scalar: Scalar, tokenizer: PreTrainedTokenizerBase, rows: list[Row], most_tokens: int
) -> Float[Tensor, "N D"]:
    """What the head reads at the end of each `prompt, completion`."""
    none, read = torch.empty(0, scalar.classifier.score.in_features), batches(scalar, tokenizer, rows, most_tokens)
    return torch.cat([none, *(at_last_token(scalar.hidden(*batch), batch[1]).cpu() for batch in read)])


def batches(
    scalar: Scalar, tokenizer: PreTrainedTokenizerBase, rows: list[Row], most_tokens: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Tokens and mask of the rows, right-padded, on the model's device."""
    device = next(scalar.parameters()).device
    for start in range(0, len(rows), TOGETHER):
        part = rows[start : start + TOGETHER]
        texts = [encode_pair(tokenizer, row["prompt"], row["completion"], most_tokens)[0] for row in part]
        tokens, mask = pad_right(texts, tokenizer.pad_token_id)
        yield tokens.to(device), mask.to(device)
