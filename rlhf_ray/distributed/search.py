"""The search under Ray Tune: trials side by side, the poor ones stopped early, the lost ones begun anew."""

import itertools
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

# Without most of Tune's own files, tables and handler of Ctrl-C: what is worth keeping lies in the trials' records.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1e9")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")

from ray import tune
from ray.tune.logger import JsonLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from transformers.utils import logging

from rlhf_ray.distributed.connection import connect, disconnect, environment
from rlhf_ray.distributed.placement import Seat, check_room, needs_of
from rlhf_ray.distributed.suggestions import METRIC, Suggestions, name_of
from rlhf_ray.runs import Cluster
from rlhf_ray.seeds import derive
from rlhf_ray.training.progress import Reporter
from rlhf_ray.training.search import Search
from rlhf_ray.training.space import Range, Space
from rlhf_ray.training.trial import WORST, Case, Task, Trial, best_of, try_out

LOSSES = 3  # of a trial's process before the trial counts as failed


def search_space(task: Task, search: Search, space: Space, seed: int, *, grows: bool) -> list[Trial]:
    """Try out cases of the space, the run's own configuration first; the trials in order.

    What an earlier attempt had done is taken from the records in the task's folder. On a cluster that grows, trials
    wait for machines.
    """
    _connect(search, grows)
    begun = _begun(task, search.trials) or [{key: getattr(task.training, key) for key in space}]
    plan = {
        "search_alg": Suggestions(search, space, seed, begun),
        "scheduler": Halving(task, search, _most_epochs(space, task)),
        "num_samples": search.trials,
    }
    _fit(task, search, Told("search", search.trials, task, search.keep), {}, plan)
    return [_over(task, Case(name_of(number), {}, seed)) for number in range(search.trials)]


def confirm(task: Task, search: Search, trials: list[Trial], seed: int) -> dict[str, list[Trial]]:
    """The first configuration and the best, each again with further seeds, all of them to their end.

    It works on the connection that the search has made.
    """
    ranked = best_of(trials)
    if not search.confirm or not ranked:
        return {}
    chosen = {"default": trials[0]} | ({"best": ranked[0]} if ranked[0] is not trials[0] else {})
    cases = {
        who: [Case(f"{who}-{k}", trial.case.values, _seed_of(seed, k)) for k in range(1, search.confirm + 1)]
        for who, trial in chosen.items()
    }
    all_cases = [case for some in cases.values() for case in some]
    apart = replace(task, folder=str(Path(task.folder, "confirm")))
    space = {"case": tune.grid_search([vars(case) for case in all_cases])}
    _fit(apart, search, Told("confirm", len(all_cases), apart, keep=0), space, {})
    return {who: [_over(apart, case) for case in some] for who, some in cases.items()}


class Halving(ASHAScheduler):
    """Successive halving by epochs. Trial 000, the measure of all others, is never stopped.

    A trial's record says that it was stopped: one that goes on must not do it again.
    """

    def __init__(self, task: Task, search: Search, most_epochs: int) -> None:
        super().__init__(
            time_attr="epochs",
            grace_period=search.grace,
            reduction_factor=search.reduction,
            max_t=most_epochs + 1,  # a trial ends by itself, with its model written
        )
        self.task = task

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision, name = super().on_trial_result(tune_controller, trial, result), _name_in_case(trial)
        if name == name_of(0):
            return self.CONTINUE
        found = Trial.read(self.task.place(name))
        if decision == self.STOP and found and not found.ending:
            found.ending = "stopped"
            found.write(self.task.place(name))
        return decision


class Told(tune.Callback):
    """Says how far the search is and what its best is, and clears away the models that are none of the best."""

    def __init__(self, stage: str, trials: int, task: Task, keep: int) -> None:
        self.report, self.trials, self.task, self.keep = Reporter(stage), trials, task, keep
        self.objectives: list[float] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.objectives.append(trial.last_result.get(METRIC, WORST))
        said = {METRIC: self.objectives[-1], "best": max(self.objectives)}
        self.report(len(self.objectives), self.trials, said)
        self.task.clear(self.keep)


def check_trials(search: Search, *, grows: bool) -> None:
    """Raises BadInput where the machines have no room for the trials, and no others will join."""
    cluster = _cluster_of(search, grows)
    check_room(cluster, [Seat(needs_of(cluster), labels={}, learns=False)] * search.concurrent, "search")


def _connect(search: Search, grows: bool) -> None:
    """Anew, since Tune starts trials in the environment of the whole connection. Raises BadInput where seats lack."""
    disconnect()
    connect(environment(_cluster_of(search, grows)))
    check_trials(search, grows=grows)


def _cluster_of(search: Search, grows: bool) -> Cluster:
    """A seat for each trial that runs beside others."""
    return Cluster(
        samplers=search.concurrent, threads_each=search.threads_each, gpus_each=search.gpus_each, grows=grows
    )


def _fit(task: Task, search: Search, told: Told, space: dict[str, Any], plan: dict[str, Any]) -> None:
    """Raises RuntimeError, from what happened first, where no trial came to an end."""
    storage = Path(task.folder, "tune")
    shutil.rmtree(storage, ignore_errors=True)

    def trial(config: dict[str, Any], task: Task) -> None:
        logging.set_verbosity_error()  # every trial would report the head that its backbone lacks
        try_out(Case(**config["case"]), task, tune.report)

    resources = {"CPU": search.threads_each, "GPU": search.gpus_each}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trial, task=task), resources),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            max_concurrent_trials=search.concurrent,
            reuse_actors=True,
            trial_dirname_creator=_name_in_case,
            **plan,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(storage),
            failure_config=tune.FailureConfig(max_failures=LOSSES),
            callbacks=[JsonLoggerCallback(), told],
            verbose=0,
        ),
    )
    results = tuner.fit()
    if len(results.errors) == len(results):
        raise RuntimeError("the search: every trial failed") from results.errors[0]


def _name_in_case(trial: Any) -> str:
    return trial.config["case"]["name"]


def _seed_of(seed: int, number: int) -> int:
    return derive(seed, "confirm", number) % 2**32


def _begun(task: Task, most: int) -> list[dict[str, Any]]:
    """The values of the trials that an earlier attempt had begun, up to the first that it had not."""
    trials = (Trial.read(task.place(name_of(number))) for number in range(most))
    return [trial.case.values for trial in itertools.takewhile(bool, trials) if trial]


def _over(task: Task, case: Case) -> Trial:
    """The trial of the case as its record has it; one without an ending has failed."""
    trial = Trial.read(task.place(case.name)) or Trial(case)
    if not trial.ending:
        trial.ending, trial.why = "failed", f"its process was lost {LOSSES + 1} times, or raised what it should not"
    return trial


def _most_epochs(space: Space, task: Task) -> int:
    epochs = space.get("epochs", [task.training.epochs])
    return int(epochs.high if isinstance(epochs, Range) else max(epochs))
