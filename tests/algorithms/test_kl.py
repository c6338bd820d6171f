"""The estimators of KL measure what they say, and the coefficient follows them."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from rlhf_ray.algorithms.kl import KlState, adaptive, fixed, kl_per_token

ESTIMATORS = ["k1", "k2", "k3"]
LOGITS = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=2, max_size=8)
COEFS = st.floats(1e-4, 10)
TARGETS = st.floats(0.1, 100)
KLS = st.floats(-100, 1000)  # a mean of k1 may be negative


def two_distributions(logits: list[tuple[float, float]]) -> tuple[Tensor, Tensor]:
    """Log-probabilities `1 V` of policy and reference, in float64."""
    policy, reference = torch.tensor(logits, dtype=torch.float64).T.log_softmax(1).split(1)
    return policy, reference


def true_kl(policy: Tensor, reference: Tensor) -> float:
    kind = torch.distributions.Categorical
    return float(torch.distributions.kl_divergence(kind(logits=policy[0]), kind(logits=reference[0])))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(LOGITS)
def test_who_agrees_with_the_reference_is_at_distance_0(estimator: str, logits: list) -> None:
    policy, _ = two_distributions(logits)
    assert (kl_per_token(policy, policy, estimator) == 0).all()


@pytest.mark.parametrize("estimator", ["k1", "k3"])
@given(LOGITS)
def test_what_k1_and_k3_expect_is_the_true_divergence(estimator: str, logits: list) -> None:
    policy, reference = two_distributions(logits)
    expected = (policy.exp() * kl_per_token(policy, reference, estimator)).sum()
    assert float(expected) == pytest.approx(true_kl(policy, reference), abs=1e-9)


@pytest.mark.parametrize("estimator", ["k2", "k3"])
@given(LOGITS)
def test_k2_and_k3_are_never_negative(estimator: str, logits: list) -> None:
    assert (kl_per_token(*two_distributions(logits), estimator) >= -1e-12).all()


@given(LOGITS)
def test_near_the_reference_k2_expects_almost_the_true_divergence(logits: list) -> None:
    policy, other = two_distributions(logits)
    reference = (policy + 1e-3 * (other - policy)).log_softmax(1)
    expected = float((policy.exp() * kl_per_token(policy, reference, "k2")).sum())
    assert expected == pytest.approx(true_kl(policy, reference), rel=0.02, abs=1e-12)


def test_k1_is_the_estimator_where_none_is_named() -> None:
    policy, reference = torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(kl_per_token(policy, reference), kl_per_token(policy, reference, "k1"))


def control(coef: float, kl: float, target: float, *, horizon: int = 1000, episodes: int = 64) -> float:
    return adaptive(KlState(coef), kl, target=target, horizon=horizon, episodes=episodes).coef


@given(COEFS, KLS)
def test_a_fixed_coefficient_stays(coef: float, kl: float) -> None:
    assert fixed(KlState(coef), kl) == KlState(coef)


@given(COEFS, TARGETS, st.floats(1.01, 100))
def test_the_coefficient_rises_above_the_target_and_falls_below_it(coef: float, target: float, times: float) -> None:
    assert control(coef, target * times, target) > coef
    assert control(coef, target / times, target) < coef
    assert control(coef, target, target) == coef


@given(COEFS, TARGETS, KLS)
def test_one_step_moves_the_coefficient_by_a_fifth_of_its_share_of_the_horizon_at_most(
    coef: float, target: float, kl: float
) -> None:
    assert abs(control(coef, kl, target) / coef - 1) <= 0.2 * 64 / 1000 + 1e-9


@given(COEFS, TARGETS, KLS, st.integers(1, 1000), st.integers(1, 1000))
@example(coef=1.0, target=1.0, kl=0.0, horizon=1, episodes=64)
def test_the_coefficient_never_turns_into_a_reward_for_leaving_the_reference(
    coef: float, target: float, kl: float, horizon: int, episodes: int
) -> None:
    assert control(coef, kl, target, horizon=horizon, episodes=episodes) > 0


def test_the_coefficient_steers_to_its_target() -> None:
    """In a world where the divergence is 1 / coefficient, a target of 4 is reached at 0.25."""
    coef = 1.0
    for _ in range(400):
        coef = control(coef, 1 / coef, 4.0)
    assert coef == pytest.approx(0.25, rel=0.01)
