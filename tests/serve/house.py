"""What Ray Serve would run, in one process: real models of finished runs, and a real file of versions."""

from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from rlhf_ray.config import check
from tests.serve.conftest import GENERATION, JUDGING, local, nobody, opened

from serve.app import Serving, gold_of, versions_of
from serve.artefact import Artefact
from serve.doors import Government
from serve.generators import Generators
from serve.promotion import Promotion
from serve.reward_replica import RewardReplica
from serve.verdicts import Pair


def serving(runs: Path, file: Path | str, run: str = "run-1", **more: Any) -> Serving:
    args = {"run": str(runs / run), "runs": str(runs), "versions": str(file), "generation": GENERATION.model_dump()}
    return check(Serving, args | {"judging": JUDGING.model_dump()} | more, "args")


class House:
    """What Ray Serve would run, in one process: two generators, a reward model's replica, and the doors."""

    def __init__(self, config: Serving) -> None:
        self.versions = versions_of(config)
        self.replicas: dict[str, Any] = {
            name: Generators(name, self.versions, config.generation) for name in ("tuned", "sft")
        }
        self.judge = RewardReplica(self.versions, config.judging, 1)
        self.gold = gold_of(config, self.versions)
        self.promotion = Promotion(self.versions, Path(config.runs), ["tuned", "reward"], self.rehearse, self.weigh)
        self.config = config

    async def rehearse(self, model: Artefact, rollouts: list[Pair]) -> list[str]:
        replica = self.judge if model.name == "reward" else self.replicas[model.name]
        return [await replica.rehearse(model, rollouts)]

    async def weigh(self, model: Artefact, served: Artefact) -> str:
        return await self.gold.complaint(Unbatched(self.judge), model, served)

    def application(self, **more: Any) -> Any:
        govern = Government(self.promotion, nobody)
        return opened(self.replicas, Unbatched(self.judge), self.versions, **{"govern": govern} | more)

    def doors(self, **more: Any) -> TestClient:
        return local(self.application(**more))

    def close(self) -> None:
        for replica in self.replicas.values():
            replica.shelf.close()


class Unbatched:
    """A reward model's replica, each of whose callers is answered alone: Ray Serve's batches want Ray Serve."""

    def __init__(self, replica: RewardReplica) -> None:
        self.replica = replica

    async def judge(self, model: Artefact, pairs: list[Pair]) -> list[Any]:
        return (await self.replica.shelf.take(model)).judge(pairs)
