"""The versions of one model that a replica holds: loaded beside each other, and let go when nobody needs them."""

import asyncio
import gc
import threading
from collections.abc import Callable
from time import monotonic
from typing import Generic, Protocol, TypeVar
from weakref import WeakSet

from serve.artefact import Artefact

LOADING = threading.Lock()  # transformers patches itself while it loads, for the whole process
LINGER_S = 30.0  # a version that is no longer served is kept so long after it was last asked for


class Held(Protocol):
    """A loaded model."""

    def is_idle(self) -> bool: ...

    def close(self) -> None: ...


Kind = TypeVar("Kind", bound=Held)


class Shelf(Generic[Kind]):
    """`load` is called once for each version that is asked for."""

    def __init__(self, load: Callable[[Artefact], Kind]) -> None:
        self.load = load
        self.held: dict[str, Kind] = {}
        self.asked: dict[str, float] = {}  # when
        self._coming: dict[str, asyncio.Task[Kind]] = {}
        self._leaving: WeakSet[Kind] = WeakSet()  # let go of, and still in memory

    def put(self, model: Artefact) -> None:
        """Load this version here and now. Raises what the loading raises."""
        self.held[model.digest] = self._load(model)
        self.asked[model.digest] = monotonic()

    async def take(self, model: Artefact) -> Kind:
        """This version, which is loaded first, in a thread, where it is not here. Raises what the loading raises."""
        self.asked[model.digest] = monotonic()
        if held := self.held.get(model.digest):
            return held
        coming = self._coming.get(model.digest)
        if not coming:
            coming = self._coming[model.digest] = asyncio.create_task(self._fetch(model))
        return await asyncio.shield(coming)  # who no longer waits does not take it from the others

    async def keep(self, *digests: str, linger_s: float = LINGER_S) -> None:
        """Let go of all versions but these, of those that are at work, and of those that were asked for just now."""
        late = monotonic() - linger_s
        for digest, held in list(self.held.items()):
            if digest not in digests and self.asked[digest] <= late and held.is_idle():
                del self.held[digest], self.asked[digest]
                self._leaving.add(held)
                await asyncio.to_thread(held.close)
            del held
        if self._leaving:  # a loaded model is a circle, and to look for one holds all threads up for 0.2 s
            gc.collect()

    def close(self) -> None:
        for held in self.held.values():
            held.close()

    async def _fetch(self, model: Artefact) -> Kind:
        try:
            held = self.held[model.digest] = await asyncio.to_thread(self._load, model)
            return held
        finally:
            self.asked[model.digest] = monotonic()
            del self._coming[model.digest]

    def _load(self, model: Artefact) -> Kind:
        with LOADING:
            return self.load(model)
