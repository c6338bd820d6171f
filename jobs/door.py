"""What all doors share: the words of the command line, and how a mistake is answered."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from rlhf_ray.alarm import Tripped
from rlhf_ray.config import BadInput, load
from rlhf_ray.distributed.connection import disconnect
from rlhf_ray.runs import RunConfig
from rlhf_ray.stages import Run, Stage, open_run
from rlhf_ray.training.replay import recorded
from rlhf_ray.workers.rewards import check_functions

USER_MISTAKE, TRIPPED, INTERRUPTED = 2, 3, 130


def perform(stages: Sequence[Stage], after: Callable[[Run], None] = lambda run: None) -> None:
    """Perform the stages of the run that the command line names; `after` ends the run while it is still held."""

    def work() -> None:
        usage = f"python -m jobs.{Path(sys.argv[0]).stem} CONFIG [key=value …]"
        if was_help_asked(sys.argv[1:], usage, "rlhf_ray/runs.py or in a class that it names"):
            return
        if len(sys.argv) < 2:
            raise BadInput(f"expected {usage}, got no CONFIG")
        config = load(RunConfig, sys.argv[1], sys.argv[2:])
        check_functions(config.scoring.rewards)
        recorded(config.replay)
        with open_run(config) as run:
            for stage in stages:
                print(f"{stage.name}: …", file=sys.stderr, flush=True)
                done = run.perform(stage)
                said = f"{run.manifest(stage.name)['seconds']:.0f} s" if done else "unchanged, skipped"
                print(f"{stage.name}: {said} → {run.path(stage.name)}", file=sys.stderr, flush=True)
            after(run)

    guarded(work)


def was_help_asked(words: Sequence[str], usage: str, where: str) -> bool:
    """Whether the words ask how a job is called; if so, it is said, with the place of the keys' sentences."""
    asked = words[:1] in (["-h"], ["--help"])
    if asked:
        print(f"usage: {usage}; every key has a sentence in {where}")
    return asked


def guarded(work: Callable[[], None]) -> NoReturn:
    """Run, and end the process: 0 when done, 2 for a user's mistake, 3 where the run stopped itself, 130 for Ctrl-C.

    A cluster's polite SIGTERM is a Ctrl-C. Anything else is a fault of ours: a traceback, and 1.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        work()
    except BadInput as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(USER_MISTAKE)
    except Tripped as tripped:
        print(f"stopped: {tripped}", file=sys.stderr)
        sys.exit(TRIPPED)
    except KeyboardInterrupt:
        disconnect()
        print("interrupted; what had been finished is kept", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.exit(os.EX_OK)
