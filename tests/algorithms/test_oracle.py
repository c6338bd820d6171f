"""PPO worked out a second time: plain Python, token by token, no tensor code shared. In float64, within 1e-10."""

import math
import random
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from rlhf_ray.algorithms.advantages import group_relative, leave_one_out, returns_to_go
from rlhf_ray.algorithms.kl import kl_per_token
from rlhf_ray.algorithms.losses import policy_loss, value_loss
from rlhf_ray.algorithms.masked import masked_mean, whiten
from rlhf_ray.algorithms.returns import generalized_advantages, shape_rewards

GAMMA, LAM, CLIP, DUAL, VALUE_CLIP, COEF = 0.97, 0.9, 0.2, 3.0, 0.15, 0.07
Rows = list[list[float]]


@dataclass
class Case:
    """Ragged rows of numbers, one a token; two rows a group."""

    seed: int
    lengths: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.lengths = [self.chance.randint(1, 9) for _ in range(6)]
        self.new, self.old, self.ref = self.rows(-3, 0.6), self.rows(-3, 0.6), self.rows(-3, 0.6)
        self.values, self.old_values = self.rows(0, 0.5), self.rows(0, 0.5)
        self.scores = [self.chance.gauss(0, 1) for _ in self.lengths]
        self.groups = [row // 2 for row in range(len(self.lengths))]

    def rows(self, mean: float, spread: float) -> Rows:
        return [[self.chance.gauss(mean, spread) for _ in range(length)] for length in self.lengths]


@pytest.fixture(params=range(8))
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def tensor(rows: Rows, width: int = 11) -> Tensor:
    """The rows side by side; what stands behind their ends is garbage that must not matter."""
    return torch.tensor([[*row, *[77.0] * (width - len(row))] for row in rows], dtype=torch.float64)


def mask_of(case: Case) -> Tensor:
    return torch.arange(11) < torch.tensor(case.lengths)[:, None]


def assert_equal(computed: Tensor, expected: Rows) -> None:
    for got, row in zip(computed.tolist(), expected, strict=True):
        assert got[: len(row)] == pytest.approx(row, abs=1e-10, rel=1e-10)


# --- The second way ---


def kl_token(new: float, ref: float, estimator: str) -> float:
    difference = new - ref
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return difference * difference / 2
    return math.exp(-difference) - 1 + difference


def rewards_of(case: Case, estimator: str) -> Rows:
    rewards = []
    for old, ref, score in zip(case.old, case.ref, case.scores, strict=True):
        row = [-COEF * kl_token(o, r, estimator) for o, r in zip(old, ref, strict=True)]
        row[-1] += score
        rewards.append(row)
    return rewards


def whitened(rows: Rows) -> Rows:
    everything = [number for row in rows for number in row]
    mean = math.fsum(everything) / len(everything)
    deviation = math.sqrt(math.fsum((number - mean) ** 2 for number in everything) / len(everything))
    return [[(number - mean) / (deviation + 1e-8) for number in row] for row in rows]


def gae_of(rewards: Rows, values: Rows) -> tuple[Rows, Rows]:
    """Every advantage as the sum of all the errors that follow it, written out."""
    advantages = []
    for reward, value in zip(rewards, values, strict=True):
        after = [*value[1:], 0.0]
        errors = [r + GAMMA * a - v for r, a, v in zip(reward, after, value, strict=True)]
        advantages.append(
            [math.fsum((GAMMA * LAM) ** (k - t) * errors[k] for k in range(t, len(errors))) for t in range(len(errors))]
        )
    returns = [[a + v for a, v in zip(row, value, strict=True)] for row, value in zip(advantages, values, strict=True)]
    return advantages, returns


def policy_token(new: float, old: float, advantage: float, dual: float | None) -> tuple[float, float]:
    """Loss of one token and its derivative by the token's log-probability."""
    ratio = math.exp(new - old)
    plain = -advantage * ratio
    limited = -advantage * min(max(ratio, 1 - CLIP), 1 + CLIP)
    loss, slope = (plain, plain) if plain >= limited else (limited, 0.0)
    if dual is not None and advantage < 0 and loss > -advantage * dual:
        return -advantage * dual, 0.0
    return loss, slope


def value_token(value: float, old: float, target: float) -> tuple[float, float]:
    """Loss of one token and its derivative by the value."""
    limited = old + min(max(value - old, -VALUE_CLIP), VALUE_CLIP)
    plain_loss, limited_loss = (value - target) ** 2 / 2, (limited - target) ** 2 / 2
    if plain_loss >= limited_loss:
        return plain_loss, value - target
    return limited_loss, limited - target if abs(value - old) < VALUE_CLIP else 0.0


# --- Both agree ---


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_rewards(case: Case, estimator: str) -> None:
    divergence = kl_per_token(tensor(case.old), tensor(case.ref), estimator)
    scores = torch.tensor(case.scores, dtype=torch.float64)
    assert_equal(shape_rewards(scores, divergence, mask_of(case), COEF), rewards_of(case, estimator))


def test_advantages_and_returns(case: Case) -> None:
    rewards = rewards_of(case, "k1")
    computed = generalized_advantages(tensor(rewards), tensor(case.values), mask_of(case), gamma=GAMMA, lam=LAM)
    advantages, returns = gae_of(rewards, case.values)
    assert_equal(computed[0], advantages)
    assert_equal(computed[1], returns)
    assert_equal(whiten(computed[0], mask_of(case)), whitened(advantages))


def test_returns_to_go(case: Case) -> None:
    rewards = rewards_of(case, "k1")
    expected = [
        [math.fsum(GAMMA ** (k - t) * row[k] for k in range(t, len(row))) for t in range(len(row))] for row in rewards
    ]
    assert_equal(returns_to_go(tensor(rewards), mask_of(case), gamma=GAMMA), expected)


def test_advantages_within_groups(case: Case) -> None:
    expected_group, expected_plain, expected_loo = [], [], []
    for row, score in enumerate(case.scores):
        rivals = [case.scores[other] for other, group in enumerate(case.groups) if group == case.groups[row]]
        mean = sum(rivals) / len(rivals)
        deviation = math.sqrt(sum((rival - mean) ** 2 for rival in rivals) / len(rivals))
        others = [case.scores[o] for o, group in enumerate(case.groups) if group == case.groups[row] and o != row]
        expected_group.append((score - mean) / (deviation + 1e-8))
        expected_plain.append(score - mean)
        expected_loo.append(score - sum(others) / len(others))
    scores, groups = torch.tensor(case.scores, dtype=torch.float64), torch.tensor(case.groups)
    assert group_relative(scores, groups).tolist() == pytest.approx(expected_group, abs=1e-10)
    assert group_relative(scores, groups, scale=False).tolist() == pytest.approx(expected_plain, abs=1e-10)
    assert leave_one_out(scores, groups).tolist() == pytest.approx(expected_loo, abs=1e-10)


@pytest.mark.parametrize("dual", [None, DUAL])
def test_policy_loss_and_its_gradient(case: Case, dual: float | None) -> None:
    advantages = case.rows(0, 1)
    new = tensor(case.new).requires_grad_()
    loss = policy_loss(new, tensor(case.old), tensor(advantages), CLIP, dual)
    mean = masked_mean(loss, mask_of(case))
    mean.backward()
    expected = [
        [policy_token(n, o, a, dual) for n, o, a in zip(*row, strict=True)]
        for row in zip(case.new, case.old, advantages, strict=True)
    ]
    count = sum(case.lengths)
    assert_equal(loss.detach(), [[token[0] for token in row] for row in expected])
    assert mean.item() == pytest.approx(math.fsum(token[0] for row in expected for token in row) / count, abs=1e-10)
    assert_equal(new.grad, [[token[1] / count for token in row] for row in expected])
    assert (new.grad[~mask_of(case)] == 0).all()


def test_value_loss_and_its_gradient(case: Case) -> None:
    targets = case.rows(0, 0.7)
    values = tensor(case.values).requires_grad_()
    mean = masked_mean(value_loss(values, tensor(case.old_values), tensor(targets), VALUE_CLIP), mask_of(case))
    mean.backward()
    expected = [
        [value_token(v, o, t) for v, o, t in zip(*row, strict=True)]
        for row in zip(case.values, case.old_values, targets, strict=True)
    ]
    count = sum(case.lengths)
    assert mean.item() == pytest.approx(math.fsum(token[0] for row in expected for token in row) / count, abs=1e-10)
    assert_equal(values.grad, [[token[1] / count for token in row] for row in expected])


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_kl_in_the_loss_and_its_gradient(case: Case, estimator: str) -> None:
    new = tensor(case.new).requires_grad_()
    masked_mean(kl_per_token(new, tensor(case.ref), estimator), mask_of(case)).backward()
    count = sum(case.lengths)

    def slope(n: float, r: float) -> float:
        return n - r if estimator == "k2" else 1 - math.exp(r - n)

    expected = [
        [slope(n, r) / count for n, r in zip(*row, strict=True)] for row in zip(case.new, case.ref, strict=True)
    ]
    assert_equal(new.grad, expected)
