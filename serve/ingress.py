"""The doors as a deployment. It imports no model, so a replica of it is there in seconds, and takes little memory."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from rlhf_ray.feedback.ledger import Ledger

from serve.artefact import REWARD, Artefact
from serve.doors import Government, doors
from serve.gold import Gold
from serve.keys import Keys, check_exposed
from serve.metrics import Requests
from serve.processes import processes
from serve.promotion import Promotion
from serve.remote import Remote
from serve.verdicts import Pair
from serve.versions import Versions

READY_S = 5.0


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
        most_samples: int,
    ) -> None:
        check_exposed(_get_global_client().http_config.host, keys)
        self.speakers = {name: Remote(handle) for name, handle in speakers.items()}
        self.judge = Remote(judge) if judge else None
        self.versions, self.split = versions, split
        self.timeout_s, self.most_samples = timeout_s, most_samples
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
            most_samples=self.most_samples,
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
