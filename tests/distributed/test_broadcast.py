"""Weights to all samplers at once, with real actors: they arrive, and a sampler that dies costs no run."""

from operator import attrgetter
from typing import Any

import pytest
import ray
import torch

from rlhf_ray.algorithms.kl import NO_PENALTY, KlState
from rlhf_ray.distributed.connection import connect
from rlhf_ray.distributed.team import assemble
from rlhf_ray.experience import PromptBatch, Rollout, ScoredRollout
from rlhf_ray.models.loading import load_tokenizer
from rlhf_ray.runs import RunConfig
from rlhf_ray.text import encode_prompts
from rlhf_ray.training.assess import Returns, assess

PROMPTS = ["the quick", "brown fox", "jumps", "dog"] * 2


@pytest.fixture(scope="module", autouse=True)
def ray_connection():
    connect()
    yield
    ray.shutdown()


def config_of(weights: str) -> RunConfig:
    return RunConfig.model_validate(
        {
            "seed": 3,
            "sampling": {"prompt_tokens": 12, "response_tokens": 8, "rows": 4},
            "learning": {"minibatch": 8, "policy_lr": 1e-2},
            "returns": {"advantage": "reinforce++"},
            "ppo": {"steps": 4, "episodes": 8},
            "cluster": {"samplers": 2, "threads_each": 1, "deadline_s": 120, "weights": weights},
        }
    )


@pytest.fixture
def prompts(policy_folder: str) -> PromptBatch:
    return encode_prompts(load_tokenizer(policy_folder), PROMPTS, 12)


def improve(learner: Any, rollout: Rollout) -> None:
    score = torch.linspace(-1, 1, len(rollout))
    scored = ScoredRollout(rollout, score, score[:, None], torch.zeros_like(rollout.ended), rollout.logprobs)
    learner.update(
        assess(scored, learner.estimate(rollout), Returns(advantage="reinforce++"), KlState(0.05)), NO_PENALTY
    )


def versions(sampler: Any) -> list[int | None]:
    return ray.get([actor.__ray_call__.remote(attrgetter("version")) for actor in sampler.actors], timeout=60)


def rollouts(weights: str, policy: str, prompts: PromptBatch, kill_at: int | None = None) -> tuple[list[Rollout], list]:
    """Three iterations; which versions the samplers had before they were asked to speak."""
    said, had = [], []
    with assemble(config_of(weights)) as team:
        learner, sampler = team.learner(policy, None), team.sampler(policy)
        for step in range(3):
            if step == kill_at:
                ray.kill(sampler.actors[1], no_restart=False)
            newest = learner.weights()
            had.append(versions(sampler))
            said.append(sampler.generate(prompts, newest, seed=step))
            improve(learner, said[-1])
    return said, had


def test_samplers_have_the_weights_before_they_speak(policy_folder: str, prompts: PromptBatch) -> None:
    ordinary, fetched = rollouts("store", policy_folder, prompts)
    sent, had = rollouts("collective", policy_folder, prompts)
    assert fetched == [[None, None], [0, 0], [1, 1]]
    assert had == [[0, 0], [1, 1], [2, 2]]
    assert all(torch.equal(one.logprobs, other.logprobs) for one, other in zip(ordinary, sent, strict=True))


@pytest.mark.slow
def test_a_sampler_that_dies_heals_from_the_store_and_hears_the_next(policy_folder: str, prompts: PromptBatch) -> None:
    ordinary, _ = rollouts("store", policy_folder, prompts)
    sent, had = rollouts("collective", policy_folder, prompts, kill_at=1)
    assert all(torch.equal(one.logprobs, other.logprobs) for one, other in zip(ordinary, sent, strict=True))
    assert had[0] == [0, 0]
    assert had[1][1] is None, "it began anew and had no channel"
    assert had[2] == [2, 2]
