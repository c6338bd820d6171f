"""The search for the reward model's hyper-parameters: what it may try, and what it leaves to others."""

import json
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from rlhf_ray.config import BadInput, Config
from rlhf_ray.training.space import SPACE, Space, check_space
from rlhf_ray.training.validation import Validated
from rlhf_ray.workers.ensemble import MEMBERS

BEST = "best"  # the folder of the best model; the next best are in 2, 3, …
RESULT = "search.json"


class Search(Config):
    """How the reward model's hyper-parameters are searched (jobs.search_reward)."""

    name: str = Field(
        "best",
        pattern=r"^[\w-]{1,60}$",
        description="Its result is the stage search-NAME, adopted by reward=search:NAME.",
    )
    trials: int = Field(16, ge=2, description="How many configurations are tried; the run's own is the first.")
    concurrent: int = Field(2, ge=1, description="Trials at the same time.")
    threads_each: int = Field(1, ge=1, description="CPU threads of a trial.")
    gpus_each: float = Field(0, ge=0, description="GPUs of a trial; 0 runs on CPUs.")
    validation: Validated = Field(Validated(), description="What every trial is measured on.")
    searcher: Literal["optuna", "random"] = Field(
        "optuna", description="Who suggests: Optuna's TPE, which learns from the trials so far, or chance."
    )
    space: Space = Field(SPACE, min_length=1, description="By knob of reward, a range {low, high, log} or a list.")
    grace: float = Field(0.5, ge=0.5, description="Epochs for which a trial cannot be stopped early.")
    reduction: float = Field(
        2.0, gt=1, description="At each rung (grace, grace · this, …) one trial in so many goes on."
    )
    keep: int = Field(3, ge=1, description="Best models that are kept; several make an ensemble.")
    confirm: int = Field(3, ge=0, description="Further seeds of the best and of the first configuration; 0: none.")

    def check_space(self, default: Any) -> None:
        """Raises ValueError, naming the key, where the space does not fit the RewardTraining that it begins with."""
        check_space(self.space, default)


def stage_of(name: str) -> str:
    """The stage, and the folder in the run's, of a search."""
    return f"search-{name}"


def read_result(folder: Path) -> dict[str, Any]:
    """The search.json of a finished search. Raises BadInput, with the call that makes it, where there is none."""
    if not (folder / RESULT).is_file():
        name = folder.name.removeprefix(stage_of(""))
        raise BadInput(
            f"reward: expected a finished search in {folder}, found none; run "
            f"python -m jobs.search_reward CONFIG search.name={name} first"
        )
    return json.loads((folder / RESULT).read_text(encoding="utf-8"))


def models(folder: Path) -> list[Path]:
    """The models of a finished search, the best first."""
    return [
        folder / BEST,
        *sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda p: int(p.name)),
    ]


def adopt(search: Path, folder: Path, on: dict[str, str]) -> None:
    """The best model of a search becomes that of `folder`, the next best its `members/2`, `members/3`, …

    Raises BadInput where the search was on other stages than those whose digests are `on`.
    """
    if read_result(search)["on"] != on:
        raise BadInput(
            f"reward: expected a search on this run's {' and '.join(on)}, got one on others in {search}; run it again"
        )
    best, *others = models(search)
    shutil.copytree(best, folder, dirs_exist_ok=True)
    for other in others:
        shutil.copytree(other, folder / MEMBERS / other.name)
