"""Rewards per token, and the advantages and returns that follow from them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def shape_rewards(
    score: Float[Tensor, " B"], kl: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"], kl_coef: float
) -> Float[Tensor, "B R"]:
    """Minus the KL penalty at every token, plus the score at the last one.

    Law: `rewards.sum(1) == score - kl_coef * kl.sum(1)`. A response without tokens raises ValueError.
    """
    lengths = mask.sum(1)
    if (lengths == 0).any():
        raise ValueError(f"expected at least one token in every response, got none in row {int(lengths.argmin())}")
    rewards = torch.where(mask, -kl_coef * kl, 0.0)
    return rewards.scatter_add(1, (lengths - 1)[:, None], score[:, None])


def generalized_advantages(
    rewards: Float[Tensor, "B R"],
    values: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    *,
    gamma: float,
    lam: float,
) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R"]]:
    """Generalized advantage estimation (arXiv:1506.02438): advantages and the returns they imply, before whitening.

    The value after the last response token is 0: the episode is over. `lam=1` gives return minus value,
    `lam=0` the error of one step.
    """
    values = torch.where(mask, values, 0.0)
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    errors = torch.where(mask, rewards + gamma * following - values, 0.0)
    columns = errors.T.contiguous()  # only what must wait for its successor is done column by column
    for t in reversed(range(len(columns) - 1)):
        columns[t] += gamma * lam * columns[t + 1]
    advantages = torch.where(mask, columns.T, 0.0)
    return advantages, torch.where(mask, advantages + values, 0.0)
