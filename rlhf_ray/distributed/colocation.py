"""Processes that share a seat: workers that take turns live in one, and those that do not leave each other room."""

import os
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from ray import ObjectRef
from ray.actor import ActorHandle


class Colocated:
    """Workers of several roles in one actor. They share its imports, its threads and the memory that each frees."""

    def __init__(self) -> None:
        self._workers: dict[str, Any] = {}

    def hire(self, role: str, worker: type, *arguments: Any) -> None:
        self._workers[role] = worker(*arguments)

    def ask(self, hired: None, role: str, method: str, *arguments: Any) -> Any:
        return getattr(self._workers[role], method)(*arguments)

    def apply(self, hired: None, role: str, function: Any, *arguments: Any) -> Any:
        return function(self._workers[role], *arguments)


@dataclass(frozen=True)
class Colleague:
    """One of the workers in such an actor. It is called as if the actor were its own.

    `hired` goes with every call, so that each raises what its making raised.
    """

    actor: ActorHandle
    role: str
    hired: ObjectRef

    @classmethod
    def hire(cls, actor: ActorHandle, worker: type, *arguments: Any) -> "Colleague":
        return cls(actor, worker.__name__, actor.hire.remote(worker.__name__, worker, *arguments))

    def __getattr__(self, method: str) -> SimpleNamespace:
        if method == "__ray_call__":
            return SimpleNamespace(remote=partial(self.actor.apply.remote, self.hired, self.role))
        if method.startswith("__"):
            raise AttributeError(method)
        return SimpleNamespace(remote=partial(self.actor.ask.remote, self.hired, self.role, method))


def yielding(worker: type) -> type:
    """The same worker, which once it is made computes where other processes leave a core idle."""

    def begin(self: Any, *arguments: Any) -> None:
        worker.__init__(self, *arguments)  # type: ignore[misc]
        _step_back()

    return type(worker.__name__, (worker,), {"__init__": begin, "__module__": worker.__module__})


def _step_back() -> None:
    """This thread, and all that it will start. Niceness would weigh little: Ray's processes have much of it already."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)
