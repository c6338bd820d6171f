"""Scores land where they belong, and advantages keep the laws of their two extremes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlhf_ray.algorithms.returns import generalized_advantages, shape_rewards

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=5)
SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.floats(0, 1)
GARBAGE = st.sampled_from([1e30, math.inf, math.nan])


def prefix(lengths: list[int], width: int = 7) -> Tensor:
    """The mask of responses of these lengths; one column at least is nobody's."""
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def numbers(seed: int, mask: Tensor, count: int) -> list[Tensor]:
    """Float64 numbers at every token, zero elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, *mask.shape, generator=generator, dtype=torch.float64)
    return list(torch.where(mask, drawn, 0.0))


@given(SEEDS, LENGTHS, st.floats(0, 2))
def test_the_rewards_of_a_response_sum_to_its_score_minus_the_price_of_its_divergence(
    seed: int, lengths: list[int], coef: float
) -> None:
    mask = prefix(lengths)
    kl, scores = numbers(seed, mask, 2)
    score = scores[:, 0]
    rewards = shape_rewards(score, kl, mask, coef)
    torch.testing.assert_close(rewards.sum(1), score - coef * kl.sum(1))


@given(SEEDS, LENGTHS)
def test_the_score_lands_on_the_last_response_token(seed: int, lengths: list[int]) -> None:
    mask = prefix(lengths)
    score = 1 + numbers(seed, mask, 1)[0][:, 0].abs()
    rewards = shape_rewards(score, torch.zeros_like(mask, dtype=torch.float64), mask, 0.1)
    places = rewards.nonzero()
    assert places.tolist() == [[row, length - 1] for row, length in enumerate(lengths)]
    assert torch.equal(rewards[places[:, 0], places[:, 1]], score)


@given(SEEDS, LENGTHS, GARBAGE)
def test_divergence_outside_the_mask_costs_nothing(seed: int, lengths: list[int], garbage: float) -> None:
    mask = prefix(lengths)
    kl, scores = numbers(seed, mask, 2)
    dirty = torch.where(mask, kl, garbage)
    assert torch.equal(shape_rewards(scores[:, 0], dirty, mask, 0.1), shape_rewards(scores[:, 0], kl, mask, 0.1))


def test_a_response_without_tokens_is_an_error_that_names_its_row() -> None:
    with pytest.raises(ValueError, match="row 1"):
        shape_rewards(torch.ones(3), torch.zeros(3, 7), prefix([2, 0, 1]), 0.1)


@given(SEEDS, LENGTHS, SHARES)
def test_with_lambda_1_the_advantage_is_the_return_minus_the_value(seed: int, lengths: list[int], gamma: float) -> None:
    mask = prefix(lengths)
    rewards, values = numbers(seed, mask, 2)
    advantages, returns = generalized_advantages(rewards, values, mask, gamma=gamma, lam=1.0)
    for row, length in enumerate(lengths):
        for t in range(length):
            discounted = sum(gamma ** (k - t) * float(rewards[row, k]) for k in range(t, length))
            assert float(advantages[row, t]) == pytest.approx(discounted - float(values[row, t]), abs=1e-9)
            assert float(returns[row, t]) == pytest.approx(discounted, abs=1e-9)


@given(SEEDS, LENGTHS, SHARES)
def test_with_lambda_0_the_advantage_is_the_error_of_one_step(seed: int, lengths: list[int], gamma: float) -> None:
    mask = prefix(lengths)
    rewards, values = numbers(seed, mask, 2)
    advantages, _ = generalized_advantages(rewards, values, mask, gamma=gamma, lam=0.0)
    following = torch.cat([values[:, 1:], torch.zeros(len(lengths), 1)], dim=1)  # 0 after the last token
    torch.testing.assert_close(advantages, rewards + gamma * following - values)


@given(SEEDS, LENGTHS, SHARES, SHARES)
def test_a_critic_that_foresees_every_reward_leaves_no_advantage(
    seed: int, lengths: list[int], gamma: float, lam: float
) -> None:
    mask = prefix(lengths)
    (rewards,) = numbers(seed, mask, 1)
    _, foreseen = generalized_advantages(rewards, torch.zeros_like(rewards), mask, gamma=gamma, lam=1.0)
    advantages, returns = generalized_advantages(rewards, foreseen, mask, gamma=gamma, lam=lam)
    torch.testing.assert_close(advantages, torch.zeros_like(advantages))
    torch.testing.assert_close(returns, foreseen)


@given(SEEDS, LENGTHS, SHARES, SHARES)
def test_returns_are_advantages_plus_values(seed: int, lengths: list[int], gamma: float, lam: float) -> None:
    mask = prefix(lengths)
    rewards, values = numbers(seed, mask, 2)
    advantages, returns = generalized_advantages(rewards, values, mask, gamma=gamma, lam=lam)
    torch.testing.assert_close(returns, advantages + values)


@given(SEEDS, LENGTHS, GARBAGE, st.integers(0, 4))
def test_padding_and_what_stands_in_it_change_nothing(
    seed: int, lengths: list[int], garbage: float, columns: int
) -> None:
    mask = prefix(lengths)
    rewards, values = numbers(seed, mask, 2)
    wide = prefix(lengths, mask.shape[1] + columns)
    clean = generalized_advantages(rewards, values, mask, gamma=0.9, lam=0.8)
    dirty = generalized_advantages(
        padded(rewards, wide, garbage), padded(values, wide, garbage), wide, gamma=0.9, lam=0.8
    )
    for one, other in zip(clean, dirty, strict=True):
        assert torch.equal(one, other[:, : mask.shape[1]])
        assert (other[~wide] == 0).all()


def padded(values: Tensor, mask: Tensor, garbage: float) -> Tensor:
    wide = torch.full(mask.shape, garbage, dtype=values.dtype)
    wide[:, : values.shape[1]] = values
    return torch.where(mask, wide, garbage)


@given(SEEDS, LENGTHS)
def test_a_row_does_not_depend_on_its_neighbours(seed: int, lengths: list[int]) -> None:
    mask = prefix(lengths)
    rewards, values = numbers(seed, mask, 2)
    whole, _ = generalized_advantages(rewards, values, mask, gamma=1.0, lam=0.95)
    for row in range(len(lengths)):
        part = slice(row, row + 1)
        alone, _ = generalized_advantages(rewards[part], values[part], mask[part], gamma=1.0, lam=0.95)
        assert torch.equal(alone, whole[part])


def test_a_batch_worked_out_by_hand() -> None:
    """With gamma 1/2 and lambda 1/2, so that each step back weighs a quarter.

    Row 0, errors reward + next value / 2 - value, from the back: 4 + 0 - 2 = 2; 0 + 1 - 4 = -3; 0 + 2 - 1 = 1;
    1 + 0.5 - 2 = -0.5. Advantages from the back: 2; -3 + 2/4 = -2.5; 1 - 2.5/4 = 0.375; -0.5 + 0.375/4 = -0.40625.
    Row 1 has two tokens. Errors: -1 + 0 - 3 = -4; 0 + 1.5 - 1 = 0.5. Advantages: -4; 0.5 - 4/4 = -0.5.
    """
    rewards = torch.tensor([[1.0, 0.0, 0.0, 4.0], [0.0, -1.0, 7.0, 7.0]])
    values = torch.tensor([[2.0, 1.0, 4.0, 2.0], [1.0, 3.0, 7.0, 7.0]])
    mask = prefix([4, 2], width=4)
    advantages, returns = generalized_advantages(rewards, values, mask, gamma=0.5, lam=0.5)
    assert advantages.tolist() == [[-0.40625, 0.375, -2.5, 2.0], [-0.5, -4.0, 0.0, 0.0]]
    assert returns.tolist() == [[1.59375, 1.375, 1.5, 4.0], [0.5, -1.0, 0.0, 0.0]]
    assert weighted_sums_of_errors(rewards.tolist(), values.tolist(), [4, 2], 0.5, 0.5) == advantages.tolist()


@given(SEEDS, LENGTHS, SHARES, SHARES)
def test_advantages_are_weighted_sums_of_errors(seed: int, lengths: list[int], gamma: float, lam: float) -> None:
    mask = prefix(lengths)
    rewards, values = numbers(seed, mask, 2)
    advantages, _ = generalized_advantages(rewards, values, mask, gamma=gamma, lam=lam)
    oracle = weighted_sums_of_errors(rewards.tolist(), values.tolist(), lengths, gamma, lam)
    torch.testing.assert_close(advantages, torch.tensor(oracle, dtype=torch.float64))


def weighted_sums_of_errors(
    rewards: list[list[float]], values: list[list[float]], lengths: list[int], gamma: float, lam: float
) -> list[list[float]]:
    """Equation 16 of arXiv:1506.02438 read forwards, in plain Python."""
    rows = []
    for reward, value, length in zip(rewards, values, lengths, strict=True):
        value = [*value[:length], 0.0]
        errors = [reward[t] + gamma * value[t + 1] - value[t] for t in range(length)]
        sums = [sum((gamma * lam) ** (k - t) * errors[k] for k in range(t, length)) for t in range(length)]
        rows.append(sums + [0.0] * (len(reward) - length))
    return rows
