"""Advantages without a critic: a response is held against the others to its prompt, or against the whole batch."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SMALLEST_SPREAD = 1e-8  # added to a group's standard deviation: equal rewards give advantages of 0, not of 0/0


def group_relative(
    rewards: Float[Tensor, " B"], group: Int[Tensor, " B"], *, scale: bool = True
) -> Float[Tensor, " B"]:
    """Reward minus the mean of its group, in the group's standard deviations (GRPO, arXiv:2402.03300).

    Without `scale` it stays in the reward's own unit (Dr. GRPO, arXiv:2503.20783): groups whose answers hardly differ
    then do not count as much as those that differ.
    """
    exact = rewards.double()
    centred = exact - _mean(exact, group)
    if scale:
        centred = centred / (_mean(centred**2, group).sqrt() + SMALLEST_SPREAD)
    return centred.to(rewards.dtype)


def leave_one_out(rewards: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Reward minus the mean of the other responses to its prompt (RLOO, arXiv:2402.14740).

    The baseline does not depend on the response itself, so the gradient stays unbiased. Raises ValueError where a group
    has one response only.
    """
    sizes = _sizes(group)
    if (sizes < 2).any():
        alone = int(group[int(sizes.argmin())])
        raise ValueError(f"expected at least two responses in every group, got one in group {alone}")
    exact = rewards.double()
    return ((exact - _mean(exact, group)) * sizes / (sizes - 1)).to(rewards.dtype)


def returns_to_go(rewards: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"], *, gamma: float) -> Float[Tensor, "B R"]:
    """The discounted sum of what comes from each token on (REINFORCE++ whitens it, arXiv:2501.03262)."""
    returns, following = torch.zeros_like(rewards), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        following = torch.where(mask[:, t], rewards[:, t] + gamma * following, 0.0)
        returns[:, t] = following
    return returns


def _mean(values: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """The mean of each row's group."""
    _, places = group.unique(return_inverse=True)
    sums = torch.zeros_like(values).index_add(0, places, values)
    return sums[places] / _sizes(group)


def _sizes(group: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """How many rows each row's group has."""
    _, places, counts = group.unique(return_inverse=True, return_counts=True)
    return counts[places]
