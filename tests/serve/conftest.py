"""The doors over a real engine and a real reward model, in one process: no Ray."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from serve.artefact import Artefact, artefact
from serve.doors import Government, doors
from serve.generation import Generation
from serve.generator import Generator
from serve.promotion import Promotion
from serve.reward import Judging, Reward
from serve.verdicts import Pair
from serve.versions import Versions

GENERATION = Generation(slots=8, prompt_tokens=32, response_tokens=24, queue=4)
JUDGING = Judging(most_tokens=60, rows=8)


class Near:
    """A reward model in this process, asked as one elsewhere is."""

    def __init__(self, reward: Reward) -> None:
        self.reward = reward

    async def judge(self, model: Artefact, pairs: list[Pair]) -> list[Any]:
        return self.reward.judge(pairs)


class Counted:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def __call__(self, door: str, status: int, seconds: float) -> None:
        self.seen.append((door, status))


@pytest.fixture(scope="session")
def reading_reward_folder(reward_folder: str, policy_folder: str) -> str:
    """A reward model with the tokenizer that it reads by."""
    from rlhf_ray.models.loading import load_tokenizer

    load_tokenizer(policy_folder).save_pretrained(reward_folder)
    return reward_folder


@pytest.fixture(scope="session")
def reward(reading_reward_folder: str) -> Reward:
    return Reward(artefact("reward", reading_reward_folder), JUDGING)


@pytest.fixture(scope="session")
def generator(policy_folder: str) -> Iterator[Generator]:
    generator = Generator(artefact("tuned", policy_folder), GENERATION)
    yield generator
    generator.engine.close()


def application(generator: Generator, reward: Reward | None, **more: Any) -> Any:
    """The doors of generators and a reward model, of each of which there is one version."""

    async def unwell(model: Artefact, rollouts: list[Pair]) -> list[str]:
        return ["nothing can be promoted here"]

    speakers = more.pop("speakers", {"tuned": generator})
    models = {name: speaker.about() for name, speaker in speakers.items()}
    versions = Versions(models | ({"reward": reward.about()} if reward else {}))
    govern = Government(Promotion(versions, Path(), list(versions.first), unwell), nobody)
    return opened(speakers, Near(reward) if reward else None, versions, **{"govern": govern} | more)


def opened(speakers: Any, judge: Any, versions: Versions, **more: Any) -> Any:
    async def ready() -> bool:
        return True

    settings = {"split": {}, "is_ready": ready, "keys": None, "ledger": None, "timeout_s": 60, "count": Counted()}
    settings["most_samples"] = GENERATION.room
    return doors(speakers, judge, versions, **settings | more)


async def nobody() -> list[dict[str, Any]]:
    """No processes."""
    return []


def local(app: Any) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1), raise_server_exceptions=False)


@pytest.fixture(scope="session")
def web(generator: Generator, reward: Reward) -> Iterator[TestClient]:
    with local(application(generator, reward)) as client:
        yield client
