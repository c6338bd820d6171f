"""The clipped losses of PPO (arXiv:1707.06347), per token: who averages them knows how many tokens there are in all."""

import torch
from jaxtyping import Float
from torch import Tensor


def policy_loss(
    logprobs: Float[Tensor, "B R"],
    old_logprobs: Float[Tensor, "B R"],
    advantages: Float[Tensor, "B R"],
    clip: float,
) -> Float[Tensor, "B R"]:
    """The worse of the plain and the clipped surrogate. At ratio 1 its gradient is the policy gradient."""
    ratio = (logprobs - old_logprobs).exp()
    return torch.max(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


def value_loss(
    values: Float[Tensor, "B R"],
    old_values: Float[Tensor, "B R"],
    returns: Float[Tensor, "B R"],
    clip: float,
) -> Float[Tensor, "B R"]:
    """Half the worse of the plain and the clipped squared error: values move at most `clip` for free."""
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.max((values - returns) ** 2, (clipped - returns) ** 2)


def clipped_share(
    logprobs: Float[Tensor, "B R"], old_logprobs: Float[Tensor, "B R"], clip: float
) -> Float[Tensor, "B R"]:
    """1.0 at each token whose ratio left the clip range, else 0.0."""
    ratio = (logprobs - old_logprobs).exp()
    return ((ratio - 1).abs() > clip).to(logprobs.dtype)
