"""Blame and credit: from what was judged and what was expected to an advantage for every token."""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from rlhf_ray.algorithms.kl import Estimator, KlState, adaptive, fixed, kl_per_token
from rlhf_ray.algorithms.masked import masked_mean, whiten
from rlhf_ray.algorithms.returns import generalized_advantages, shape_rewards
from rlhf_ray.config import Config
from rlhf_ray.experience import Estimates, Experience, Metrics, ScoredRollout


class Returns(Config):
    """How scores and KL become advantages."""

    kl_coef: float = Field(0.05, ge=0, description="What one nat of KL to the reference costs, in scores.")
    kl_target: float | None = Field(
        None, gt=0, description="KL a response that an adaptive coefficient steers to; none: fixed."
    )
    kl_horizon: int = Field(10_000, ge=1, description="Episodes in which an adaptive coefficient may double or so.")
    kl_estimator: Estimator = Field("k1", description="Estimator of the KL in the reward: k1, k2 or k3.")
    gamma: float = Field(1.0, gt=0, le=1, description="Discount a token.")
    lam: float = Field(0.95, ge=0, le=1, description="GAE's lambda.")


def assess(scored: ScoredRollout, old: Estimates, returns: Returns, kl: KlState) -> Experience:
    """Generalized advantages, whitened over all tokens of the batch."""
    mask = scored.rollout.mask
    divergence = kl_per_token(old.logprobs, scored.ref_logprobs, returns.kl_estimator)
    rewards = shape_rewards(scored.score, divergence, mask, kl.coef)
    advantages, targets = generalized_advantages(rewards, old.values, mask, gamma=returns.gamma, lam=returns.lam)
    return Experience(scored.rollout, old, whiten(advantages, mask), targets)


def response_kl(scored: ScoredRollout) -> Float[Tensor, "B"]:
    """KL to the reference summed over each response (k1 on the sampler's own log-probabilities), in nats."""
    return kl_per_token(scored.rollout.logprobs, scored.ref_logprobs).mul(scored.rollout.mask).sum(1)


def control(kl: KlState, measured: float, returns: Returns, episodes: int) -> KlState:
    """The coefficient for the next iteration."""
    if returns.kl_target is None:
        return fixed(kl, measured)
    return adaptive(kl, measured, target=returns.kl_target, horizon=returns.kl_horizon, episodes=episodes)


def describe(scored: ScoredRollout, kl: KlState) -> Metrics:
    """What an iteration's rollouts were like, under the names that TRL's PPO gave these figures."""
    lengths = scored.rollout.mask.sum(1).float()
    divergence = response_kl(scored)
    return {
        "objective/scores": float(scored.score.mean()),
        "objective/scores_std": float(scored.score.std(correction=0)),
        "objective/kl": float(divergence.mean()),
        "objective/rlhf_reward": float((scored.score - kl.coef * divergence).mean()),
        "objective/kl_coef": kl.coef,
        "objective/surprise": float(-masked_mean(scored.rollout.logprobs, scored.rollout.mask)),
        "response/length": float(lengths.mean()),
        "response/eos_rate": float(scored.rollout.ended.float().mean()),
    }
