"""What is suggested: the run's own configuration first, then the same again for the same results; who is stopped."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rlhf_ray.distributed.search import Halving
from rlhf_ray.distributed.suggestions import Suggestions
from rlhf_ray.feedback.lessons import Lessons
from rlhf_ray.training.reward import RewardTraining
from rlhf_ray.training.search import Search
from rlhf_ray.training.space import Range, Space
from rlhf_ray.training.trial import Case, Task, Trial
from rlhf_ray.training.validation import Validation

SPACE: Space = {
    "lr": Range(low=1e-5, high=1e-2, log=True),
    "epochs": Range(low=1, high=4),
    "balance_labels": [False, True],
}
DEFAULT = {"lr": 2e-4, "epochs": 2, "balance_labels": False}


def suggested(count: int, searcher: str, begun: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """The cases of a search whose every trial ends before the next is suggested, the more epochs the better."""
    suggestions = Suggestions(Search(trials=12, searcher=searcher), SPACE, seed, begun)
    cases = []
    for number in range(count):
        cases.append(suggestions.suggest(str(number))["case"])
        result = {"objective": cases[-1]["values"]["epochs"] - cases[-1]["values"]["lr"], "training_iteration": 1}
        suggestions.on_trial_complete(str(number), result)
    return cases


@pytest.mark.parametrize("searcher", ["optuna", "random"])
def test_the_runs_own_configuration_comes_first_and_the_rest_lies_in_the_space(searcher: str) -> None:
    cases = suggested(12, searcher, [DEFAULT])
    assert cases[0] == {"name": "000", "values": DEFAULT, "seed": 0}
    assert [case["name"] for case in cases] == [f"{number:03}" for number in range(12)]
    for case in cases:
        assert 1e-5 <= case["values"]["lr"] <= 1e-2
        assert case["values"]["epochs"] in (1, 2, 3, 4)
        assert isinstance(case["values"]["balance_labels"], bool)


@pytest.mark.parametrize("searcher", ["optuna", "random"])
@pytest.mark.parametrize("killed_after", [1, 4, 9])
def test_a_search_that_goes_on_suggests_what_it_would_have_suggested(searcher: str, killed_after: int) -> None:
    whole = suggested(12, searcher, [DEFAULT])
    begun = [case["values"] for case in whole[:killed_after]]
    assert suggested(12, searcher, begun) == whole


def test_another_seed_suggests_others() -> None:
    assert suggested(5, "random", [DEFAULT])[1:] != suggested(5, "random", [DEFAULT], seed=1)[1:]


@dataclass
class Running:
    """What the scheduler sees of one of Tune's trials."""

    name: str
    trial_id: str = ""
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.trial_id, self.config = self.name, {"case": {"name": self.name}}


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(str(tmp_path), {}, RewardTraining(), None, Lessons([], [], []), Validation([], [], []), 1)


def test_the_poor_are_stopped_early_but_never_the_first_and_their_records_say_so(task: Task) -> None:
    halving = Halving(task, Search(), most_epochs=4)
    halving.set_search_properties("objective", "max")
    decisions = {}
    for name, objective in (("001", 0.9), ("002", 0.95), ("000", 0.1), ("003", 0.2)):
        running = Running(name)
        task.place(name).mkdir()
        Trial(Case(name, {}, 0)).write(task.place(name))
        halving.on_trial_add(None, running)
        decisions[name] = halving.on_trial_result(None, running, {"epochs": 0.5, "objective": objective})
    assert decisions == {"001": "CONTINUE", "002": "CONTINUE", "000": "CONTINUE", "003": "STOP"}
    endings = {name: trial.ending for name in decisions if (trial := Trial.read(task.place(name)))}
    assert endings == {"001": "", "002": "", "000": "", "003": "stopped"}
