"""The plain classes as deployments: what Ray Serve adds is batching, health, metrics and the way between processes."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import torch
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from rlhf_ray.feedback.ledger import Ledger

from serve.artefact import Artefact
from serve.doors import doors
from serve.engine import Generation
from serve.generator import Generator
from serve.keys import Keys, check_exposed
from serve.metrics import Requests, Speech, Verdicts
from serve.orders import Refusal
from serve.remote import Remote
from serve.reward import Judging, Pair, Reward, Verdict

READY_S = 5.0


class GeneratorReplica(Generator):
    """A generator that is counted."""

    def __init__(self, model: Artefact, config: Generation, threads: int) -> None:
        torch.set_num_threads(threads)
        super().__init__(model, config)
        self.speech = Speech(model.name)

    def check_health(self) -> None:
        super().check_health()
        self.speech.look(self.engine)

    def __del__(self) -> None:
        self.engine.close()


class RewardReplica:
    """A reward model that judges what comes close together in one go, beside the loop that takes it in."""

    def __init__(self, model: Artefact, config: Judging, threads: int) -> None:
        torch.set_num_threads(threads)
        self.reward, self.verdicts = Reward(model, config), Verdicts(model.name)

    def about(self) -> Artefact:
        return self.reward.about()

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.002)
    async def judge(self, asked: list[list[Pair]]) -> list[list[Verdict | Refusal]]:
        together = [pair for pairs in asked for pair in pairs]
        verdicts = iter(await asyncio.to_thread(self.reward.judge, together))
        self.verdicts(len(together))
        return [[next(verdicts) for _ in pairs] for pairs in asked]


@serve.ingress()
class Doors:
    """Where HTTP comes in. Refuses to start where others could reach it without a key."""

    def __init__(
        self,
        speakers: Mapping[str, DeploymentHandle],
        judge: DeploymentHandle | None,
        models: Mapping[str, Artefact],
        reward: Artefact | None,
        keys: str,
        ledger: str,
        compactor: DeploymentHandle | None,
        timeout_s: float,
    ) -> None:
        check_exposed(_get_global_client().http_config.host, keys)
        self.speakers = {name: Remote(handle) for name, handle in speakers.items()}
        self.judge = Remote(judge) if judge else None
        self.models, self.reward, self.timeout_s = models, reward, timeout_s
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
            self.models,
            reward=self.reward,
            is_ready=self.is_ready,
            keys=self.keys,
            ledger=self.ledger,
            timeout_s=self.timeout_s,
            count=Requests(),
        )

    async def is_ready(self) -> bool:
        everyone = [*self.speakers.values(), *([self.judge] if self.judge else [])]
        try:
            async with asyncio.timeout(READY_S):
                await asyncio.gather(*(each.about() for each in everyone))
        except (TimeoutError, BackPressureError, DeploymentUnavailableError, RayActorError):
            return False
        return True
