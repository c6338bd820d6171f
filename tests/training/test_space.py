"""The space of a search: what it may hold, what is left of it, and how a mistake in it is said."""

from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from rlhf_ray.config import BadInput, load
from rlhf_ray.runs import RunConfig
from rlhf_ray.training.reward import RewardTraining
from rlhf_ray.training.space import SPACE, Range, check_space, distributions, reachable


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("search: {}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("{lrr: [1e-4]}", "search.space.lrr: unknown key, did you mean 'lr'?"),
        ("{lr: {low: -1.0, high: 1.0}}", "search.space.lr: input should be greater than 0, got -1.0"),
        ("{lr: {low: 1e-3, high: 1e-5}}", "search.space.lr: expected low below high, got 0.001 to 1e-05"),
        ("{lr: {low: 1e-5}}", "search.space.lr.high: expected a value, found none"),
        ("{lr: {low: 1e-5, hi: 1e-3}}", "search.space.lr.high: expected a value, found none"),
        ("{lr: {low: 1e-5, high: 1e-3, lag: true}}", "search.space.lr.lag: unknown key, did you mean 'log'?"),
        ("{lr: 1e-4}", "search.space.lr: expected keys and values, got 0.0001"),
        ("{lr: []}", "search.space.lr: expected at least one choice, got none"),
        ("{lr: [2e-4, fast]}", "search.space.lr: input should be a valid number, got 'fast'"),
        ("{lr: {low: 1e-3, high: 1e-2}}", "search.space.lr: expected to hold reward.lr, with which the search begins"),
        (
            "{weight_decay: {low: 0.0, high: 0.1, log: true}}",
            "search.space.weight_decay: expected low above 0 with log",
        ),
        ("{epochs: {low: 0, high: 3}}", "search.space.epochs: input should be greater than or equal to 1, got 0"),
        ("{epochs: {low: 1.5, high: 3}}", "search.space.epochs: input should be a valid integer"),
        ("{balance_labels: {low: 0, high: 1}}", "search.space.balance_labels: "),
        (
            "{balance_labels: [maybe, false]}",
            "search.space.balance_labels: input should be a valid boolean, got 'maybe'",
        ),
        ("{}", "search.space: "),
    ],
)
def test_a_mistake_in_the_space_names_the_key(config: Path, space: str, said: str) -> None:
    with pytest.raises(BadInput) as mistake:
        load(RunConfig, config, [f"search.space={space}"])
    assert said in str(mistake.value)
    assert "\n" not in str(mistake.value)


def test_the_space_must_hold_the_runs_own_configuration(config: Path) -> None:
    with pytest.raises(
        BadInput, match=r"search\.space\.lr: expected to hold reward\.lr, .* \(0\.5\), got 5e-05 to 0\.002"
    ):
        load(RunConfig, config, ["reward.lr=0.5"])


def test_the_default_space_holds_the_default_configuration() -> None:
    check_space(SPACE, RewardTraining())


def test_a_range_is_of_whole_numbers_where_the_knob_is_one() -> None:
    found = distributions(
        {"lr": Range(low=1e-4, high=1e-2, log=True), "epochs": Range(low=1, high=3), "batch": [16, 32]}
    )
    assert found == {
        "lr": FloatDistribution(1e-4, 1e-2, log=True),
        "epochs": IntDistribution(1, 3),
        "batch": CategoricalDistribution([16, 32]),
    }


@pytest.mark.parametrize(
    ("has_base", "has_raters", "left"),
    [
        (True, True, {"lr", "backbone", "weigh_raters"}),
        (False, True, {"lr", "weigh_raters"}),
        (True, False, {"lr", "backbone"}),
        (False, False, {"lr"}),
    ],
)
def test_what_would_change_nothing_is_not_searched(has_base: bool, has_raters: bool, left: set[str]) -> None:
    space = {name: SPACE[name] for name in ("lr", "backbone", "weigh_raters")}
    assert set(reachable(space, has_base, has_raters)) == left


def test_a_space_of_which_nothing_is_left_is_an_error() -> None:
    with pytest.raises(BadInput, match=r"search\.space: expected a knob that changes something here, got backbone"):
        reachable({"backbone": ["sft", "base"]}, has_base=False, has_raters=True)
