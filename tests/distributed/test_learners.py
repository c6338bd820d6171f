"""Several learners are one learner: the same steps from the same batch, whoever computed which share of it."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from rlhf_ray.alarm import Tripped
from rlhf_ray.algorithms.kl import NO_PENALTY, KlState
from rlhf_ray.distributed.connection import ActorLost, connect, wait_for
from rlhf_ray.distributed.groups import LearnerGroup
from rlhf_ray.distributed.team import RayTeam, assemble
from rlhf_ray.experience import Experience, Metrics, Rollout, ScoredRollout
from rlhf_ray.models.adapters import Lora
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.runs import RunConfig
from rlhf_ray.text import encode_prompts
from rlhf_ray.training.assess import Returns, assess
from rlhf_ray.weights import pack
from rlhf_ray.workers.learner import Learner, Learning

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # actors cannot import a test module
NEAR = 2e-6  # AdamW turns the rounding of a small gradient, 1e-8, into lr / eps = 100 times as much; a step is 1e-3
LEARNING = {"minibatch": 6, "policy_lr": 1e-3, "critic_lr": 1e-3, "epochs": 2}
DRILLED = pytest.mark.slow  # four processes on two cores


@pytest.fixture(scope="module", autouse=True)
def ray_connection() -> Iterator[None]:
    ray.init(num_cpus=4, logging_level="warning")  # four seats of one thread, also where there are two cores
    connect()
    yield
    ray.shutdown()


def config_of(learners: int, shard: bool = False, lora: Any = "none", **learning: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "seed": 3,
            "lora": lora,
            "learning": LEARNING | learning,
            "ppo": {"steps": 4, "episodes": 10},
            "cluster": {"learners": learners, "shard": shard, "threads_each": 1, "deadline_s": 120},
        }
    )


@pytest.fixture
def rollout(rollout_of: Callable) -> Rollout:
    """Ten ragged responses, so that no share has as many tokens as another."""
    generator = torch.Generator().manual_seed(4)
    lengths = [1, 7, 3, 5, 2, 6, 4, 1, 7, 2]
    responses = [[*torch.randint(2, 60, (length,), generator=generator).tolist(), 0] for length in lengths]
    said = rollout_of([[5, 6], [7], [8, 9, 10], [11], [12]] * 2, responses)
    return replace(said, version=torch.full_like(said.version, -1))  # no sampler's word is to be taken


def experience_of(learner: Any, rollout: Rollout) -> Experience:
    old = learner.estimate(rollout)
    rollout = replace(rollout, logprobs=old.logprobs)
    score = torch.linspace(-1, 1, len(rollout), dtype=old.logprobs.dtype)
    scored = ScoredRollout(
        rollout, score, score[:, None], torch.zeros_like(rollout.ended), old.logprobs - 0.1 * rollout.mask
    )
    return assess(scored, old, Returns(), KlState(0.05))


def learned(learner: Any, rollout: Rollout) -> tuple[Metrics, np.ndarray]:
    """The metrics of the second update, and the weights after it."""
    for _ in range(2):
        metrics = learner.update(experience_of(learner, rollout), NO_PENALTY)
    return metrics, learner.weights().fetch().buffer


def group_learned(
    count: int, policy: str, reward: str, rollout: Rollout, **learning: Any
) -> tuple[Metrics, np.ndarray]:
    with assemble(config_of(count, **learning)) as team:
        return learned(team.learner(policy, reward), rollout)


@pytest.mark.parametrize(
    ("count", "learning"), [(2, {}), pytest.param(4, {}, marks=DRILLED), (2, {"microbatch_tokens": 16})]
)
def test_the_number_of_learners_changes_no_update(
    policy_folder: str, reward_folder: str, rollout: Rollout, count: int, learning: dict[str, int]
) -> None:
    alone = Learner(policy_folder, reward_folder, Learning(**LEARNING), 1.0, 3, 4)
    metrics, weights = learned(alone, rollout)
    group_metrics, group_weights = group_learned(count, policy_folder, reward_folder, rollout, **learning)
    assert group_metrics == pytest.approx(metrics, abs=1e-5, rel=1e-4)
    assert np.abs(group_weights - weights).max() < NEAR


def test_learners_that_share_the_model_too_take_the_same_steps(
    policy_folder: str, reward_folder: str, rollout: Rollout, tmp_path: Path
) -> None:
    alone = Learner(policy_folder, reward_folder, Learning(**LEARNING), 1.0, 3, 4)
    with assemble(config_of(2, shard=True, microbatch_tokens=20)) as team:
        group = team.learner(policy_folder, reward_folder)
        shares = ray.get([actor.__ray_call__.remote(own_numbers) for actor in group.actors], timeout=60)
        (metrics, weights), (group_metrics, group_weights) = learned(alone, rollout), learned(group, rollout)
        group.save(str(tmp_path / "policy"))
    assert sum(shares) == sum(p.numel() for s in alone.students for p in s.model.parameters())
    assert max(shares) < 0.6 * sum(shares)
    assert group_metrics == pytest.approx(metrics, abs=1e-5, rel=1e-4)
    assert np.abs(group_weights - weights).max() < NEAR
    saved = pack(load_causal(str(tmp_path / "policy")).parameters(), 2).buffer
    assert np.array_equal(saved, group_weights)


def own_numbers(learner: Learner) -> int:
    """How many numbers of all models this rank holds."""
    return sum(p.to_local().numel() for student in learner.students for p in student.model.parameters())


@pytest.mark.parametrize("shard", [True, False])
def test_a_checkpoint_of_sharded_learners_is_like_any_other(
    policy_folder: str, reward_folder: str, rollout: Rollout, tmp_path: Path, shard: bool
) -> None:
    """It was written by two that share their models; whoever goes on from it, sharded or not, goes the same way."""
    with assemble(config_of(2, shard=True)) as team:
        first = team.learner(policy_folder, reward_folder)
        first.update(experience_of(first, rollout), NO_PENALTY)
        first.remember(str(tmp_path))
        metrics, weights = learned(first, rollout)
    with assemble(config_of(2, shard=shard)) as team:
        second = team.learner(policy_folder, reward_folder)
        second.recall(str(tmp_path))
        assert second.version() == 1
        again, same = learned(second, rollout)
    assert again == pytest.approx(metrics, abs=1e-5, rel=1e-4)
    assert np.abs(same - weights).max() < (1e-12 if shard else 1e-6)


def test_two_learners_with_adapters_are_one(policy_folder: str, reward_folder: str, rollout: Rollout) -> None:
    alone = Learner(policy_folder, reward_folder, Learning(**LEARNING), 1.0, 3, 4, lora=Lora())
    metrics, weights = learned(alone, rollout)
    with assemble(config_of(2, lora={})) as team:
        group = team.learner(policy_folder, reward_folder)
        group_metrics, group_weights = learned(group, rollout)
        referred = group.refer(rollout)
    assert group_metrics == pytest.approx(metrics, abs=1e-5, rel=1e-4)
    assert np.abs(group_weights - weights).max() < NEAR
    torch.testing.assert_close(referred, alone.refer(rollout), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learners": 1}, r"cluster.shard: expected cluster.learners of at least 2, got 1"),
        ({"learners": 2, "lora": {}}, r"cluster.shard: expected lora=none"),
        ({"learners": 2, "minibatch": 5}, r"learning.minibatch: expected a multiple of cluster.learners \(2\)"),
        ({"learners": 3, "minibatch": 6}, r"ppo.episodes: expected a multiple of cluster.learners \(3\) .* got 10"),
    ],
)
def test_what_cannot_be_sharded_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config_of(shard=True, **change)


@pytest.mark.slow
def test_the_number_of_samplers_and_scorers_changes_no_bit(policy_folder: str, reward_folder: str) -> None:
    """Work items are fixed, so one, two and four actors say the same."""
    prompts = encode_prompts(load_tokenizer(policy_folder), ["the quick", "brown fox", "jumps", "dog"] * 4, 12)
    weights, found = pack(load_causal(policy_folder).parameters(), version=0), []
    for count in (1, 2, 4):
        sizes = {"sampling": {"prompt_tokens": 12, "response_tokens": 8, "rows": 4}, "scoring": {"rows": 4}}
        cluster = {"samplers": count, "scorers": count, "threads_each": 1, "deadline_s": 120}
        with assemble(RunConfig.model_validate(sizes | {"seed": 3, "cluster": cluster})) as team:
            rollout = team.sampler(policy_folder).generate(prompts, weights, seed=1)
            found.append((rollout, team.scorer(reward_folder, policy_folder).score(rollout)))
    (one, judged_by_one), *more = found
    for rollout, judged in more:
        for name in ("tokens", "mask", "logprobs", "ended"):
            assert torch.equal(getattr(rollout, name), getattr(one, name))
        for name in ("score", "parts", "ref_logprobs"):
            assert torch.equal(getattr(judged, name), getattr(judged_by_one, name))


class Exact(Learner):
    """A learner in float64."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for student in self.students:
            student.model.double()

    def parameters(self) -> np.ndarray:
        return np.concatenate([p.detach().numpy().ravel() for s in self.students for p in s.model.parameters()])


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=DRILLED)])
def test_in_float64_they_agree_to_twelve_digits(
    policy_folder: str, reward_folder: str, rollout: Rollout, count: int
) -> None:
    arguments = (policy_folder, reward_folder, Learning(**LEARNING, adam_eps=1e-3), 1.0, 3, 4)
    alone = Exact(*arguments)
    learned(alone, rollout)
    actors = [ray.remote(Exact).options(num_cpus=1).remote(*arguments) for _ in range(count)]
    RayTeam.introduce(actors, deadline_s=120)
    learned(LearnerGroup(actors, LEARNING["minibatch"], 120), rollout)
    for parameters in ray.get([actor.parameters.remote() for actor in actors], timeout=60):
        assert np.abs(parameters - alone.parameters()).max() < 1e-12
    for actor in actors:
        ray.kill(actor)


def test_all_learners_go_on_from_a_checkpoint(
    policy_folder: str, reward_folder: str, rollout: Rollout, tmp_path: Any
) -> None:
    with assemble(config_of(2)) as team:
        first = team.learner(policy_folder, reward_folder)
        first.update(experience_of(first, rollout), NO_PENALTY)
        first.remember(str(tmp_path))
        metrics, weights = learned(first, rollout)
    with assemble(config_of(2)) as team:
        second = team.learner(policy_folder, reward_folder)
        second.recall(str(tmp_path))
        assert second.version() == 1
        again, same = learned(second, rollout)
    assert again == metrics
    assert np.array_equal(same, weights)


def test_what_is_wrong_with_one_share_is_said_by_all(policy_folder: str, reward_folder: str, rollout: Rollout) -> None:
    """None of them is left waiting for the one that noticed."""
    with assemble(config_of(2)) as team:
        learner = team.learner(policy_folder, reward_folder)
        experience = experience_of(learner, rollout)
        old = replace(
            experience.old, logprobs=experience.old.logprobs.index_add(0, torch.tensor([0]), torch.ones(1, 8))
        )
        with pytest.raises(Tripped, match="ratio at step 1: expected 1"):
            learner.update(replace(experience, old=old), NO_PENALTY)
        both = [actor.update.remote(replace(experience, old=old)) for actor in learner.actors]
        for ref in both:
            with pytest.raises(Tripped, match="ratio"):
                wait_for([ref], "a learner", 60)


def test_a_learner_that_dies_is_missed_by_the_others_at_once(
    policy_folder: str, reward_folder: str, rollout: Rollout
) -> None:
    with assemble(config_of(2)) as team:
        learner = team.learner(policy_folder, reward_folder)
        experience = experience_of(learner, rollout)
        ray.kill(learner.actors[1].actor)
        with pytest.raises(ActorLost):
            learner.update(experience, NO_PENALTY)


def test_more_learners_than_a_minibatch_has_episodes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cluster.learners: expected at most 4, .* got 5"):
        config_of(5)
