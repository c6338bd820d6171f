"""A generator as a deployment: versions, health, metrics and the way between processes. It imports no model."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from serve.apart import Apart
from serve.artefact import Artefact
from serve.generation import Generation
from serve.metrics import Speech
from serve.orders import Answer, Load, Order, Refusal
from serve.rehearsal import mistakes, try_generator
from serve.shelf import Shelf
from serve.verdicts import Pair
from serve.versions import Versions


class GeneratorReplica:
    """A generator in the versions that are asked for, counted as one. `load` makes each of them."""

    def __init__(
        self,
        name: str,
        versions: Versions,
        config: Generation,
        threads: int,
        load: Callable[[Artefact, Generation, int], Any] = Apart,
    ) -> None:
        self.name, self.versions, self.slots, self.speech = name, versions, config.slots, Speech(name)
        self.shelf = Shelf(lambda model: load(model, config, threads))
        self.shelf.put(self.about())

    def about(self) -> Artefact:
        return self.versions.now()[self.name]

    async def complete(self, order: Order) -> Answer | Refusal:
        generator = await self.shelf.take(order.model or self.about())
        return await generator.complete(order)

    async def stream(self, order: Order) -> AsyncIterator[Answer | Refusal]:
        generator = await self.shelf.take(order.model or self.about())
        async for answer in generator.stream(order):
            yield answer

    async def load(self) -> Load:
        """Of all versions together."""
        loads = (await self._loads()).values()
        return Load(self.slots, sum(load.taken for load in loads), sum(load.waiting for load in loads))

    async def rehearse(self, model: Artefact, rollouts: Sequence[Pair]) -> str:
        """What is wrong with a version that is to be served; empty where nothing is, and then it is at hand."""
        with mistakes() as found:
            found.append(await try_generator(await self.shelf.take(model), rollouts))
        if found[0]:
            await self.shelf.keep(self.about().digest, linger_s=0)
        return found[0]

    async def check_health(self) -> None:
        """Raises RuntimeError where the engine has died or stands still. Versions that nobody needs are let go."""
        if served := self.shelf.held.get(self.about().digest):
            await served.check_health()
        self.speech.look(await self._loads())
        await self.shelf.keep(self.about().digest)

    async def _loads(self) -> dict[Any, Load]:
        return {generator: await generator.load() for generator in list(self.shelf.held.values())}

    def __del__(self) -> None:
        self.shelf.close()
