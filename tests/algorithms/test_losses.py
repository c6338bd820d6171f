"""The clipped losses pull where they should, and let go where they should."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlhf_ray.algorithms.losses import clipped_share, importance, policy_loss, value_loss

CLIP = 0.2
SEEDS = st.integers(0, 2**32 - 1)
ADVANTAGES = st.floats(0.1, 10)


def numbers(seed: int, count: int, rows: int = 4, columns: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(count, rows, columns, generator=generator, dtype=torch.float64))


def one(number: float) -> Tensor:
    return torch.tensor([[number]], dtype=torch.float64)


def pull(ratio: float, advantage: float) -> float:
    """The gradient of one token's policy loss by its log-probability."""
    logprob = one(ratio).log().requires_grad_()
    policy_loss(logprob, one(0.0), one(advantage), CLIP).sum().backward()
    return float(logprob.grad)


@given(SEEDS)
def test_at_ratio_1_the_gradient_is_the_policy_gradient(seed: int) -> None:
    old, advantages = numbers(seed, 2)
    logprobs = old.clone().requires_grad_()
    (clipped,) = torch.autograd.grad(policy_loss(logprobs, old, advantages, CLIP).sum(), logprobs)
    (plain,) = torch.autograd.grad((-advantages * logprobs).sum(), logprobs)
    torch.testing.assert_close(clipped, plain)


@given(ADVANTAGES, st.floats(0.01, 5))
def test_beyond_the_clip_range_nothing_pulls_further(advantage: float, beyond: float) -> None:
    assert pull(1 + CLIP + beyond, advantage) == 0
    assert pull((1 - CLIP) / (1 + beyond), -advantage) == 0


@given(ADVANTAGES, st.floats(0.01, 5))
def test_who_went_the_wrong_way_is_pulled_back_from_any_distance(advantage: float, beyond: float) -> None:
    assert pull((1 - CLIP) / (1 + beyond), advantage) < 0
    assert pull(1 + CLIP + beyond, -advantage) > 0


@given(ADVANTAGES, st.floats(0.81, 1.19))
def test_inside_the_clip_range_good_tokens_are_raised_and_bad_ones_lowered(advantage: float, ratio: float) -> None:
    assert pull(ratio, advantage) < 0 < pull(ratio, -advantage)


@given(SEEDS)
def test_clipping_never_makes_the_policy_look_better_than_it_is(seed: int) -> None:
    logprobs, old, advantages = numbers(seed, 3)
    unclipped = policy_loss(logprobs, old, advantages, 1e9)
    assert (policy_loss(logprobs, old, advantages, CLIP) >= unclipped).all()


@given(SEEDS, st.floats(1.5, 5))
def test_with_a_second_clip_a_bad_token_costs_at_most_its_share_and_a_good_one_what_it_did(
    seed: int, dual: float
) -> None:
    logprobs, old, advantages = numbers(seed, 3)
    once, twice = (policy_loss(2 * logprobs, old, advantages, CLIP, limit) for limit in (None, dual))
    bad = advantages < 0
    assert torch.equal(once[~bad], twice[~bad])
    torch.testing.assert_close(twice[bad], torch.minimum(once[bad], -dual * advantages[bad]))


@given(SEEDS)
def test_a_value_within_the_clip_range_has_half_its_squared_error(seed: int) -> None:
    old, returns, step = numbers(seed, 3)
    values = old + CLIP * step.tanh()
    torch.testing.assert_close(value_loss(values, old, returns, CLIP), (values - returns) ** 2 / 2)


@given(st.floats(0.3, 5), st.floats(0.01, 0.9))
def test_a_value_that_ran_towards_its_return_is_not_drawn_further_than_the_clip_range(far: float, part: float) -> None:
    value = one(CLIP + part * (far - CLIP)).requires_grad_()  # it came from 0, and its return is `far`
    loss = value_loss(value, one(0.0), one(far), CLIP)
    loss.sum().backward()
    assert float(value.grad) == 0
    assert loss.item() == pytest.approx((far - CLIP) ** 2 / 2)


@given(st.floats(0.3, 5), st.floats(0.3, 5))
def test_a_value_that_ran_away_from_its_return_is_drawn_back(away: float, far: float) -> None:
    value = one(-away).requires_grad_()
    value_loss(value, one(0.0), one(far), CLIP).sum().backward()
    assert float(value.grad) < 0


@given(SEEDS, st.integers(1, 4))
def test_shards_sum_to_the_whole(seed: int, size: int) -> None:
    parts = numbers(seed, 3)
    for loss in (policy_loss, value_loss):
        whole = loss(*parts, CLIP)
        shards = [loss(*shard, CLIP) for shard in zip(*(part.split(size) for part in parts), strict=True)]
        assert torch.equal(torch.cat(shards), whole)
        assert float(sum(shard.sum() for shard in shards)) == pytest.approx(float(whole.sum()))


def test_a_token_is_counted_as_clipped_once_its_ratio_left_the_range() -> None:
    ratios = torch.tensor([[0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 3.0]])
    shares = clipped_share(ratios.log(), torch.zeros_like(ratios), CLIP)
    assert shares.tolist() == [[1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0]]


@given(SEEDS, st.floats(1, 5))
def test_what_another_policy_said_weighs_what_it_is_more_likely_now_up_to_the_limit(seed: int, most: float) -> None:
    now, spoken = numbers(seed, 2)
    weights = importance(now, spoken, most)
    torch.testing.assert_close(weights, torch.minimum((now - spoken).exp(), torch.tensor(most, dtype=torch.float64)))
    assert torch.equal(importance(now, now, most), torch.ones_like(now))
