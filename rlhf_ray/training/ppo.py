"""Proximal policy optimization, as a walk: speak, judge, remember, blame and credit, improve."""

from collections.abc import Callable
from typing import Protocol

from pydantic import Field

from rlhf_ray.algorithms.kl import KlPenalty, KlState
from rlhf_ray.config import Config
from rlhf_ray.data.prompts import PromptStream
from rlhf_ray.experience import Estimates, Experience, Metrics, PromptBatch, Rollout, ScoredRollout
from rlhf_ray.training.assess import Returns, assess, control, describe, penalty
from rlhf_ray.weights import Weights

LOGPROB_TOLERANCE = 1e-2  # nats; two ways to compute one number in float32 stay well within it


class PPO(Config):
    """How long, and on how much at a time."""

    steps: int = Field(30, ge=1, description="Iterations.")
    episodes: int = Field(64, ge=1, description="Responses an iteration.")
    samples_per_prompt: int = Field(1, ge=1, description="Responses to each prompt; the others go to other prompts.")
    kl_limit: float = Field(
        12.0, gt=0, description="KL a response to the SFT model, in nats, that the tuned model must stay below."
    )


class Speaks(Protocol):
    def generate(self, prompts: PromptBatch, weights: Weights, seed: int) -> Rollout: ...


class Judges(Protocol):
    def score(self, rollout: Rollout) -> ScoredRollout: ...


class Improves(Protocol):
    def weights(self) -> Weights: ...
    def estimate(self, rollout: Rollout) -> Estimates: ...
    def update(self, experience: Experience, penalty: KlPenalty) -> Metrics: ...
    def save(self, folder: str) -> None: ...


Report = Callable[[int, ScoredRollout, Metrics], None]


def train(
    sampler: Speaks,
    scorer: Judges,
    learner: Improves,
    prompts: PromptStream,
    ppo: PPO,
    returns: Returns,
    report: Report,
) -> None:
    """Improve the learner's policy for `ppo.steps` iterations. The workers may be plain objects or groups of actors."""
    weights = learner.weights()
    kl = KlState(returns.kl_coef)
    for step in range(1, ppo.steps + 1):
        rollout = sampler.generate(prompts.batch(step - 1), weights, seed=step)
        scored = scorer.score(rollout)
        old = learner.estimate(rollout)
        check_delivered(rollout, old)
        experience = assess(scored, old, returns, kl)
        update = learner.update(experience, penalty(returns, kl))
        weights = learner.weights()
        metrics = describe(scored, experience, kl) | update
        report(step, scored, metrics)
        kl = control(kl, metrics["objective/kl"], returns, ppo.episodes)


def check_delivered(rollout: Rollout, old: Estimates) -> None:
    """The sampler must have spoken with the learner's weights: both find each token equally likely."""
    worst = float((rollout.logprobs - old.logprobs).abs().max())
    if not worst <= LOGPROB_TOLERANCE:
        raise RuntimeError(
            f"weights: the sampler's and the learner's log-probability of a token differ by {worst:.3f}; "
            "expected the same weights on both sides"
        )
