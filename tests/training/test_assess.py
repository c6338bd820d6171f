"""Blame and credit: a response is worth its score less the price of leaving the reference."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlhf_ray.algorithms.kl import KlState
from rlhf_ray.experience import Estimates, PromptBatch, Rollout, ScoredRollout
from rlhf_ray.training.assess import Returns, assess, control, describe, response_kl

LENGTHS = st.lists(st.integers(1, 6), min_size=2, max_size=5)
SEEDS = st.integers(0, 2**32 - 1)
COEFS = st.floats(0, 1)


def judged(seed: int, lengths: list[int]) -> tuple[ScoredRollout, Estimates]:
    """Random scores and log-probabilities; sampler and learner agree."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    logprobs, ref, values = (torch.where(mask, part, 0.0) for part in torch.randn(3, *mask.shape, generator=generator))
    tokens = torch.ones(mask.shape, dtype=torch.long)
    prompt = PromptBatch(tokens[:, :2], mask[:, :1].expand(-1, 2), torch.arange(len(lengths)))
    rollout = Rollout(prompt, tokens, mask, logprobs, torch.tensor(lengths) < 4)
    return ScoredRollout(rollout, torch.randn(len(lengths), generator=generator), ref), Estimates(logprobs, values)


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
    scored, _ = judged(seed, lengths)
    metrics = describe(scored, KlState(coef))
    assert metrics["objective/rlhf_reward"] == pytest.approx(float(worth(scored, coef).mean()), abs=1e-4)
    assert metrics["objective/kl"] == pytest.approx(float(response_kl(scored).mean()), abs=1e-4)
    assert metrics["response/length"] == pytest.approx(sum(lengths) / len(lengths))
    assert metrics["response/eos_rate"] == pytest.approx(sum(length < 4 for length in lengths) / len(lengths))


def test_the_coefficient_is_fixed_unless_there_is_a_target() -> None:
    state = KlState(0.1)
    assert control(state, 50.0, Returns(), episodes=64) == state
    steered = Returns(kl_target=10.0)
    assert control(state, 50.0, steered, episodes=64).coef > 0.1 > control(state, 1.0, steered, episodes=64).coef
