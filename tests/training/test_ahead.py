"""Rollouts begun ahead: who speaks while who learns, with which weights, and what a token that is late weighs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from rlhf_ray.alarm import Tripped
from rlhf_ray.algorithms.kl import KlState
from rlhf_ray.experience import PromptBatch, Rollout, ScoredRollout
from rlhf_ray.training.ahead import Ahead, Promise, version_of
from rlhf_ray.training.assess import Returns, assess, control, correct, penalty
from rlhf_ray.training.ppo import PPO
from rlhf_ray.weights import LocalWeights, Weights
from rlhf_ray.workers.learner import Learner, Learning


@dataclass
class Kept:
    """A promise that tells the diary when its result is asked for."""

    step: int
    diary: list[str]
    work: Callable[[], Any]

    def result(self) -> Any:
        self.diary.append(f"take {self.step}")
        return self.work()


class Diarist:
    """Sampler, scorer and learner in one, around the real ones; it writes down what is begun and done, and when."""

    def __init__(self, run: Any) -> None:
        self.run, self.diary = run, []
        self.sampler, self.judge = run.sampler, run.judge
        run.sampler, run.judge, run.prepare = self.Speaking(self), self.Judging(self), self.watch

    class Speaking:
        def __init__(self, diarist: "Diarist") -> None:
            self.diarist = diarist

        def generate(self, prompts: PromptBatch, weights: Weights, seed: int) -> Rollout:
            return self.begin(prompts, weights, seed).result()

        def begin(self, prompts: PromptBatch, weights: Weights, seed: int) -> Promise[Rollout]:
            self.diarist.diary.append(f"begin {seed} with {weights.version}")
            rollout = self.diarist.sampler.generate(prompts, weights, seed)
            return Kept(seed, [], lambda: rollout)

    class Judging:
        def __init__(self, diarist: "Diarist") -> None:
            self.diarist = diarist

        def score(self, rollout: Rollout) -> ScoredRollout:
            return self.diarist.judge.score(rollout)

        def begin(self, rollout: Kept) -> Promise[ScoredRollout]:
            return Kept(rollout.step, self.diarist.diary, lambda: self.score(rollout.result()))

    def watch(self, learner: Learner) -> None:
        update = learner.update

        def watched(*arguments: Any) -> Any:
            self.diary.append(f"improve {learner.version()}")
            return update(*arguments)

        learner.update = watched


def test_the_next_rollout_is_begun_before_the_learner_improves(run: Any) -> None:
    run.lead = 1
    diarist = Diarist(run)
    run.train(steps=4)
    assert diarist.diary == [
        *("begin 1 with 0", "begin 2 with 0", "take 1", "improve 0"),
        *("begin 3 with 1", "take 2", "improve 1"),
        *("begin 4 with 2", "take 3", "improve 2"),
        *("take 4", "improve 3"),
    ]


def test_without_a_lead_everybody_waits_for_the_other(run: Any) -> None:
    diarist = Diarist(run)
    run.train(steps=2)
    assert diarist.diary == ["begin 1 with 0", "take 1", "improve 0", "begin 2 with 1", "take 2", "improve 1"]


def test_without_a_lead_the_loop_is_one_step_after_the_other(new_run: Callable) -> None:
    run, alone, returns, kl = new_run(), new_run(), Returns(kl_target=1.0), KlState(Returns().kl_coef)
    metrics = run.train(steps=3, returns=returns)
    learning = Learning(epochs=2, minibatch=16, policy_lr=1e-3, critic_lr=1e-3)
    learner = Learner(alone.policy, alone.reward, learning, 1.0, 3, 3)
    for step in (1, 2, 3):
        scored = alone.judge.score(alone.sampler.generate(alone.stream(16).batch(step - 1), learner.weights(), step))
        update = learner.update(assess(scored, learner.estimate(scored.rollout), returns, kl), penalty(returns, kl))
        assert {name: metrics[step - 1][name] for name in update} == update
        kl = control(kl, metrics[step - 1]["objective/kl"], returns, 16)
    assert torch.equal(torch.from_numpy(learner.weights().buffer), torch.from_numpy(run.learner.weights().buffer))


def test_promised_or_at_once_the_same_is_learned(new_run: Callable) -> None:
    plain, promised = new_run(), new_run()
    plain.lead = promised.lead = 1
    Diarist(promised)
    assert plain.train(steps=4) == promised.train(steps=4)


def test_a_lead_learns_it_too_from_what_is_one_version_old(run: Any) -> None:
    run.lead = 1
    metrics = run.train(steps=12, episodes=32, lr=1e-2)
    scores = [step["objective/scores"] for step in metrics]
    assert sum(scores[-3:]) / 3 > sum(scores[:3]) / 3 + 0.3
    assert [step["rollout/lag"] for step in metrics] == [0] + [1] * 11


def test_the_first_step_is_that_of_a_run_without_a_lead(new_run: Callable) -> None:
    ahead, in_turn = new_run(), new_run()
    ahead.lead = 1
    (one, late), (other, fresh) = ahead.train(steps=2, lr=1e-2), in_turn.train(steps=2, lr=1e-2)
    assert one == other
    assert late != fresh


def test_weights_are_1_where_the_versions_are_equal(run: Any) -> None:
    run.train(steps=1)
    scored = run.judge.score(run.sampler.generate(run.stream(16).batch(1), run.learner.weights(), seed=2))
    old = run.learner.estimate(scored.rollout)
    experience = assess(scored, old, Returns(), KlState(0.05))
    torch.testing.assert_close(correct(experience, 2.0).advantages, experience.advantages, rtol=1e-4, atol=1e-5)


def test_what_is_late_weighs_what_the_token_is_more_likely_now(run: Any) -> None:
    stale = run.judge
    run.train(steps=2, lr=1e-2)
    first = Learner(run.policy, run.reward, Learning(), 1.0, 3, 2).weights()
    scored = stale.score(run.sampler.generate(run.stream(16).batch(1), replace(first, version=-5), seed=2))
    old = run.learner.estimate(scored.rollout)
    experience = assess(scored, old, Returns(), KlState(0.05))
    ratio = (old.logprobs - scored.rollout.logprobs).exp().clamp(max=1.2)
    assert not torch.allclose(ratio, torch.ones_like(ratio), atol=1e-2)
    torch.testing.assert_close(correct(experience, 1.2).advantages, experience.advantages * ratio)


def test_who_speaks_depends_on_the_step_alone(weights_of: Callable) -> None:
    asked: list[tuple[int, int]] = []

    def speak(step: int, weights: Weights) -> Promise[ScoredRollout]:
        asked.append((step, weights.version))
        return Kept(step, [], lambda: step)

    whole = Ahead(speak, lead=1, steps=7)
    older = [(whole.take(weights_of(step - 1)), whole.older)[1] for step in range(1, 8)]
    undisturbed = asked.copy()
    assert undisturbed == [(step, max(0, step - 2)) for step in range(1, 8)]
    assert [version_of(step, 1) for step, _ in undisturbed] == [version for _, version in undisturbed]
    for done in range(1, 7):
        asked.clear()
        again = Ahead(speak, 1, 7, done, older[done - 1])
        taken = [again.take(weights_of(step - 1)) for step in range(done + 1, 8)]
        assert taken == list(range(done + 1, 8))
        assert asked == undisturbed[done:]


@pytest.mark.parametrize("older", [3, 0])
def test_a_sampler_whose_weights_are_older_than_the_lead_allows_is_noticed(run: Any, older: int) -> None:
    speaker, run.lead = run.sampler, 1

    class Late:
        def generate(self, prompts: PromptBatch, weights: Weights, seed: int) -> Rollout:
            rollout = speaker.generate(prompts, weights, seed)
            return replace(rollout, version=(rollout.version - older * (seed == 3)).clamp(min=0))

    run.sampler = Late()
    if older:
        with pytest.raises(Tripped, match=r"weights at step 3: the sampler spoke with version 0 .* expected version 1"):
            run.train(steps=4)
    else:
        run.train(steps=4)


def test_a_lead_is_0_or_1() -> None:
    with pytest.raises(ValueError, match="lead"):
        PPO(lead=2)


@pytest.fixture
def weights_of() -> Callable[[int], Weights]:
    buffer = torch.zeros(1).numpy()
    return lambda version: LocalWeights(version, buffer, "")
