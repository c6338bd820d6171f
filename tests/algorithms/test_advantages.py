"""Without a critic, a response competes with the others to its prompt or in the batch, and with nobody else."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from rlhf_ray.algorithms.advantages import group_relative, leave_one_out, returns_to_go

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.lists(st.integers(2, 5), min_size=1, max_size=4)
GAMMAS = st.floats(0.1, 1)


def competition(seed: int, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Rewards and groups of these sizes, in any order."""
    generator = torch.Generator().manual_seed(seed)
    group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    group = group[torch.randperm(len(group), generator=generator)]
    return torch.randn(len(group), generator=generator, dtype=torch.float64), group


@given(SEEDS, SIZES)
def test_the_advantages_of_a_group_sum_to_0(seed: int, sizes: list[int]) -> None:
    rewards, group = competition(seed, sizes)
    for advantages in (
        group_relative(rewards, group),
        group_relative(rewards, group, scale=False),
        leave_one_out(rewards, group),
    ):
        for number in range(len(sizes)):
            assert float(advantages[group == number].sum()) == pytest.approx(0, abs=1e-9)


@given(SEEDS, SIZES)
def test_a_scaled_group_has_variance_1(seed: int, sizes: list[int]) -> None:
    rewards, group = competition(seed, sizes)
    advantages = group_relative(rewards, group)
    for number in range(len(sizes)):
        assert float(advantages[group == number].var(correction=0)) == pytest.approx(1, abs=1e-5)


@given(SEEDS, SIZES, st.floats(-10, 10))
def test_what_another_group_got_does_not_matter(seed: int, sizes: list[int], gift: float) -> None:
    rewards, group = competition(seed, sizes)
    assume(len(sizes) > 1)
    others = torch.where(group == 0, rewards, rewards * 3 + gift)
    for function in (group_relative, leave_one_out):
        mine, again = function(rewards, group)[group == 0], function(others, group)[group == 0]
        torch.testing.assert_close(mine, again)


@given(SEEDS, SIZES, st.floats(-10, 10))
def test_what_a_whole_group_gets_on_top_does_not_matter(seed: int, sizes: list[int], gift: float) -> None:
    rewards, group = competition(seed, sizes)
    for function in (group_relative, leave_one_out):
        torch.testing.assert_close(
            function(rewards + gift * (group + 1), group), function(rewards, group), atol=1e-6, rtol=0
        )


@given(SEEDS, SIZES)
def test_leaving_one_out_is_the_distance_from_the_mean_a_little_stretched(seed: int, sizes: list[int]) -> None:
    rewards, group = competition(seed, sizes)
    own = torch.tensor(sizes)[group]
    torch.testing.assert_close(
        leave_one_out(rewards, group), group_relative(rewards, group, scale=False) * own / (own - 1)
    )


@given(st.integers(2, 8), st.floats(-100, 100))
def test_equal_rewards_leave_no_advantage(size: int, reward: float) -> None:
    rewards, group = torch.full((size,), reward, dtype=torch.float64), torch.zeros(size, dtype=torch.long)
    for function in (group_relative, leave_one_out):
        # The mean of equal numbers rounds by about 1e-14 of them, and the deviation below it is 1e-8 at the least.
        torch.testing.assert_close(function(rewards, group), torch.zeros_like(rewards), atol=1e-5, rtol=0)


def test_nobody_is_left_out_of_a_group_of_one() -> None:
    with pytest.raises(ValueError, match="at least two responses in every group, got one in group 5"):
        leave_one_out(torch.ones(3), torch.tensor([4, 5, 4]))


@given(SEEDS, st.lists(st.integers(1, 6), min_size=1, max_size=5), GAMMAS)
def test_the_first_token_has_everything_to_come_and_the_last_its_own_reward(
    seed: int, lengths: list[int], gamma: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    rewards = torch.randn(mask.shape, generator=generator, dtype=torch.float64)
    returns = returns_to_go(rewards, mask, gamma=gamma)
    discounts = gamma ** torch.arange(7, dtype=torch.float64)
    torch.testing.assert_close(returns[:, 0], (torch.where(mask, rewards, 0.0) * discounts).sum(1))
    rows, last = torch.arange(len(lengths)), torch.tensor(lengths) - 1
    torch.testing.assert_close(returns[rows, last], rewards[rows, last])
    assert (returns[~mask] == 0).all()
