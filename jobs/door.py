"""What all doors share: the words of the command line, and the stages that they ask for."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rlhf_ray.config import BadInput, load
from rlhf_ray.distributed.connection import check_lasting
from rlhf_ray.heap import keep_freed_memory
from rlhf_ray.runs import RunConfig
from rlhf_ray.stages import Run, Stage, open_run
from rlhf_ray.training.replay import recorded
from rlhf_ray.workers.rewards import check_functions

from jobs.ending import guarded

Stages = Sequence[Stage] | Callable[[RunConfig], Sequence[Stage]]


def perform(stages: Stages, after: Callable[[Run], None] = lambda run: None) -> None:
    """Perform the stages of the run that the command line names; `after` ends the run while it is still held.

    Which stages there are may depend on the config.
    """

    def work() -> None:
        usage = f"python -m jobs.{Path(sys.argv[0]).stem} CONFIG [key=value …]"
        if was_help_asked(sys.argv[1:], usage, "rlhf_ray/runs.py or in a class that it names"):
            return
        if len(sys.argv) < 2:
            raise BadInput(f"expected {usage}, got no CONFIG")
        config = load(RunConfig, sys.argv[1], sys.argv[2:])
        go_through(config, stages(config) if callable(stages) else stages, after)

    guarded(work)


def go_through(config: RunConfig, stages: Sequence[Stage], after: Callable[[Run], None] = lambda run: None) -> None:
    """Perform the stages of the run, or skip what is done. Raises BadInput, and Tripped where the run stops itself."""
    check_lasting(config)
    check_functions(config.scoring.rewards)
    recorded(config.replay)
    for stage in stages:
        stage.also(config)
    keep_freed_memory()
    with open_run(config) as run:
        for stage in stages:
            print(f"{stage.name}: …", file=sys.stderr, flush=True)
            done = run.perform(stage)
            said = f"{run.manifest(stage.name)['seconds']:.0f} s" if done else "unchanged, skipped"
            print(f"{stage.name}: {said} → {run.path(stage.name)}", file=sys.stderr, flush=True)
        after(run)


def was_help_asked(words: Sequence[str], usage: str, where: str) -> bool:
    """Whether the words ask how a job is called; if so, it is said, with the place of the keys' sentences."""
    asked = words[:1] in (["-h"], ["--help"])
    if asked:
        print(f"usage: {usage}; every key has a sentence in {where}")
    return asked
