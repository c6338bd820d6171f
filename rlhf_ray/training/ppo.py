"""Proximal policy optimization, as a walk: speak, judge, remember, blame and credit, improve."""

from collections.abc import Callable
from typing import Literal, Protocol

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from rlhf_ray.alarm import Alarm, Tripped, happening_at
from rlhf_ray.algorithms.kl import KlPenalty, KlState
from rlhf_ray.config import Config
from rlhf_ray.data.prompts import PromptStream
from rlhf_ray.experience import Estimates, Experience, Metrics, Rollout, ScoredRollout
from rlhf_ray.training.ahead import Ahead, Judges, Promise, Speaks, begin, check_version, lag_of, version_of
from rlhf_ray.training.assess import Returns, assess, control, correct, describe, penalty
from rlhf_ray.training.checkpoint import Checkpoints, Progress, Remembers
from rlhf_ray.weights import Weights
from rlhf_ray.workers.sampling import Sampling


class PPO(Config):
    """How long, and on how much at a time."""

    steps: int = Field(60, ge=1, description="Iterations.")
    episodes: int = Field(128, ge=1, description="Responses an iteration.")
    samples_per_prompt: int = Field(1, ge=1, description="Responses to each prompt; the others go to other prompts.")
    lead: Literal[0, 1] = Field(
        0,
        description="Rollouts begun while the learner improves; with 1 they are spoken with weights one update older.",
    )


class Improves(Remembers, Protocol):
    def weights(self) -> Weights: ...
    def version(self) -> int: ...
    def estimate(self, rollout: Rollout) -> Estimates: ...
    def refer(self, rollout: Rollout) -> Float[Tensor, "B R"]: ...
    def update(self, experience: Experience, penalty: KlPenalty) -> Metrics: ...
    def save(self, folder: str) -> None: ...


# Hears of every iteration, and says whether it was good: one that was not is not worth a checkpoint.
Report = Callable[[int, ScoredRollout, Metrics], bool]


def train(
    sampler: Speaks,
    scorer: Judges,
    learner: Improves,
    prompts: PromptStream,
    ppo: PPO,
    returns: Returns,
    report: Report,
    checkpoints: Checkpoints,
    progress: Progress | None = None,
    *,
    on_policy: bool = True,
    tolerance: float = Sampling().tolerance,
) -> None:
    """Improve the learner's policy until `ppo.steps` iterations are done, the first ones perhaps by an earlier run.

    The workers may be plain objects or groups of actors. A sampler that does not speak with the learner's weights, such
    as a recording, is not `on_policy`; one that does finds each token as likely as the learner, within `tolerance`
    nats. Raises Tripped where the run must not go on.
    """
    done, kl, older = (progress.step, progress.kl, progress.older) if progress else (0, KlState(returns.kl_coef), ())

    def speak(step: int, weights: Weights) -> Promise[ScoredRollout]:
        return begin(sampler, scorer, prompts.batch(step - 1), weights, seed=step)

    rollouts = Ahead(speak, ppo.lead, ppo.steps, done, older)
    for step in range(done + 1, ppo.steps + 1):
        with happening_at(step):
            weights = learner.weights()
            check_updates(weights.version, expected=step - 1)
            scored = rollouts.take(weights)  # spoken and judged, and the next ones begun
            rollout, lag = scored.rollout, lag_of(step, scored.rollout)
            old = learner.estimate(rollout)
            experience = assess(scored, old, returns, kl)
            if on_policy:
                check_version(step, rollout, version_of(step, ppo.lead))
            if on_policy and lag == 0:
                check_delivered(step, rollout, old, tolerance)
            else:
                experience = correct(experience, returns.importance_limit)
            update = learner.update(experience, penalty(returns, kl))
            metrics = describe(scored, experience, kl) | update | {"episode": float(step * ppo.episodes)}
            metrics |= {"rollout/lag": float(lag)} if on_policy else {}
        is_good = report(step, scored, metrics)
        kl = control(kl, metrics["objective/kl"], returns, ppo.episodes)
        if is_good:
            checkpoints.save_if_due(Progress(step, kl, rollouts.older), ppo.steps, learner)
    check_updates(learner.version(), expected=ppo.steps)


def check_delivered(step: int, rollout: Rollout, old: Estimates, tolerance: float) -> None:
    """The sampler must have spoken with the learner's weights: both find each token equally likely, within nats."""
    worst = float((rollout.logprobs - old.logprobs).abs().max())
    if not worst <= tolerance:
        raise Tripped(
            Alarm(
                "weights",
                f"the sampler's and the learner's log-probability of a token differ by {worst:.3f}; "
                "expected the same weights on both sides",
                "new weights did not reach the sampler, or the two read the model in different ways",
                "compare the version and the checksum of the weights on both sides",
                step,
            )
        )


def check_updates(done: int, expected: int) -> None:
    """The learner must have made one update a step; a run that lacks some must not look like one that is done."""
    if done != expected:
        raise Tripped(
            Alarm(
                "updates",
                f"the learner has made {done} of {expected} updates",
                "a checkpoint of another run, or an update that was lost",
                "delete the unfinished folder of the stage and run it again",
                done,
            )
        )
