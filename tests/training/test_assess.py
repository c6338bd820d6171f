"""Blame and credit: a response is worth its score less the price of leaving the reference."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from rlhf_ray.algorithms.kl import KlPenalty, KlState
from rlhf_ray.experience import CriticEstimates, Estimates, Experience, PromptBatch, Rollout, ScoredRollout
from rlhf_ray.training.assess import Returns, assess, control, describe, penalty, response_kl

LENGTHS = st.lists(st.integers(1, 6), min_size=2, max_size=5)
SEEDS = st.integers(0, 2**32 - 1)
COEFS = st.floats(0, 1)


def judged(seed: int, lengths: list[int]) -> tuple[ScoredRollout, CriticEstimates]:
    """Random scores and log-probabilities; sampler and learner agree."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    logprobs, ref, values = (torch.where(mask, part, 0.0) for part in torch.randn(3, *mask.shape, generator=generator))
    tokens = torch.ones(mask.shape, dtype=torch.long)
    prompt = PromptBatch(
        tokens[:, :2], mask[:, :1].expand(-1, 2), torch.arange(len(lengths)), torch.arange(len(lengths)) // 2
    )
    rollout = Rollout(prompt, tokens, mask, logprobs, torch.tensor(lengths) < 4, torch.zeros_like(prompt.sample))
    scores = torch.randn(len(lengths), generator=generator)
    return ScoredRollout(rollout, scores, scores[:, None], scores.abs() > 1, ref), CriticEstimates(logprobs, values)


def worth(scored: ScoredRollout, coef: float) -> Tensor:
    rollout = scored.rollout
    return scored.score - coef * (rollout.logprobs - scored.ref_logprobs).sum(1)


@given(SEEDS, LENGTHS, COEFS)
def test_the_first_token_returns_what_the_whole_response_is_worth(seed: int, lengths: list[int], coef: float) -> None:
    scored, old = judged(seed, lengths)
    experience = assess(scored, old, Returns(lam=1.0, gamma=1.0), KlState(coef))
    torch.testing.assert_close(experience.returns[:, 0], worth(scored, coef), atol=1e-4, rtol=1e-4)


@given(SEEDS, LENGTHS, COEFS)
def test_advantages_are_white_over_all_tokens_of_the_batch(seed: int, lengths: list[int], coef: float) -> None:
    scored, old = judged(seed, lengths)
    experience = assess(scored, old, Returns(), KlState(coef))
    whitened = experience.advantages[scored.rollout.mask].double()
    assert whitened.mean().item() == pytest.approx(0, abs=1e-3)
    assert whitened.var(correction=0).item() == pytest.approx(1, abs=1e-3)
    assert (experience.advantages[~scored.rollout.mask] == 0).all()


@given(SEEDS, LENGTHS, COEFS)
def test_what_is_reported_is_what_the_responses_are_worth(seed: int, lengths: list[int], coef: float) -> None:
    scored, old = judged(seed, lengths)
    metrics = describe(scored, assess(scored, old, Returns(), KlState(coef)), KlState(coef))
    assert metrics["objective/rlhf_reward"] == pytest.approx(float(worth(scored, coef).mean()), abs=1e-4)
    assert metrics["objective/kl"] == pytest.approx(float(response_kl(scored).mean()), abs=1e-4)
    assert metrics["response/length"] == pytest.approx(sum(lengths) / len(lengths))
    assert metrics["response/eos_rate"] == pytest.approx(sum(length < 4 for length in lengths) / len(lengths))


CRITICLESS = ["group", "rloo", "reinforce++"]


@pytest.mark.parametrize("advantage", CRITICLESS)
@given(SEEDS, LENGTHS, COEFS)
def test_without_a_critic_nothing_depends_on_its_values(
    advantage: str, seed: int, lengths: list[int], coef: float
) -> None:
    scored, old = judged(seed, lengths[: len(lengths) // 2 * 2])
    returns = Returns(advantage=advantage)
    experience = assess(scored, Estimates(old.logprobs), returns, KlState(coef))
    assert type(experience) is Experience
    assert not returns.needs_critic
    assert torch.equal(experience.advantages, assess(scored, old, returns, KlState(coef)).advantages)
    assert (experience.advantages[~scored.rollout.mask] == 0).all()


@given(SEEDS, LENGTHS, COEFS)
def test_a_response_is_worth_what_it_is_worth_above_its_group(seed: int, lengths: list[int], coef: float) -> None:
    scored, old = judged(seed, lengths[: len(lengths) // 2 * 2])
    mask = scored.rollout.mask
    difference = worth(scored, coef).view(-1, 2) @ torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    for advantage, expected in (("rloo", difference), ("group", difference.sign())):
        computed = assess(scored, old, Returns(advantage=advantage), KlState(coef)).advantages
        assume(float(difference.abs().min()) > 1e-2)
        wanted = torch.where(mask, expected.reshape(-1, 1), 0.0)
        torch.testing.assert_close(computed, wanted, atol=1e-4, rtol=1e-4)


def test_a_critic_that_is_not_there_is_missed() -> None:
    scored, old = judged(0, [2, 3])
    with pytest.raises(TypeError, match="advantage=gae: expected the estimates of a learner with a critic"):
        assess(scored, Estimates(old.logprobs), Returns(), KlState(0.1))


@given(SEEDS, LENGTHS, COEFS)
def test_divergence_is_paid_for_once(seed: int, lengths: list[int], coef: float) -> None:
    scored, old = judged(seed, lengths)
    in_loss = Returns(lam=1.0, kl_in="loss", kl_estimator="k3")
    experience = assess(scored, old, in_loss, KlState(coef))
    torch.testing.assert_close(experience.returns[:, 0], scored.score, atol=1e-4, rtol=1e-4)
    assert penalty(in_loss, KlState(coef)) == KlPenalty(coef, "k3")
    assert penalty(Returns(), KlState(coef)).coef == 0


def test_k1_is_refused_in_the_loss_where_it_has_no_gradient() -> None:
    with pytest.raises(ValueError, match="kl_estimator: expected k2 or k3 with kl_in=loss"):
        Returns(kl_in="loss")


@given(SEEDS, LENGTHS)
def test_whitened_rewards_keep_their_mean(seed: int, lengths: list[int]) -> None:
    scored, old = judged(seed, lengths)
    plain, white = (
        assess(scored, old, Returns(lam=1.0, whiten_rewards=on), KlState(0.3)).returns for on in (False, True)
    )
    mask = scored.rollout.mask
    first, after = plain[:, 0].sum() / mask.sum(), white[:, 0].sum() / mask.sum()  # returns sum up all rewards of a row
    assert float(after) == pytest.approx(float(first), abs=1e-4)


def test_the_share_of_clipped_scores_is_reported() -> None:
    scored, old = judged(3, [2, 3, 4, 5])
    metrics = describe(scored, assess(scored, old, Returns(), KlState(0.1)), KlState(0.1))
    assert metrics["objective/score_clipfrac"] == pytest.approx(float((scored.score.abs() > 1).float().mean()))


def test_the_coefficient_is_fixed_unless_there_is_a_target() -> None:
    state = KlState(0.1)
    assert control(state, 50.0, Returns(), episodes=64) == state
    steered = Returns(kl_target=10.0)
    assert control(state, 50.0, steered, episodes=64).coef > 0.1 > control(state, 1.0, steered, episodes=64).coef
