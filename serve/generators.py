"""A generator in the versions that are asked for, counted as one. A plain class; `apart.py` has it elsewhere."""

from collections.abc import AsyncIterator, Sequence
from weakref import WeakKeyDictionary

from serve.artefact import Artefact
from serve.generation import Generation
from serve.generator import Generator
from serve.orders import Answer, Load, Order, Refusal
from serve.rehearsal import mistakes, try_generator
from serve.shelf import Shelf
from serve.verdicts import Pair
from serve.versions import Versions


class Generators:
    """The served version is loaded when it is made, and raises what that raises; the others when they are needed."""

    def __init__(self, name: str, versions: Versions, config: Generation) -> None:
        self.name, self.versions, self.slots = name, versions, config.slots
        self.drawn, self._counted = 0, WeakKeyDictionary[Generator, int]()
        self.shelf = Shelf(lambda model: Generator(model, config))
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
        loads = {generator: await generator.load() for generator in list(self.shelf.held.values())}
        for generator, load in loads.items():
            self.drawn += load.drawn - self._counted.get(generator, 0)
            self._counted[generator] = load.drawn
        taken, waiting = (sum(getattr(load, name) for load in loads.values()) for name in ("taken", "waiting"))
        return Load(self.slots, taken, waiting, self.drawn)

    async def rehearse(self, model: Artefact, rollouts: Sequence[Pair]) -> str:
        """What is wrong with a version that is to be served; empty where nothing is, and then it is at hand."""
        with mistakes() as found:
            found.append(await try_generator(await self.shelf.take(model), rollouts))
        if found[0]:
            await self.shelf.keep(self.about().digest, linger_s=0)
        return found[0]

    async def check_health(self) -> Load:
        """Raises RuntimeError where the engine has died or stands still. Versions that nobody needs are let go."""
        if served := self.shelf.held.get(self.about().digest):
            served.check_health()
        load = await self.load()
        await self.shelf.keep(self.about().digest)
        return load

    def close(self) -> None:
        self.shelf.close()
