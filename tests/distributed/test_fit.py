"""Ray Train, real: what a worker must not go on after reaches the door as it was raised, and once."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import torch
from safetensors.torch import load_file
from torch import Tensor

from rlhf_ray.alarm import Alarm, Tripped
from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import Row
from rlhf_ray.distributed.fit import fit
from rlhf_ray.experience import Metrics
from rlhf_ray.models.loading import load_tokenizer
from rlhf_ray.models.scalar import Scalar
from rlhf_ray.runs import RunConfig
from rlhf_ray.training.reward import RewardTraining, raw_scores, train_reward
from rlhf_ray.training.savepoints import Savepoints

ONE_THREAD = RunConfig.model_validate({"cluster": {"threads_each": 1}})


@pytest.fixture(scope="module", autouse=True)
def ray_ends():
    yield
    ray.shutdown()


@pytest.mark.parametrize(
    "mistake",
    [BadInput("lora.targets: expected others"), Tripped(Alarm("loss", "it is nan", "a large step", "a smaller one"))],
    ids=["bad input", "tripped"],
)
def test_a_mistake_inside_the_training_is_raised_as_it_is(tmp_path: Path, mistake: Exception) -> None:
    calls = tmp_path / "calls"

    def work(folder: str, savepoints: Savepoints) -> None:
        with open(calls, "a", encoding="utf-8") as file:
            file.write("called\n")
        raise mistake

    place = tmp_path / "stage"
    place.mkdir()
    with pytest.raises(type(mistake)) as raised:
        fit(work, {}, ONE_THREAD, place)
    assert str(raised.value) == str(mistake)
    assert calls.read_text(encoding="utf-8") == "called\n"
    assert not any(path.is_file() for path in tmp_path.rglob("*") if path != calls)


def test_what_the_work_writes_comes_to_the_folder(tmp_path: Path) -> None:
    def work(text: str, folder: str, savepoints: Savepoints) -> None:
        Path(folder, "model").write_text(text, encoding="utf-8")

    folder = tmp_path / "stage"
    fit(work, {"text": "weights"}, ONE_THREAD, folder)
    assert [path.name for path in folder.iterdir()] == ["model"]
    assert (folder / "model").read_text(encoding="utf-8") == "weights"


# Whole trainings, of a reward model.

WORDS = [
    "the quick brown fox",
    "the lazy dog",
    "my box",
    "daft zebras jump",
    "five dozen",
    "liquor jugs",
    "pack",
    "how",
]
THUMBS = [
    {"prompt": prompt, "completion": text, "label": number % 2 == 0}
    for prompt in WORDS
    for number, text in enumerate(WORDS)
]


def reward_arguments(backbone: str, report: Callable[[int, int, Metrics], None]) -> Row:
    return {
        "backbone": backbone,
        "thumbs": THUMBS,
        "pairs": [{"prompt": text, "chosen": "jumps", "rejected": "over", "margin": 0.0} for text in WORDS],
        "samples": THUMBS[:8],
        "training": RewardTraining(epochs=20, batch=8, lr=1e-3, most_tokens=64),
        "lora": None,
        "seed": 3,
        "report": report,
    }


def scores_of(folder: Path) -> Tensor:
    return raw_scores(Scalar.load(str(folder)), load_tokenizer(str(folder)), THUMBS, most_tokens=64)


@pytest.fixture(scope="module")
def undisturbed(policy_folder: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The weights of a training without a cluster."""
    folder = tmp_path_factory.mktemp("undisturbed")
    train_reward(**reward_arguments(policy_folder, lambda *said: None), folder=str(folder))
    return load_file(folder / "model.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("deaths", [1, 4], ids=["a worker", "the whole job"])
def test_a_training_whose_workers_are_killed_ends_with_the_same_bits(
    deaths: int, policy_folder: str, undisturbed: dict[str, Tensor], tmp_path: Path
) -> None:
    """More deaths than Ray Train forgives end the job; who runs it again, goes on."""
    places, killed_at = tmp_path / "steps", list(range(100, 180, 20))[:deaths]

    def report(step: int, of: int, metrics: Metrics) -> None:
        with open(places, "a", encoding="utf-8") as file:
            file.write(f"{step}\n")
        said = places.read_text(encoding="utf-8").split()
        if step in killed_at and said.count(str(step)) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    arguments, folder = reward_arguments(policy_folder, report), tmp_path / "stage"
    for _ in range(deaths // 3):
        with pytest.raises(Exception, match=r"(?i)worker|train"):
            fit(train_reward, arguments, ONE_THREAD, folder)
    fit(train_reward, arguments, ONE_THREAD, folder)
    found = load_file(folder / "model.safetensors")
    assert all(torch.equal(undisturbed[name], found[name]) for name in undisturbed)
    said = places.read_text(encoding="utf-8").split()
    assert said.count("10") == 1  # it never began anew
    assert not any("optimizer" in path.name for path in folder.rglob("*"))
    fit(train_reward, arguments, ONE_THREAD, tmp_path / "once-more")  # as if killed before the stage was published
    assert places.read_text(encoding="utf-8").split() == said
    assert (tmp_path / "once-more" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_together_do_what_one_does(policy_folder: str, tmp_path: Path) -> None:
    """Each reads half of every batch; without dropout the scores are the same, but for rounding."""
    backbone = shutil.copytree(policy_folder, tmp_path / "backbone")
    config = json.loads((backbone / "config.json").read_text(encoding="utf-8"))
    config |= {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    (backbone / "config.json").write_text(json.dumps(config), encoding="utf-8")
    arguments = reward_arguments(str(backbone), lambda *said: None)
    arguments |= {"training": RewardTraining(epochs=2, batch=8, lr=1e-3, most_tokens=64)}
    train_reward(**arguments, folder=str(tmp_path / "one"))
    two = RunConfig.model_validate({"cluster": {"threads_each": 1, "learners": 2}})
    fit(train_reward, arguments, two, tmp_path / "stage")
    one, both = (scores_of(tmp_path / name) for name in ("one", "stage"))
    torch.testing.assert_close(both, one, rtol=0, atol=0.01 * one.std().item())
