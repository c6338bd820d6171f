"""What a search suggests next: the run's own configuration, then what Optuna makes of the trials so far."""

from collections.abc import Callable
from functools import partial
from typing import Any

from optuna.logging import WARNING, set_verbosity
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from ray.tune.search.optuna import OptunaSearch

from rlhf_ray.seeds import derive
from rlhf_ray.training.search import Search
from rlhf_ray.training.space import Space, distributions
from rlhf_ray.training.trial import Case

METRIC = "objective"

set_verbosity(WARNING)  # it would say that a study was created


class Suggestions(OptunaSearch):
    """Cases numbered from 000. `begun` are the values of those that an earlier attempt had begun: they come first."""

    def __init__(self, search: Search, space: Space, seed: int, begun: list[dict[str, Any]]) -> None:
        super().__init__(
            space=distributions(space),
            metric=METRIC,
            mode="max",
            points_to_evaluate=begun,
            sampler=Reseeded(_sampler_of(search), seed),
        )
        self.seed = seed
        self.count = 0

    def suggest(self, trial_id: str) -> dict[str, Any]:
        case = Case(name_of(self.count), values=super().suggest(trial_id), seed=self.seed)
        self.count += 1
        return {"case": vars(case)}


class Reseeded(BaseSampler):
    """A sampler made anew for each trial, with a seed of the trial's own.

    What it suggests follows from the trial's number and from the results so far, and from nothing else: a search that
    goes on suggests what it would have suggested.
    """

    def __init__(self, make: Callable[..., BaseSampler], seed: int) -> None:
        self.make = make
        self.seed = seed
        self.sampler = make(seed=0)

    def before_trial(self, study: Any, trial: Any) -> None:
        self.sampler = self.make(seed=derive(self.seed, "suggestion", trial.number) % 2**32)

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: Any, search_space: dict[str, Any]) -> dict[str, Any]:
        return self.sampler.sample_relative(study, trial, search_space)

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        return self.sampler.sample_independent(study, trial, param_name, param_distribution)


def name_of(number: int) -> str:
    return f"{number:03}"


def _sampler_of(search: Search) -> Callable[..., BaseSampler]:
    if search.searcher == "random":
        return RandomSampler
    begin = max(2, search.trials // 3)  # so many by chance: TPE's ten would leave it few of a small search
    return partial(TPESampler, n_startup_trials=begin)
