"""A generator or reward model in other processes, of which any may die: the next gives the answer it would have given.

The same seed gives the same answer, so a call is asked again, and a stream goes on where it broke off.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from serve.artefact import Artefact
from serve.fullness import Fullness
from serve.heard import Heard
from serve.orders import Answer, Load, Order, Refusal
from serve.verdicts import Pair

BUSY = Refusal(429, "as many wait as may wait; try again later")
GONE = Refusal(503, "nobody is there who could answer; try again later")
TRIES = 4  # processes that may die under one request
REHEARSAL_S = 900.0  # to load a model and try it; whoever asked may have less patience


class Remote:
    """What its queue has no room for is refused."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self.handle, self.streams = handle, handle.options(stream=True)
        self.fullness = Fullness()

    def about(self) -> Awaitable[Artefact]:
        return self.handle.about.remote()

    async def load(self) -> Load | Refusal:
        """Of one of the processes."""
        return await self._ask(lambda: self.handle.load.remote())

    async def complete(self, order: Order) -> Answer | Refusal:
        if not self.fullness.has_room(order.samples):
            return BUSY
        with self.fullness.under(order.samples) as together:
            answer = await self._ask(lambda: self.handle.complete.remote(order))
        return self._noted(answer, together)

    async def judge(self, model: Artefact, pairs: Sequence[Pair]) -> Any:
        verdicts = await self._ask(lambda: self.handle.judge.remote(model, list(pairs)))
        return [verdicts] * len(pairs) if isinstance(verdicts, Refusal) else verdicts

    async def rehearse(self, model: Artefact, rollouts: Sequence[Pair]) -> list[str]:
        """What each process finds wrong with a version when it has loaded and tried it; empty where nothing is."""
        asked = self.handle.broadcast("rehearse", model, list(rollouts))
        try:
            found = await asked.results_async(timeout_s=REHEARSAL_S, return_exceptions=True)
        except (TimeoutError, DeploymentUnavailableError):
            return [f"expected every replica to have tried it within {REHEARSAL_S:g} s, but not all have"]
        return [each if isinstance(each, str) else "a replica died while it tried it" for each in found]

    async def stream(self, order: Order) -> AsyncIterator[Answer | Refusal]:
        if not self.fullness.has_room(order.samples):
            yield BUSY
            return
        with self.fullness.under(order.samples) as together:
            async with aclosing(self._pieces(order)) as pieces:
                async for answer in pieces:
                    yield self._noted(answer, together)

    async def _pieces(self, order: Order) -> AsyncGenerator[Answer | Refusal, None]:
        heard = Heard()
        for _ in range(TRIES):
            try:
                async for answer in self.streams.stream.remote(order):
                    if isinstance(answer, Refusal):
                        yield answer
                    elif fresh := [said for each in answer.said if (said := heard.fresh(each))]:
                        yield replace(answer, said=fresh)
                return
            except BackPressureError:
                yield BUSY
                return
            except RayActorError:
                heard.begin_again()
            except DeploymentUnavailableError:
                break
        yield GONE

    def _noted(self, answer: Any, together: int) -> Any:
        if isinstance(answer, Refusal) and answer.status == 429:
            self.fullness.refused(together)
        return answer

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        for _ in range(TRIES):
            try:
                return await call()
            except BackPressureError:
                return BUSY
            except RayActorError:
                continue
            except DeploymentUnavailableError:
                break
        return GONE
