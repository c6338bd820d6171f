"""A generator as a deployment: Ray Serve's replica, which imports no model, but counts, and asks a process."""

import os
from collections.abc import AsyncIterator, Sequence

from serve.apart import Apart
from serve.artefact import Artefact
from serve.generation import Generation
from serve.metrics import Speech
from serve.orders import Answer, Load, Order, Refusal
from serve.verdicts import Pair
from serve.versions import Versions


class GeneratorReplica:
    """As Generators, which live apart. Without their process it is nothing: it ends, too, and the doors ask another."""

    def __init__(self, name: str, versions: Versions, config: Generation, threads: int) -> None:
        self.name, self.versions, self.speech = name, versions, Speech(name)
        self.generators = Apart(name, versions, config, threads, on_death=lambda: os._exit(1))

    def about(self) -> Artefact:
        return self.versions.now()[self.name]

    async def complete(self, order: Order) -> Answer | Refusal:
        return await self.generators.complete(order)

    async def stream(self, order: Order) -> AsyncIterator[Answer | Refusal]:
        async for answer in self.generators.stream(order):
            yield answer

    async def load(self) -> Load:
        return await self.generators.load()

    async def rehearse(self, model: Artefact, rollouts: Sequence[Pair]) -> str:
        return await self.generators.rehearse(model, rollouts)

    async def check_health(self) -> None:
        """Raises RuntimeError where the engine has died or stands still, and so where its process does."""
        self.speech.look(await self.generators.check_health())

    def __del__(self) -> None:
        if generators := getattr(self, "generators", None):  # where it could be made
            generators.close()
