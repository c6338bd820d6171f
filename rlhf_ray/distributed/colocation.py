"""Workers that take turns on a seat: one process, in which they share what each would have of its own."""

import contextlib
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import ray
from ray import ObjectRef
from ray.actor import ActorHandle


class Colocated:
    """Workers of several roles in one actor. They share its imports, its threads and the memory that each frees."""

    def __init__(self) -> None:
        self._workers: dict[str, Any] = {}

    def hire(self, post: "Post") -> None:
        """Make its worker ahead of the first call; why that cannot be done, the first call says."""
        with contextlib.suppress(Exception):
            self._holder(post)

    def ask(self, post: "Post", method: str, *arguments: Any) -> Any:
        return getattr(self._holder(post), method)(*arguments)

    def apply(self, post: "Post", function: Any, *arguments: Any) -> Any:
        return function(self._holder(post), *arguments)

    def _holder(self, post: "Post") -> Any:
        """The worker of this post. An actor that was restarted makes it anew."""
        if post.name not in self._workers:
            self._workers[post.name] = post.worker(*post.arguments)
        return self._workers[post.name]


@dataclass(frozen=True)
class Post:
    """What a worker is made of, under a name that no other has."""

    name: str
    worker: type
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Colleague:
    """One of the workers in such an actor. It is called as if the actor were its own.

    Its `post` goes with every call, so that each raises what its making raised, and a restarted actor can make it.
    """

    actor: ActorHandle
    post: ObjectRef

    @classmethod
    def hire(cls, actor: ActorHandle, worker: type, *arguments: Any) -> "Colleague":
        post = ray.put(Post(uuid4().hex, worker, arguments))
        actor.hire.remote(post)
        return cls(actor, post)

    def __getattr__(self, method: str) -> SimpleNamespace:
        if method == "__ray_call__":
            return SimpleNamespace(remote=partial(self.actor.apply.remote, self.post))
        if method.startswith("__"):
            raise AttributeError(method)
        return SimpleNamespace(remote=partial(self.actor.ask.remote, self.post, method))
