"""The plain classes as deployments: what Ray Serve adds is batching, health, metrics and the way between processes."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from rlhf_ray.feedback.ledger import Ledger

from serve.artefact import REWARD, Artefact
from serve.doors import Government, doors
from serve.engine import Generation
from serve.generator import Generator
from serve.gold import Gold
from serve.keys import Keys, check_exposed
from serve.metrics import Requests, Speech, Verdicts
from serve.orders import Answer, Load, Order, Refusal
from serve.processes import processes
from serve.promotion import Promotion
from serve.rehearsal import mistakes, try_generator, try_reward
from serve.remote import Remote
from serve.reward import Judging, Pair, Reward, Verdict
from serve.shelf import Shelf
from serve.versions import Versions

READY_S = 5.0


class GeneratorReplica:
    """A generator in the versions that are asked for, counted as one."""

    def __init__(self, name: str, versions: Versions, config: Generation, threads: int) -> None:
        torch.set_num_threads(threads)
        self.name, self.versions, self.slots, self.speech = name, versions, config.slots, Speech(name)
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
        loads = [await generator.load() for generator in list(self.shelf.held.values())]
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
            served.check_health()
        self.speech.look([generator.engine for generator in self.shelf.held.values()])
        await self.shelf.keep(self.about().digest)

    def __del__(self) -> None:
        self.shelf.close()


class RewardReplica:
    """A reward model that judges what comes close together in one go, beside the loop that takes it in."""

    def __init__(self, versions: Versions, config: Judging, threads: int) -> None:
        torch.set_num_threads(threads)
        self.versions, self.verdicts = versions, Verdicts(REWARD)
        self.shelf = Shelf(lambda model: Reward(model, config))
        self.shelf.put(self.about())

    def about(self) -> Artefact:
        return self.versions.now()[REWARD]

    async def judge(self, model: Artefact, pairs: list[Pair]) -> list[Verdict | Refusal]:
        return await self._together((await self.shelf.take(model), pairs))

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.002)
    async def _together(self, asked: list[tuple[Reward, list[Pair]]]) -> list[list[Verdict | Refusal]]:
        verdicts: dict[Reward, Any] = {}
        for reward in {reward for reward, _ in asked}:
            pairs = [pair for each, pairs in asked if each is reward for pair in pairs]
            verdicts[reward] = iter(await asyncio.to_thread(reward.judge, pairs))
            self.verdicts(len(pairs))
        return [[next(verdicts[reward]) for _ in pairs] for reward, pairs in asked]

    async def rehearse(self, model: Artefact, rollouts: Sequence[Pair]) -> str:
        """What is wrong with a version that is to be served; empty where nothing is, and then it is at hand."""
        with mistakes() as found:
            found.append(await asyncio.to_thread(try_reward, await self.shelf.take(model), rollouts))
        if found[0]:
            await self.shelf.keep(self.about().digest, linger_s=0)
        return found[0]

    async def check_health(self) -> None:
        """Versions that nobody needs are let go."""
        await self.shelf.keep(self.about().digest)


@serve.ingress()
class Doors:
    """Where HTTP comes in. Refuses to start where others could reach it without a key."""

    def __init__(
        self,
        speakers: Mapping[str, DeploymentHandle],
        judge: DeploymentHandle | None,
        versions: Versions,
        *,
        promoted: Sequence[str],
        runs: str,
        gold: Gold,
        split: Mapping[str, float],
        keys: str,
        ledger: str,
        compactor: DeploymentHandle | None,
        timeout_s: float,
    ) -> None:
        check_exposed(_get_global_client().http_config.host, keys)
        self.speakers = {name: Remote(handle) for name, handle in speakers.items()}
        self.judge = Remote(judge) if judge else None
        self.versions, self.split, self.timeout_s = versions, split, timeout_s
        self.gold = gold
        self.promotion = Promotion(versions, Path(runs), promoted, self.rehearse, self.weigh)
        self.keys = None if keys == "none" else Keys.read(Path(keys))
        self.ledger = None if ledger == "none" else Ledger.open(Path(ledger), "doors")
        self.compactor = compactor  # nobody asks it for anything, but Serve must have it

    def check_health(self) -> None:
        """Raises RuntimeError where nothing that is answered could be kept any more."""
        if self.ledger and not self.ledger.is_open():
            raise RuntimeError(f"{self.ledger.folder}: nobody writes the ledger")

    def __serve_build_asgi_app__(self) -> ASGIApp:  # Serve's name, called in the replica
        return doors(
            self.speakers,
            self.judge,
            self.versions,
            split=self.split,
            govern=Government(self.promotion, processes),
            is_ready=self.is_ready,
            keys=self.keys,
            ledger=self.ledger,
            timeout_s=self.timeout_s,
            count=Requests(),
        )

    async def rehearse(self, model: Artefact, rollouts: list[Pair]) -> list[str]:
        remote = self.judge if model.name == REWARD and self.judge else self.speakers[model.name]
        return await remote.rehearse(model, rollouts)

    async def weigh(self, model: Artefact, served: Artefact) -> str:
        return await self.gold.complaint(self.judge, model, served) if self.judge else ""

    async def is_ready(self) -> bool:
        everyone = [*self.speakers.values(), *([self.judge] if self.judge else [])]
        try:
            async with asyncio.timeout(READY_S):
                await asyncio.gather(*(each.about() for each in everyone))
        except (TimeoutError, BackPressureError, DeploymentUnavailableError, RayActorError):
            return False
        return True
