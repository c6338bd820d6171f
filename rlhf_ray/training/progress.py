"""Says how far a stage is: a bar on a terminal, plain lines in a log."""

import atexit
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from transformers import PrinterCallback, Trainer, TrainerCallback

from rlhf_ray.alarm import Alarm
from rlhf_ray.experience import Metrics

LINE_EVERY = 5.0  # seconds between two lines of a log


class Reporter:
    """Called as `report(step, of, metrics)`. It holds nothing open until then, so it can travel to another process."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._started = self._last_line = 0.0
        self._first = 0

    def __call__(self, step: int, of: int, metrics: Metrics) -> None:
        said = "  ".join(f"{name.split('/')[-1]} {value:.3g}" for name, value in metrics.items())
        if sys.stderr.isatty():
            self._advance(step, of, said)
        else:
            self._write_line(step, of, said)

    def _advance(self, step: int, of: int, said: str) -> None:
        if self._bar is None:
            columns = (TextColumn(f"{self.stage:<10}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
            self._bar = Progress(
                *columns, TimeRemainingColumn(), TextColumn("{task.description}"), console=Console(stderr=True)
            )
            self._task = self._bar.add_task("", total=of)
            self._bar.start()
            atexit.register(self._bar.stop)  # a run that is broken off gives the cursor back
        self._bar.update(self._task, completed=step, description=said)
        if step >= of:
            self._bar.stop()

    def _write_line(self, step: int, of: int, said: str) -> None:
        now = time.monotonic()
        self._started, self._first = self._started or now, self._first or step
        if step < of and self._last_line and now - self._last_line < LINE_EVERY:
            return
        self._last_line = now
        done = step - self._first  # a run that goes on begins late
        eta = f"eta {(now - self._started) / done * (of - step):.0f} s  " if done else ""
        print(f"{self.stage:<10} step {step}/{of}  {eta}{said}", file=sys.stderr, flush=True)


def warn(alarm: Alarm) -> None:
    """Say what is wrong with a run that goes on."""
    print(f"warning: {alarm}", file=sys.stderr, flush=True)


class Logged(TrainerCallback):
    """Passes what a transformers trainer logs on to a reporter, from the first of its processes only."""

    def __init__(self, report: Any) -> None:
        self.report = report

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if state.is_world_process_zero and logs and "loss" in logs:
            self.report(state.global_step, state.max_steps, {"loss": float(logs["loss"])})


def quiet(trainer: Trainer) -> Trainer:
    """Without the lines that a trainer prints by itself."""
    trainer.remove_callback(PrinterCallback)
    return trainer
