"""The three workers keep their promises: repeatable speech, honest scores, and learning that notices what is wrong."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from rlhf_ray.algorithms.kl import KlPenalty, KlState
from rlhf_ray.batch import Batch
from rlhf_ray.experience import Experience, PromptBatch, Rollout, ScoredRollout
from rlhf_ray.models.loading import load_causal
from rlhf_ray.text import encode_prompts
from rlhf_ray.training.assess import Returns, assess
from rlhf_ray.weights import LocalWeights, pack
from rlhf_ray.workers.learner import Learner, Learning
from rlhf_ray.workers.sampler import Sampler, Sampling
from rlhf_ray.workers.scorer import Scorer, Scoring

EOS = 0
TEXTS = ["the quick", "brown fox", "jumps", "over the lazy", "dog", "pack my box"]
SAMPLING = Sampling(temperature=0.9, prompt_tokens=16, response_tokens=8, rows=4)


@dataclass
class CountingWeights:
    """Weights that know how often they were fetched."""

    inner: LocalWeights
    fetched: list[int] = field(default_factory=list)

    @property
    def version(self) -> int:
        return self.inner.version

    def fetch(self) -> LocalWeights:
        self.fetched.append(self.version)
        return self.inner


@pytest.fixture
def sampler(policy_folder: str) -> Sampler:
    return Sampler(policy_folder, SAMPLING, run_seed=11)


@pytest.fixture
def prompts(tokenizer: PreTrainedTokenizerBase) -> PromptBatch:
    return encode_prompts(tokenizer, TEXTS, SAMPLING.prompt_tokens)


@pytest.fixture
def weights(policy_folder: str) -> LocalWeights:
    return pack(load_causal(policy_folder).parameters(), version=0)


@pytest.fixture
def rollout(sampler: Sampler, prompts: PromptBatch, weights: LocalWeights) -> Rollout:
    return sampler.generate(prompts, weights, seed=1)


def scorer_of(reward: str, reference: str, **scoring: float | int) -> Scorer:
    return Scorer(reward, reference, Scoring(**scoring), SAMPLING.temperature)


def learner_of(policy: str, critic: str | None, **learning: float | int | str) -> Learner:
    return Learner(policy, critic, Learning(**learning), SAMPLING.temperature, run_seed=11, total_steps=4)


@pytest.fixture
def learner(policy_folder: str, reward_folder: str) -> Learner:
    return learner_of(policy_folder, reward_folder, minibatch=4, policy_lr=1e-3)


def experience_of(learner: Learner, rollout: Rollout) -> Experience:
    """Every second response was good, the others were bad."""
    score = torch.tensor([1.0, -1.0]).repeat(len(rollout))[: len(rollout)]
    scored = ScoredRollout(rollout, score, score[:, None], torch.zeros_like(rollout.ended), rollout.logprobs)
    return assess(scored, learner.estimate(rollout), Returns(), KlState(0.05))


def same(one: Batch, other: Batch, *names: str) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def test_the_same_seed_gives_the_same_rollout_bit_for_bit(
    sampler: Sampler, prompts: PromptBatch, weights: LocalWeights, rollout: Rollout, policy_folder: str
) -> None:
    for speaker in (sampler, Sampler(policy_folder, SAMPLING, run_seed=11)):
        again = speaker.generate(prompts, weights, seed=1)
        assert same(again, rollout, "tokens", "mask", "logprobs", "ended")


def test_another_seed_gives_another_rollout(
    sampler: Sampler, prompts: PromptBatch, weights: LocalWeights, rollout: Rollout, policy_folder: str
) -> None:
    assert not same(sampler.generate(prompts, weights, seed=2), rollout, "tokens")
    other_run = Sampler(policy_folder, SAMPLING, run_seed=12)
    assert not same(other_run.generate(prompts, weights, seed=1), rollout, "tokens")


def test_one_prompt_asked_twice_gets_two_answers(
    sampler: Sampler, tokenizer: PreTrainedTokenizerBase, weights: LocalWeights
) -> None:
    twice = encode_prompts(tokenizer, ["the quick"] * 4, SAMPLING.prompt_tokens)
    answers = sampler.generate(twice, weights, seed=1).tokens
    assert len(answers.unique(dim=0)) == 4


def test_a_work_item_is_spoken_the_same_whatever_follows(
    sampler: Sampler, prompts: PromptBatch, weights: LocalWeights, rollout: Rollout
) -> None:
    rows = SAMPLING.rows
    assert same(sampler.generate(prompts[:rows], weights, seed=1), rollout[:rows], "tokens", "mask", "logprobs")
    assert same(sampler.generate(prompts[rows:], weights, seed=1), rollout[rows:], "tokens", "mask", "logprobs")


def test_weights_are_fetched_only_when_their_version_is_new(
    sampler: Sampler, prompts: PromptBatch, weights: LocalWeights
) -> None:
    first, second = CountingWeights(weights), CountingWeights(replace(weights, version=1))
    for held, seed in ((first, 1), (first, 2), (second, 3), (second, 4), (first, 5)):
        sampler.generate(prompts, held, seed)
    assert (first.fetched, second.fetched) == ([0, 0], [1])


def test_the_sampler_speaks_with_the_weights_it_is_given(
    sampler: Sampler, prompts: PromptBatch, weights: LocalWeights, rollout: Rollout, policy_folder: str
) -> None:
    other = load_causal(policy_folder)
    torch.nn.init.normal_(other.lm_head.weight)
    spoken = sampler.generate(prompts, pack(other.parameters(), version=1), seed=1)
    assert not same(spoken, rollout, "tokens")
    assert same(sampler.generate(prompts, weights, seed=1), rollout, "tokens", "logprobs")


def test_damaged_weights_are_not_taken_for_delivered(
    sampler: Sampler, prompts: PromptBatch, weights: LocalWeights
) -> None:
    damaged = replace(weights, version=7, checksum="0" * 32)
    for _ in range(2):
        with pytest.raises(ValueError, match="checksum"):
            sampler.generate(prompts, damaged, seed=1)


def test_a_score_that_is_no_number_is_an_error_that_names_the_sample(
    policy_folder: str, reward_folder: str, rollout: Rollout
) -> None:
    scorer = scorer_of(reward_folder, policy_folder)
    torch.nn.init.constant_(scorer.rewards["model"].scalar.classifier.score.weight, torch.nan)
    with pytest.raises(FloatingPointError, match="nan for sample 2"):
        scorer.score(rollout[2:])


def test_only_the_sample_whose_score_is_no_number_is_named(
    policy_folder: str, reward_folder: str, rollout_of: Callable
) -> None:
    scorer = scorer_of(reward_folder, policy_folder, rows=2)
    with torch.no_grad():
        scorer.rewards["model"].scalar.classifier.get_input_embeddings().weight[50] = torch.inf
    healthy = rollout_of([[5]] * 4, [[20, EOS], [21, EOS], [22, 23, EOS], [24, EOS]])
    assert scorer.score(healthy).score.isfinite().all()
    with pytest.raises(FloatingPointError, match="for sample 2"):
        scorer.score(rollout_of([[5]] * 4, [[20, EOS], [21, EOS], [22, 50, EOS], [24, EOS]]))


def test_a_response_that_did_not_end_loses_the_penalty(
    policy_folder: str, reward_folder: str, rollout_of: Callable
) -> None:
    rollout = rollout_of([[5], [6], [7]], [[20, 21], [22, EOS], [23, 24]])
    free = scorer_of(reward_folder, policy_folder, missing_eos_penalty=0.0).score(rollout)
    strict = scorer_of(reward_folder, policy_folder, missing_eos_penalty=2.5).score(rollout)
    torch.testing.assert_close(free.score - strict.score, torch.tensor([2.5, 0.0, 2.5]))


def test_scores_stay_within_the_clip(policy_folder: str, reward_folder: str, rollout: Rollout) -> None:
    free = scorer_of(reward_folder, policy_folder, missing_eos_penalty=0.0).score(rollout).score
    limit = float(free.abs().median())
    clipped = scorer_of(reward_folder, policy_folder, missing_eos_penalty=0.0, clip=limit).score(rollout).score
    assert float(clipped.abs().max()) == pytest.approx(limit)
    inside = free.abs() < limit
    assert inside.any()
    assert torch.equal(clipped[inside], free[inside])
    assert torch.equal(clipped.sign(), free.sign())


def test_how_many_are_scored_together_does_not_matter(policy_folder: str, reward_folder: str, rollout: Rollout) -> None:
    one, all_at_once = (scorer_of(reward_folder, policy_folder, rows=rows).score(rollout) for rows in (1, 32))
    torch.testing.assert_close(one.score, all_at_once.score, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.ref_logprobs, all_at_once.ref_logprobs, atol=1e-5, rtol=0)


def test_a_policy_that_is_still_the_reference_has_not_moved_away(
    policy_folder: str, reward_folder: str, rollout: Rollout
) -> None:
    scored = scorer_of(reward_folder, policy_folder).score(rollout)
    torch.testing.assert_close(scored.ref_logprobs, rollout.logprobs, atol=1e-4, rtol=0)
    assert same(scored.rollout, rollout, "tokens", "mask", "ended")


def test_the_ratio_is_1_before_anything_was_learned(policy_folder: str, reward_folder: str, rollout: Rollout) -> None:
    learner = learner_of(policy_folder, reward_folder, epochs=1, minibatch=32, policy_lr=1e-8)
    metrics = learner.update(experience_of(learner, rollout))
    assert metrics["val/ratio"] == pytest.approx(1, abs=1e-6)
    assert metrics["policy/approxkl_avg"] == pytest.approx(0, abs=1e-9)
    assert metrics["policy/clipfrac_avg"] == 0


def test_the_ratio_is_1_again_at_the_start_of_every_iteration(
    learner: Learner, sampler: Sampler, prompts: PromptBatch
) -> None:
    for step in range(3):
        rollout = sampler.generate(prompts, learner.weights(), seed=step)
        learner.update(experience_of(learner, rollout))  # raises where it is not
    assert learner.version() == 3


def test_an_update_changes_every_tensor_of_policy_and_critic(learner: Learner, rollout: Rollout) -> None:
    models = (learner.policy, learner.critic)
    before = [{name: tensor.clone() for name, tensor in model.named_parameters()} for model in models]
    learner.update(experience_of(learner, rollout))
    for model, old in zip(models, before, strict=True):
        assert [name for name, tensor in model.named_parameters() if torch.equal(tensor, old[name])] == []


def test_an_update_makes_good_responses_more_likely_and_bad_ones_less(learner: Learner, rollout: Rollout) -> None:
    experience = experience_of(learner, rollout)
    learner.update(experience)
    after = learner.estimate(rollout).logprobs
    gain = ((after - experience.old.logprobs) * experience.advantages).sum()
    assert float(gain) > 0


def test_an_update_brings_the_critic_closer_to_the_returns(
    policy_folder: str, reward_folder: str, rollout: Rollout
) -> None:
    learner = learner_of(policy_folder, reward_folder, epochs=4, critic_lr=3e-3, value_clip=10.0)
    experience = experience_of(learner, rollout)
    learner.update(experience)
    after = learner.estimate(rollout).values

    def error(values: torch.Tensor) -> float:
        return float(((values - experience.returns)[rollout.mask] ** 2).mean())

    assert error(after) < error(experience.old.values)


@pytest.mark.parametrize("part", ["advantages", "returns"])
def test_what_is_no_number_is_an_error_and_nothing_is_learned_from_it(
    learner: Learner, rollout: Rollout, part: str
) -> None:
    experience = experience_of(learner, rollout)
    wrong = replace(experience, **{part: torch.full_like(experience.returns, torch.nan)})
    policy, critic = pack(learner.policy.parameters(), 0).checksum, pack(learner.critic.parameters(), 0).checksum
    with pytest.raises(FloatingPointError, match="no step was taken"):
        learner.update(wrong)
    assert pack(learner.critic.parameters(), 0).checksum == critic
    assert pack(learner.policy.parameters(), 0).checksum == policy
    assert learner.version() == 0


def test_a_policy_that_changed_between_estimate_and_update_is_noticed(learner: Learner, rollout: Rollout) -> None:
    experience = experience_of(learner, rollout)
    with torch.no_grad():
        learner.policy.get_input_embeddings().weight.add_(0.1 * torch.randn(64, 32))
    with pytest.raises(RuntimeError, match="ratio at step 1: expected 1"):
        learner.update(experience)


def test_a_sampler_with_the_same_weights_is_taken_at_its_word(
    policy_folder: str, reward_folder: str, rollout: Rollout
) -> None:
    """Its log-probabilities are those of the learner, which computes them itself where another version spoke."""
    trusting = Learner(policy_folder, reward_folder, Learning(), SAMPLING.temperature, 11, 4, trust=1e-2)
    assert torch.equal(trusting.estimate(rollout).logprobs, rollout.logprobs)
    older = replace(rollout, version=rollout.version - 1)
    own = learner_of(policy_folder, reward_folder).estimate(rollout)
    assert torch.equal(trusting.estimate(older).logprobs, own.logprobs)
    assert torch.equal(trusting.estimate(rollout).values, own.values)
    metrics = trusting.update(experience_of(trusting, rollout))
    assert metrics["val/ratio"] == pytest.approx(1, abs=0.1)
    assert torch.equal(trusting.estimate(rollout).logprobs, trusting.estimate(older).logprobs)


def test_a_sampler_that_did_not_have_the_weights_is_noticed(
    policy_folder: str, reward_folder: str, rollout: Rollout
) -> None:
    trusting = Learner(policy_folder, reward_folder, Learning(), SAMPLING.temperature, 11, 4, trust=1e-2)
    wrong = replace(rollout, logprobs=torch.where(rollout.mask, rollout.logprobs - 0.02, 0.0))
    with pytest.raises(RuntimeError, match=r"more than 0\.01 nats"):
        trusting.update(experience_of(trusting, wrong))


def test_in_half_precision_the_first_ratios_are_one_and_weights_stay_whole(
    policy_folder: str, reward_folder: str, rollout: Rollout
) -> None:
    metrics, learner = learned(policy_folder, reward_folder, rollout, precision="bf16", epochs=1)
    assert metrics["val/ratio"] == pytest.approx(1, abs=1e-4)
    assert {parameter.dtype for s in learner.students for parameter in s.parameters} == {torch.float32}
    exact, _ = learned(policy_folder, reward_folder, rollout, epochs=1)
    assert metrics != exact
    assert metrics["loss/value_avg"] == pytest.approx(exact["loss/value_avg"], rel=0.05)


def test_dropout_would_be_noticed(learner: Learner, rollout: Rollout) -> None:
    experience = experience_of(learner, rollout)
    learner.policy.train()
    with pytest.raises(RuntimeError, match="something in it is random"):
        learner.update(experience)


def test_every_update_is_a_new_version_of_the_weights(learner: Learner, rollout: Rollout) -> None:
    before = learner.weights()
    learner.update(experience_of(learner, rollout))
    after = learner.weights()
    assert (before.version, after.version) == (0, 1)
    assert before.checksum != after.checksum


def test_the_same_run_learns_the_same(policy_folder: str, reward_folder: str, rollout: Rollout) -> None:
    def learned() -> tuple[dict[str, float], str]:
        learner = learner_of(policy_folder, reward_folder, epochs=3, minibatch=2)
        metrics = learner.update(experience_of(learner, rollout))
        return metrics, learner.weights().checksum

    assert learned() == learned()


@pytest.mark.parametrize(("schedule", "shares"), [("linear", [1.0, 0.75, 0.5, 0.25]), ("constant", [1.0] * 4)])
def test_the_learning_rate_falls_to_the_end_or_stays(
    policy_folder: str, reward_folder: str, rollout: Rollout, schedule: str, shares: list[float]
) -> None:
    learner = learner_of(policy_folder, reward_folder, epochs=1, policy_lr=1e-3, schedule=schedule)
    rates = [learner.update(experience_of(learner, rollout))["lr"] for _ in range(4)]
    assert rates == pytest.approx([1e-3 * share for share in shares])


def learned(policy: str, critic: str | None, rollout: Rollout, **learning: float | int) -> tuple[dict, Learner]:
    """One update on the same experience, which names a critic's returns where there is a critic."""
    learner = learner_of(policy, critic, **{"policy_lr": 1e-3, "epochs": 2, "minibatch": 6} | learning)
    returns = Returns(advantage="gae" if critic else "reinforce++")
    score = torch.linspace(-1, 1, len(rollout))
    scored = ScoredRollout(rollout, score, score[:, None], torch.zeros_like(rollout.ended), rollout.logprobs)
    metrics = learner.update(assess(scored, learner.estimate(rollout), returns, KlState(0.05)))
    return metrics, learner


@pytest.mark.parametrize("tokens", [1, 20, 40])
def test_how_a_minibatch_is_cut_changes_nothing(
    policy_folder: str, reward_folder: str, rollout: Rollout, tokens: int
) -> None:
    whole, one = learned(policy_folder, reward_folder, rollout)
    cut, other = learned(policy_folder, reward_folder, rollout, microbatch_tokens=tokens)
    assert cut == pytest.approx(whole, abs=1e-5, rel=1e-4)
    assert one.weights().buffer == pytest.approx(other.weights().buffer, abs=1e-5)


def test_without_a_critic_none_is_built_or_trained(policy_folder: str, rollout: Rollout) -> None:
    metrics, learner = learned(policy_folder, None, rollout)
    assert learner.critic is None
    assert [student.name for student in learner.students] == ["policy"]
    assert not {name for name in metrics if "value" in name or name in ("val/grad_norm", "val/explained_variance")}
    assert learner.weights().checksum != learner_of(policy_folder, None).weights().checksum


def test_inner_epochs_end_once_the_policy_has_moved_far_enough(
    policy_folder: str, reward_folder: str, rollout: Rollout
) -> None:
    far, _ = learned(policy_folder, reward_folder, rollout, epochs=8, policy_lr=1e-2)
    near, _ = learned(policy_folder, reward_folder, rollout, epochs=8, policy_lr=1e-2, target_kl=1e-3)
    assert far["policy/epochs"] == 8
    assert 1 <= near["policy/epochs"] < 8
    assert near["policy/approxkl_avg"] < 1.5e-3 < far["policy/approxkl_avg"]


def test_while_the_critic_warms_up_the_policy_stays(policy_folder: str, reward_folder: str, rollout: Rollout) -> None:
    learner = learner_of(policy_folder, reward_folder, policy_lr=1e-3, critic_warmup=1)
    before, critic = learner.weights().checksum, pack(learner.critic.parameters(), 0).checksum
    learner.update(experience_of(learner, rollout))
    assert learner.weights().checksum == before
    assert pack(learner.critic.parameters(), 0).checksum != critic
    learner.update(experience_of(learner, rollout))
    assert learner.weights().checksum != before


def test_divergence_in_the_loss_draws_the_policy_back(policy_folder: str, reward_folder: str, rollout: Rollout) -> None:
    """Nothing is to be won, so what moves the policy is the price of its distance from a reference that differs."""
    reference = torch.where(rollout.mask, rollout.logprobs - 0.5, 0.0)

    def distance(coef: float) -> float:
        learner = learner_of(policy_folder, reward_folder, policy_lr=1e-3, epochs=4)
        experience = experience_of(learner, rollout)
        flat = replace(experience, advantages=torch.zeros_like(experience.advantages), ref_logprobs=reference)
        metrics = learner.update(flat, KlPenalty(coef, "k3"))
        assert ("loss/kl_avg" in metrics) == (coef > 0)
        return float((learner.estimate(rollout).logprobs - reference)[rollout.mask].abs().mean())

    assert distance(1.0) < distance(0.0) - 1e-3


def test_what_is_saved_is_what_was_learned(learner: Learner, rollout: Rollout, tmp_path: Path) -> None:
    learner.update(experience_of(learner, rollout))
    learner.save(str(tmp_path))
    assert pack(load_causal(str(tmp_path)).parameters(), 0).checksum == learner.weights().checksum
