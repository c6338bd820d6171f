"""A reward model as a deployment: what Ray Serve adds is batching, health, metrics and the way between processes."""

import asyncio
from collections.abc import Sequence
from typing import Any

import torch
from ray import serve

from serve.artefact import REWARD, Artefact
from serve.metrics import Verdicts
from serve.orders import Refusal
from serve.rehearsal import mistakes, try_reward
from serve.reward import Judging, Reward
from serve.shelf import Shelf
from serve.verdicts import Pair, Verdict
from serve.versions import Versions


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
