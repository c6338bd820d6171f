"""An alarm: something is wrong with a run that is going, said so that a person can do something about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Alarm:
    """What happened in which step, what probably caused it, and what to do."""

    name: str
    what: str
    cause: str
    remedy: str
    step: int | None = None

    def __str__(self) -> str:
        where = "" if self.step is None else f" at step {self.step}"
        return f"{self.name}{where}: {self.what}. Likely cause: {self.cause}. What to do: {self.remedy}."


class Tripped(RuntimeError):
    """A run stopped itself. Its newest good checkpoint is kept."""

    def __init__(self, alarm: Alarm) -> None:
        super().__init__(alarm)
        self.alarm = alarm

    def __str__(self) -> str:
        return str(self.alarm)


class NotFinite(Tripped, FloatingPointError):
    """A number that must be finite is not."""


@contextmanager
def happening_at(step: int) -> Iterator[None]:
    """Where a worker raises Tripped, who knows nothing of steps, the alarm learns in which step it was."""
    try:
        yield
    except Tripped as tripped:
        if tripped.alarm.step is not None:
            raise
        raise type(tripped)(replace(tripped.alarm, step=step)) from tripped
