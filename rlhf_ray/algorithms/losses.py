"""The clipped losses of PPO (arXiv:1707.06347), per token: who averages them knows how many tokens there are in all."""

import torch
from jaxtyping import Float
from torch import Tensor


def policy_loss(
    logprobs: Float[Tensor, "B R"],
    old_logprobs: Float[Tensor, "B R"],
    advantages: Float[Tensor, "B R"],
    clip: float,
    dual_clip: float | None = None,
) -> Float[Tensor, "B R"]:
    """The worse of the plain and the clipped surrogate. At ratio 1 its gradient is the policy gradient.

    With `dual_clip` (above 1; arXiv:1912.09729) a bad token costs at most that many times its advantage, however likely
    it has become.
    """
    ratio = (logprobs - old_logprobs).exp()
    loss = torch.max(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))
    if dual_clip is None:
        return loss
    return torch.where(advantages < 0, torch.min(loss, -advantages * dual_clip), loss)


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


def clipped_values(values: Float[Tensor, "B R"], old_values: Float[Tensor, "B R"], clip: float) -> Float[Tensor, "B R"]:
    """1.0 at each token whose value left the clip range, else 0.0."""
    return ((values - old_values).abs() > clip).to(values.dtype)


def importance(
    logprobs: Float[Tensor, "B R"], spoken_logprobs: Float[Tensor, "B R"], most: float
) -> Float[Tensor, "B R"]:
    """How much more likely each token is now than for the policy that spoke it, at most `most`; 1 where the two agree.

    Weighs what another policy said; truncated, a few tokens cannot outweigh all others (Ionides, 2008).
    """
    return (logprobs - spoken_logprobs).exp().clamp(max=most)
