"""Blame and credit: from what was judged and what was expected to an advantage for every token."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from rlhf_ray.algorithms.advantages import group_relative, leave_one_out, returns_to_go
from rlhf_ray.algorithms.kl import NO_PENALTY, Estimator, KlPenalty, KlState, adaptive, fixed, kl_per_token
from rlhf_ray.algorithms.losses import importance
from rlhf_ray.algorithms.masked import masked_mean, whiten
from rlhf_ray.algorithms.returns import generalized_advantages, shape_rewards
from rlhf_ray.config import Config
from rlhf_ray.experience import (
    CriticEstimates,
    CriticExperience,
    Estimates,
    Experience,
    Metrics,
    Rollout,
    ScoredRollout,
)


class Returns(Config):
    """How scores and KL become advantages."""

    advantage: Literal["gae", "group", "rloo", "reinforce++"] = Field(
        "gae", description="Estimator of the advantage; gae is the one that trains a critic."
    )
    group_std: bool = Field(True, description="group: in standard deviations of the group, as GRPO has it.")
    kl_coef: float = Field(0.05, ge=0, description="What one nat of KL to the reference costs, in scores.")
    kl_in: Literal["reward", "loss"] = Field("reward", description="Where the KL is paid for; loss wants k2 or k3.")
    kl_target: float | None = Field(
        None, gt=0, description="KL a response that an adaptive coefficient steers to; none: fixed."
    )
    kl_horizon: int = Field(10_000, ge=1, description="Episodes in which an adaptive coefficient moves by a fifth.")
    kl_estimator: Estimator = Field("k1", description="Estimator of the KL that is paid for: k1, k2 or k3.")
    gamma: float = Field(1.0, gt=0, le=1, description="Discount a token.")
    lam: float = Field(0.95, ge=0, le=1, description="GAE's lambda.")
    importance_limit: float = Field(
        2.0, ge=1, description="Most that a token may weigh that an older or another policy said (ppo.lead, replay)."
    )
    whiten_rewards: bool = Field(False, description="Give the rewards of a batch variance 1; their mean stays.")

    @model_validator(mode="after")
    def _has_a_gradient(self) -> Self:
        if self.kl_in == "loss" and self.kl_estimator == "k1":
            raise ValueError("kl_estimator: expected k2 or k3 with kl_in=loss (k1 has no gradient there), got 'k1'")
        return self

    @model_validator(mode="after")
    def _can_steer(self) -> Self:
        if self.kl_target is not None and self.kl_coef == 0:
            raise ValueError("kl_coef: expected more than 0 with kl_target, which multiplies it, got 0")
        return self

    @property
    def needs_critic(self) -> bool:
        return self.advantage == "gae"

    @property
    def needs_groups(self) -> bool:
        """Whether a response is held against others to the same prompt."""
        return self.advantage in ("group", "rloo")


def assess(scored: ScoredRollout, old: Estimates, returns: Returns, kl: KlState) -> Experience:
    """The experience of an iteration, by the estimator that `returns` names."""
    mask = scored.rollout.mask
    divergence = kl_per_token(old.logprobs, scored.ref_logprobs, returns.kl_estimator)
    rewards = shape_rewards(scored.score, divergence, mask, kl.coef if returns.kl_in == "reward" else 0.0)
    if returns.whiten_rewards:
        rewards = whiten(rewards, mask, keep_mean=True)
    return ESTIMATORS[returns.advantage](scored, old, rewards, returns)


def correct(experience: Experience, limit: float) -> Experience:
    """The experience of rollouts that another policy may have spoken: each token weighs what it is more likely now."""
    weights = importance(experience.old.logprobs, experience.rollout.logprobs, limit)
    return replace(experience, advantages=experience.advantages * weights)


def penalty(returns: Returns, kl: KlState) -> KlPenalty:
    """What the learner's loss adds for the KL: nothing where the reward has paid for it."""
    return KlPenalty(kl.coef, returns.kl_estimator) if returns.kl_in == "loss" else NO_PENALTY


Rewards = Float[Tensor, "B R"]


def by_gae(scored: ScoredRollout, old: Estimates, rewards: Rewards, returns: Returns) -> CriticExperience:
    """Generalized advantages against a critic, whitened over all tokens of the batch."""
    if not isinstance(old, CriticEstimates):
        raise TypeError(f"advantage=gae: expected the estimates of a learner with a critic, got {type(old).__name__}")
    mask = scored.rollout.mask
    advantages, targets = generalized_advantages(rewards, old.values, mask, gamma=returns.gamma, lam=returns.lam)
    return CriticExperience(scored.rollout, old, scored.ref_logprobs, whiten(advantages, mask), targets)


def by_group(scored: ScoredRollout, old: Estimates, rewards: Rewards, returns: Returns) -> Experience:
    """GRPO's: each token of a response has the response's place in its group."""
    group = scored.rollout.prompt.group
    return _for_all_tokens(scored, old, group_relative(rewards.sum(1), group, scale=returns.group_std))


def by_rloo(scored: ScoredRollout, old: Estimates, rewards: Rewards, returns: Returns) -> Experience:
    """Each token of a response has what the response is worth above the others to its prompt."""
    return _for_all_tokens(scored, old, leave_one_out(rewards.sum(1), scored.rollout.prompt.group))


def by_reinforce(scored: ScoredRollout, old: Estimates, rewards: Rewards, returns: Returns) -> Experience:
    """What comes from each token on, whitened over all tokens of the batch."""
    mask = scored.rollout.mask
    advantages = whiten(returns_to_go(rewards, mask, gamma=returns.gamma), mask)
    return Experience(scored.rollout, old, scored.ref_logprobs, advantages)


ESTIMATORS: dict[str, Callable[[ScoredRollout, Estimates, Rewards, Returns], Experience]] = {
    "gae": by_gae,
    "group": by_group,
    "rloo": by_rloo,
    "reinforce++": by_reinforce,
}


def _for_all_tokens(scored: ScoredRollout, old: Estimates, advantage: Float[Tensor, " B"]) -> Experience:
    advantages = torch.where(scored.rollout.mask, advantage[:, None], 0.0)
    return Experience(scored.rollout, old, scored.ref_logprobs, advantages)


def response_kl(scored: ScoredRollout, logprobs: Float[Tensor, "B R"] | None = None) -> Float[Tensor, " B"]:
    """KL to the reference summed over each response, in nats: k1 on `logprobs`, by default those of who spoke."""
    own = scored.rollout.logprobs if logprobs is None else logprobs
    return kl_per_token(own, scored.ref_logprobs).mul(scored.rollout.mask).sum(1)


def repeated_share(rollout: Rollout) -> float:
    """The share of the prompts that got the response which most prompts got; 0 where no two got the same."""
    tokens = torch.where(rollout.mask, rollout.tokens, -1).numpy(force=True)
    groups = rollout.prompt.group.tolist()
    told = {(group, row.tobytes()) for group, row in zip(groups, tokens, strict=True)}  # once a prompt
    most = max(Counter(response for _, response in told).values())
    return most / len(set(groups)) if most > 1 else 0.0


def distinct_2(rollout: Rollout) -> float:
    """Different pairs of neighbouring tokens, as a share of all (arXiv:1510.03055); 1 where there is none."""
    tokens = rollout.tokens.long()
    pairs = (tokens[:, :-1] * (int(tokens.max()) + 1) + tokens[:, 1:])[rollout.mask[:, 1:]]  # a number each
    return len(pairs.unique()) / len(pairs) if len(pairs) else 1.0


def control(kl: KlState, measured: float, returns: Returns, episodes: int) -> KlState:
    """The coefficient for the next iteration."""
    if returns.kl_target is None:
        return fixed(kl, measured)
    return adaptive(kl, measured, target=returns.kl_target, horizon=returns.kl_horizon, episodes=episodes)


def describe(scored: ScoredRollout, experience: Experience, kl: KlState) -> Metrics:
    """What an iteration's rollouts were like, under the names that TRL's PPO gave these figures."""
    mask = scored.rollout.mask
    # The learner's own view: in a replay the recording's would say nothing of where the policy went.
    divergence = response_kl(scored, experience.old.logprobs)
    return {
        "objective/scores": float(scored.score.mean()),
        "objective/scores_std": float(scored.score.std(correction=0)),
        "objective/score_clipfrac": float(scored.clipped.float().mean()),
        "objective/kl": float(divergence.mean()),
        "objective/non_score_reward": float(-kl.coef * divergence.mean()),
        "objective/rlhf_reward": float((scored.score - kl.coef * divergence).mean()),
        "objective/kl_coef": kl.coef,
        "objective/surprise": float(-masked_mean(scored.rollout.logprobs, mask)),
        "objective/advantages_std": float(experience.advantages[mask].std(correction=0)),
        "response/repeated_share": repeated_share(scored.rollout),
        "response/distinct_2": distinct_2(scored.rollout),
        "response/length": float(mask.sum(1).float().mean()),
        "response/eos_rate": float(scored.rollout.ended.float().mean()),
        "val/num_eos_tokens": float(scored.rollout.ended.sum()),
    }
