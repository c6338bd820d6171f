"""Laws of an ensemble: one member is the model itself, equals cost nothing, and doubt only ever lowers a score."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_ray.config import BadInput
from rlhf_ray.experience import Rollout
from rlhf_ray.models.scalar import Scalar
from rlhf_ray.workers.ensemble import pessimistic
from rlhf_ray.workers.rewards import Reward, check_members
from rlhf_ray.workers.scorer import Scorer, Scoring


@pytest.fixture
def rollout(rollout_of: Callable) -> Rollout:
    return rollout_of([[5, 6], [7], [8]], [[20, 21, 0], [22, 23, 24], [25, 0]], prompt_width=3)


@pytest.fixture
def members(tmp_path: Path, reward_folder: str) -> str:
    """The reward model with two further members, each of which reads texts in its own way."""
    folder = tmp_path / "reward"
    shutil.copytree(reward_folder, folder)
    for number in (2, 3):
        scalar = Scalar.load(reward_folder)
        with torch.no_grad():
            scalar.classifier.score.weight *= number
        scalar.classifier.save_pretrained(folder / "members" / str(number))
    return str(folder)


@pytest.fixture
def parts(policy_folder: str, rollout: Rollout) -> Callable[..., torch.Tensor]:
    def parts(model: str, **reward: Any) -> torch.Tensor:
        scoring = Scoring.model_validate({"rewards": {"model": reward}})
        return Scorer(model, policy_folder, scoring, 1.0).score(rollout).parts[:, 0]

    return parts


def test_one_member_is_the_model_itself(parts: Callable, members: str, reward_folder: str) -> None:
    assert torch.equal(parts(members, members=1, pessimism=3.0), parts(reward_folder))


def test_without_pessimism_it_is_the_mean_of_the_members(parts: Callable, members: str) -> None:
    alone = [parts(folder) for folder in (members, f"{members}/members/2", f"{members}/members/3")]
    torch.testing.assert_close(parts(members, members=3, pessimism=0.0), torch.stack(alone).mean(0))
    torch.testing.assert_close(parts(members, members=2, pessimism=0.0), torch.stack(alone[:2]).mean(0))


def test_members_that_disagree_lower_the_score(parts: Callable, members: str) -> None:
    brave, doubtful = (parts(members, members=3, pessimism=k) for k in (0.0, 1.0))
    assert (doubtful < brave).all()


scores = st.lists(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3), min_size=1, max_size=5)


@given(scores=scores, low=st.floats(0, 5), more=st.floats(0, 5))
def test_more_pessimism_never_raises_a_score(scores: list[list[float]], low: float, more: float) -> None:
    found = torch.tensor(scores, dtype=torch.float64)
    assert (pessimistic(found, low + more) <= pessimistic(found, low)).all()


@given(one=st.lists(st.floats(-50, 50), min_size=1, max_size=4), count=st.integers(1, 5), pessimism=st.floats(0, 5))
def test_members_that_agree_cost_nothing(one: list[float], count: int, pessimism: float) -> None:
    found = torch.tensor([one] * count, dtype=torch.float64)
    torch.testing.assert_close(pessimistic(found, pessimism), found[0])


def test_too_few_members_are_named_with_the_reward(members: str) -> None:
    check_members({"mine": Reward(members=3)}, members)
    with pytest.raises(BadInput, match=r"scoring\.rewards\.mine\.members: expected at most 3, the models in .*, got 5"):
        check_members({"mine": Reward(members=5)}, members)


def test_a_function_has_no_members() -> None:
    with pytest.raises(ValueError, match=r"members: expected 1 with source=my:reward, got 2"):
        Reward(source="my:reward", members=2)
