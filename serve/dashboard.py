"""The figures of the dashboard: what the votes say, and how the server does."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from rlhf_ray.evaluation.votes import facts_of
from rlhf_ray.feedback.reader import Reader

from serve.artefact import REWARD
from serve.asking import SIDES
from serve.completions import Speaker
from serve.keeping import looked_up
from serve.latency import Latency
from serve.orders import Load
from serve.versions import Versions

Facts = dict[str, Any]
SHORT_S, PAUSES = 0.2, 10  # after a count that takes longer, the next one waits for ten times as long


@dataclass(frozen=True)
class Counted:
    """What the votes said when the ledger was in that state. It is good until then, whatever comes in."""

    state: Any
    facts: Facts
    until: float


class Dashboard:
    """Votes are counted again when there are new ones, beside the loop, and once however many ask meanwhile.

    The reader is its own: a long count keeps no vote waiting.
    """

    def __init__(self, reader: Reader, speakers: Mapping[str, Speaker], versions: Versions, latency: Latency) -> None:
        self.reader, self.speakers, self.versions, self.latency = reader, speakers, versions, latency
        self.counting = asyncio.Lock()
        self.counted = Counted(None, {}, 0)

    async def figures(self) -> Facts:
        """Raises Refused where the ledger cannot be read."""
        async with self.counting:
            self.counted = await looked_up(self._count, self.counted)
        return {"object": "dashboard", "time": datetime.now(UTC).isoformat()} | self.counted.facts | await self._now()

    def _count(self, before: Counted) -> Counted:
        begin, reward = monotonic(), self.versions.now().get(REWARD)
        judge = reward.version if reward else ""
        if begin < before.until or (state := (judge, self.reader.state())) == before.state:
            return before
        facts = facts_of(self.reader.live_facts(), judge, SIDES)
        took = monotonic() - begin
        return Counted(state, facts, monotonic() + PAUSES * took if took > SHORT_S else 0)

    async def _now(self) -> Facts:
        loads = await asyncio.gather(*(speaker.load() for speaker in self.speakers.values()))
        models = [
            {"model": name} | vars(load)
            for name, load in zip(self.speakers, loads, strict=True)
            if isinstance(load, Load)
        ]
        counts = {"requests": self.latency.requests, "refused": self.latency.refused}
        return {"latency": self.latency.by_door(), "load": counts | {"models": models}}
