"""Estimates of the KL divergence from the reference, per token, and what its coefficient does."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]


def kl_per_token(
    logprobs: Float[Tensor, "B R"], ref_logprobs: Float[Tensor, "B R"], estimator: Estimator = "k1"
) -> Float[Tensor, "B R"]:
    """KL(policy ‖ reference) from samples of the policy (http://joschu.net/blog/kl-approx.html).

    k1 is unbiased and may be negative; k2 is biased with less variance; k3 is unbiased and never negative.
    """
    log_ratio = logprobs - ref_logprobs
    if estimator == "k1":
        return log_ratio
    if estimator == "k2":
        return log_ratio**2 / 2
    return (-log_ratio).exp() - 1 + log_ratio


@dataclass(frozen=True)
class KlPenalty:
    """KL as a part of the loss: what one nat a token costs, and how it is estimated there.

    k1 will not do: the mean of its gradient over samples of the policy is 0, whatever the reference says.
    """

    coef: float
    estimator: Estimator = "k3"


NO_PENALTY = KlPenalty(0.0)


@dataclass(frozen=True)
class KlState:
    """The coefficient of the KL penalty as it stands."""

    coef: float


def fixed(state: KlState, kl: float) -> KlState:
    """The coefficient stays what it is."""
    return state


def adaptive(state: KlState, kl: float, *, target: float, horizon: int, episodes: int) -> KlState:
    """Proportional control towards a target KL per response (arXiv:1909.08593, section 2.2)."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return KlState(state.coef * (1 + error * min(episodes / horizon, 1.0)))
