"""The loop learns what the judge rewards, repeats itself, and notices when the workers lose each other."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from rlhf_ray.alarm import Tripped
from rlhf_ray.experience import Estimates, PromptBatch, Rollout
from rlhf_ray.models.adapters import Lora, adapters_off
from rlhf_ray.models.loading import load_causal
from rlhf_ray.training.assess import Returns
from rlhf_ray.training.ppo import check_delivered
from rlhf_ray.training.reference import OwnReference
from rlhf_ray.training.tripwires import Tripwires
from rlhf_ray.weights import Weights
from rlhf_ray.workers.learner import Learner
from rlhf_ray.workers.sampler import Sampler
from rlhf_ray.workers.scorer import Scorer, Scoring


class Deaf:
    """A sampler that goes on speaking with the first weights it was given."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.first: Weights | None = None

    def generate(self, prompts: PromptBatch, weights: Weights, seed: int) -> Rollout:
        self.first = self.first or weights
        return self.sampler.generate(prompts, self.first, seed)


class Liar(Deaf):
    """The same, but it says that it spoke with those it was given."""

    def generate(self, prompts: PromptBatch, weights: Weights, seed: int) -> Rollout:
        rollout = super().generate(prompts, weights, seed)
        return replace(rollout, version=torch.full_like(rollout.version, weights.version))


class Attentive:
    """A sampler that remembers what it was asked, and with which seed."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.asked: list[tuple[PromptBatch, int]] = []

    def generate(self, prompts: PromptBatch, weights: Weights, seed: int) -> Rollout:
        self.asked.append((prompts, seed))
        return self.sampler.generate(prompts, weights, seed)


@pytest.mark.parametrize("advantage", ["gae", "group", "rloo", "reinforce++"])
def test_training_raises_the_score(run: Any, advantage: str) -> None:
    metrics = run.train(steps=12, episodes=32, lr=1e-2, returns=Returns(advantage=advantage))
    scores = [step["objective/scores"] for step in metrics]
    assert sum(scores[-3:]) / 3 > sum(scores[:3]) / 3 + 0.3
    assert run.learner.version() == 12


def test_the_same_seed_gives_the_same_metrics(new_run: Callable) -> None:
    one, other = (new_run().train(steps=3) for _ in range(2))
    assert one == other


def test_every_iteration_has_its_own_prompts_and_its_own_seed(run: Any) -> None:
    run.sampler = Attentive(run.sampler)
    run.train(steps=3, episodes=4)
    prompts, seeds = zip(*run.sampler.asked, strict=True)
    assert len(set(seeds)) == 3
    for step, asked in enumerate(prompts):
        assert torch.equal(asked.tokens, run.stream(4).batch(step).tokens)


def test_every_metric_is_a_number(run: Any) -> None:
    for metrics in run.train(steps=2):
        assert [name for name, value in metrics.items() if not math.isfinite(value)] == []


def test_an_iteration_of_one_episode_reports_numbers_too(run: Any) -> None:
    (metrics,) = run.train(steps=1, episodes=1)
    assert [name for name, value in metrics.items() if not math.isfinite(value)] == []


def test_with_the_real_scorer_the_divergence_starts_at_0_and_is_paid_for(run: Any) -> None:
    run.judge = Scorer(run.reward, run.policy, Scoring(), 1.0)
    first, second = run.train(steps=2, lr=1e-2, returns=Returns(kl_coef=0.5))
    assert first["objective/kl"] == pytest.approx(0, abs=1e-3)
    assert abs(second["objective/kl"]) > 1e-2
    for metrics in (first, second):
        price = metrics["objective/scores"] - metrics["objective/rlhf_reward"]
        assert price == pytest.approx(0.5 * metrics["objective/kl"], abs=1e-5)


@pytest.mark.parametrize(("target", "direction"), [(None, 0), (1e6, -1)])
def test_the_coefficient_is_steered_only_where_there_is_a_target(
    run: Any, target: float | None, direction: int
) -> None:
    metrics = run.train(steps=3, returns=Returns(kl_target=target, kl_horizon=100))
    coefs = [step["objective/kl_coef"] for step in metrics]
    assert coefs[0] == Returns().kl_coef
    assert [(b > a) - (b < a) for a, b in pairwise(coefs)] == [direction] * 2


def test_a_sampler_that_new_weights_never_reach_is_noticed(run: Any) -> None:
    run.sampler = Deaf(run.sampler)
    with pytest.raises(Tripped, match=r"weights at step 2: the sampler spoke with version 0 .* expected version 1"):
        run.train(steps=3, lr=1e-2)
    assert len(run.metrics) == 1  # in the first iteration the first weights are the right ones


def test_a_sampler_that_has_other_weights_than_it_says_is_noticed(run: Any) -> None:
    run.sampler = Liar(run.sampler)
    with pytest.raises(Tripped, match=r"weights at step 2: .* expected the same weights on both sides"):
        run.train(steps=3, lr=1e-2)


@pytest.mark.parametrize("change", [0.5, -0.5, math.nan])
def test_a_single_token_found_differently_likely_is_noticed(rollout_of: Callable, change: float) -> None:
    rollout = rollout_of([[5], [6]], [[20, 21, 0], [22, 0]])
    old = Estimates(torch.full((2, 3), -1e-6))
    check_delivered(1, rollout, old, 1e-2)
    logprobs = old.logprobs.clone()
    logprobs[1, 0] += change
    with pytest.raises(RuntimeError, match="weights"):
        check_delivered(1, rollout, replace(old, logprobs=logprobs), 1e-2)


def test_off_policy_the_policy_learns_from_what_it_did_not_say(run: Any) -> None:
    speaker = run.sampler
    run.sampler, run.on_policy = Deaf(speaker), False
    metrics = run.train(steps=12, episodes=32, lr=1e-2)
    said_now = run.judge.score(speaker.generate(run.stream(128).batch(0), run.learner.weights(), seed=99))
    assert float(said_now.score.mean()) > metrics[0]["objective/scores"] + 0.2


@pytest.mark.parametrize("advantage", ["gae", "rloo"])
def test_adapters_learn_it_too_and_the_base_stays_as_it_was(run: Any, advantage: str) -> None:
    run.lora = Lora(r=8, alpha=32)
    metrics = run.train(
        steps=30,
        episodes=32,
        lr=1e-1,
        returns=Returns(advantage=advantage),
        tripwires=Tripwires(kl="off", entropy="off"),
    )
    scores = [step["objective/scores"] for step in metrics]
    assert sum(scores[-3:]) / 3 > sum(scores[:3]) / 3 + 0.05
    assert metrics[0]["policy/changed_share"] == 1
    assert metrics[0]["objective/kl"] == pytest.approx(0, abs=1e-3)  # the reference is the policy's own base
    assert metrics[-1]["objective/kl"] > 0.1
    with adapters_off(run.learner.policy):
        base = dict(load_causal(run.policy).named_parameters())
        for name, parameter in run.learner.policy.named_parameters():
            if ".lora_" not in name:
                assert torch.equal(parameter, base[name.replace(".base_layer.", ".")])


def test_a_sampler_that_new_adapters_never_reach_is_noticed(run: Any) -> None:
    run.sampler, run.lora = Liar(run.sampler), Lora()
    with pytest.raises(RuntimeError, match="expected the same weights on both sides"):
        run.train(steps=4, lr=3e-2)


def test_adapters_that_are_frozen_are_noticed(run: Any) -> None:
    def freeze(learner: Learner) -> None:
        for student in learner.students:
            for group in student.optimizer.param_groups:
                group["params"] = group["params"][:2]

    run.lora, run.prepare = Lora(), freeze
    with pytest.raises(Tripped, match="frozen at step 1"):
        run.train(steps=2, tripwires=Tripwires())


def test_the_learners_own_reference_says_what_a_copy_of_it_would(run: Any) -> None:
    run.lora = Lora()
    run.train(steps=2, lr=3e-2)
    said = run.sampler.generate(run.stream(16).batch(0), run.learner.weights(), seed=9)
    copy = Scorer(run.reward, run.policy, Scoring(), 1.0).score(said)
    own = OwnReference(Scorer(run.reward, run.policy, Scoring(), 1.0, has_reference=False), run.learner).score(said)
    torch.testing.assert_close(own.ref_logprobs, copy.ref_logprobs, atol=1e-5, rtol=1e-5)
    assert torch.equal(own.score, copy.score)
    assert (said.logprobs - own.ref_logprobs).abs().max() > 0.01
