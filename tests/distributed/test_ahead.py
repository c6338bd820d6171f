"""Real actors that speak while others learn: on seats of their own, at the same time, and with the same bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from rlhf_ray.config import BadInput
from rlhf_ray.data.prompts import PromptStream
from rlhf_ray.distributed.groups import Begun
from rlhf_ray.distributed.recovery import insist
from rlhf_ray.distributed.team import assemble
from rlhf_ray.experience import ScoredRollout
from rlhf_ray.models.loading import load_tokenizer
from rlhf_ray.runs import RunConfig
from rlhf_ray.training.ahead import Promise
from rlhf_ray.training.checkpoint import Checkpoints
from rlhf_ray.training.ppo import train

TEXTS = ["the quick brown fox", "pack my box", "how vexingly quick", "five dozen liquor jugs", "daft zebras", "dog."]
STEPS = 4


@pytest.fixture(scope="module", autouse=True)
def ray_connection():
    ray.init(num_cpus=4, logging_level="warning")  # four seats of one thread, also where there are two cores
    yield
    ray.shutdown()


def config_of(**cluster: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "seed": 3,
            "sampling": {"prompt_tokens": 24, "response_tokens": 8, "rows": 4},
            "scoring": {"rows": 4},
            "learning": {"minibatch": 8},
            "ppo": {"steps": STEPS, "episodes": 16, "lead": 1},
            "cluster": "none" if cluster == {"none": True} else {"threads_each": 1, "deadline_s": 120} | cluster,
        }
    )


class Rehearsal:
    """A run on a team; `disturb` gets the step, the workers and how often it was begun, before each checkpoint."""

    def __init__(self, policy: str, reward: str, folder: Path) -> None:
        self.policy, self.reward, self.folder = policy, reward, folder
        self.attempts: list[int] = []
        self.disturb: Callable[[int, tuple[Any, Any, Any], int], None] = lambda step, workers, attempt: None
        self.change: Callable[[tuple[Any, Any, Any]], tuple[Any, Any, Any]] = lambda workers: workers

    def run(self, config: RunConfig) -> dict[int, dict[str, float]]:
        stream = PromptStream(TEXTS, load_tokenizer(self.policy), size=16, width=24, seed=config.seed)
        checkpoints, said = Checkpoints(self.folder, every=1), {}

        def attempt() -> None:
            with assemble(config) as team:
                torch.set_num_threads(1)  # as each actor has: sums over two are not the same bits every time
                learner = team.learner(self.policy, self.reward)
                workers = team.sampler(self.policy), team.scorer(self.reward, self.policy), learner
                begin = checkpoints.restore(learner)
                self.attempts.append(begin.step if begin else 0)

                def report(step: int, scored: ScoredRollout, metrics: dict[str, float]) -> bool:
                    said[step] = metrics
                    self.disturb(step, workers, len(self.attempts))
                    return True

                train(*self.change(workers), stream, config.ppo, config.returns, report, checkpoints, begin)

        insist(attempt, progress=checkpoints.newest_step)
        return said


@pytest.fixture
def new_rehearsal(policy_folder: str, reward_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    return lambda: Rehearsal(policy_folder, reward_folder, tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def alone(
    policy_folder: str, reward_folder: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, dict[str, float]]:
    """What plain workers in this process say of every step."""
    return Rehearsal(policy_folder, reward_folder, tmp_path_factory.mktemp("alone")).run(config_of(none=True))


def test_a_group_ahead_is_the_worker_itself_and_learns_where_nobody_speaks(new_rehearsal, alone):
    assert [metrics["rollout/lag"] for metrics in alone.values()] == [0, 1, 1, 1]
    rehearsal, seats = new_rehearsal(), []

    def ask(workers: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        asked = [actor.__ray_call__.remote(seat_of) for group in workers for actor in group.actors]
        seats.extend(ray.get(asked, timeout=120))
        return workers

    rehearsal.change = ask
    assert rehearsal.run(config_of(samplers=2)) == alone
    assert seats == [0, 1, 0, 2]


@pytest.mark.slow
def test_parts_of_all_sizes_find_their_scorers(new_rehearsal, alone):
    assert new_rehearsal().run(config_of(samplers=3, scorers=2)) == alone


def test_the_next_rollout_is_there_before_the_learner_has_improved(new_rehearsal):
    """The learner does not even begin before the next rollout is judged: it would wait in vain, took they turns."""
    rehearsal, seen = new_rehearsal(), []

    class Watched:
        def __init__(self, scorer: Any) -> None:
            self.scorer, self.newest = scorer, None

        def score(self, rollout: Any) -> ScoredRollout:
            return self.scorer.score(rollout)

        def begin(self, rollout: Begun) -> Promise[ScoredRollout]:
            self.newest = self.scorer.begin(rollout)
            return self.newest

    class Patient:
        def __init__(self, learner: Any, scorer: Watched) -> None:
            self.learner, self.scorer = learner, scorer

        def __getattr__(self, name: str) -> Any:
            return getattr(self.learner, name)

        def update(self, *arguments: Any) -> Any:
            done, waiting = ray.wait(list(self.scorer.newest.calls), num_returns=1, timeout=60)
            seen.append((len(done), len(waiting)))
            return self.learner.update(*arguments)

    def change(workers: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        sampler, scorer, learner = workers
        watched = Watched(scorer)
        return sampler, watched, Patient(learner, watched)

    rehearsal.change = change
    rehearsal.run(config_of())
    assert seen == [(1, 0)] * STEPS


def test_where_nobody_learns_all_seats_speak(policy_folder):
    with assemble(config_of(), learns=False) as team:
        assert len(team.sampler(policy_folder).actors) == 2


@pytest.mark.parametrize(
    ("cluster", "shared"),
    [({"threads_each": 4}, [{0, 1, 2}]), ({"samplers": 4}, [{0}, {1}, {2}, {3}, {4}, {5}])],
    ids=["a learner on every seat", "seats without a learner"],
)
def test_where_there_is_no_room_they_take_turns_unless_others_speak_meanwhile(new_rehearsal, alone, cluster, shared):
    """By their numbers, samplers first and the learner last: who shares a process."""
    rehearsal, processes = new_rehearsal(), []

    def ask(workers: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        asked = [actor.__ray_call__.remote(process_of) for group in workers for actor in group.actors]
        processes.extend(ray.get(asked, timeout=120))
        return workers

    rehearsal.change = ask
    said = rehearsal.run(config_of(**cluster))
    found = [{place for place, other in enumerate(processes) if other == one} for one in dict.fromkeys(processes)]
    assert found == shared
    if cluster.get("threads_each", 1) == 1:  # sums over several threads are not the same bits
        assert said == alone
    assert [metrics["rollout/lag"] for metrics in said.values()] == [0, 1, 1, 1]


def test_that_they_have_no_room_together_either_is_said_before_anything_starts():
    config = config_of(threads_each=8)
    with (
        pytest.raises(BadInput, match=r"cluster: need 16 CPUs \(2 seat\(s\) with threads_each=8\), have 4"),
        assemble(config_of(samplers=2, threads_each=8)),
    ):
        pass
    with (
        pytest.raises(BadInput, match=r"cluster: need 8 CPUs \(1 seat\(s\) with threads_each=8\), have 4"),
        assemble(config),
    ):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3])
def test_a_learner_that_dies_while_others_speak_goes_on_with_the_same_bits(new_rehearsal, alone, step):
    rehearsal = new_rehearsal()

    def kill(at: int, workers: tuple[Any, Any, Any], attempt: int) -> None:
        if at == step and attempt == 1:
            ray.kill(workers[2].actors[0])

    rehearsal.disturb = kill
    assert rehearsal.run(config_of()) == alone
    assert rehearsal.attempts == [0, step - 1]


def test_a_sampler_and_a_scorer_killed_with_the_next_rollout_in_hand_begin_it_again(new_rehearsal, alone):
    rehearsal = new_rehearsal()

    def kill(at: int, workers: tuple[Any, Any, Any], attempt: int) -> None:
        if at < STEPS:
            ray.kill(workers[at % 2].actors[0], no_restart=False)

    rehearsal.disturb = kill
    assert rehearsal.run(config_of()) == alone
    assert rehearsal.attempts == [0]


def process_of(worker: Any) -> int:
    import os

    return os.getpid()


def seat_of(worker: Any) -> int:
    """The place of the actor's bundle in its placement group, by what the actor was given."""
    from ray._private.worker import global_worker

    given = global_worker.core_worker.resource_ids()
    (place,) = {name.split("_")[2] for name in given if name.startswith("CPU_group_") and name.count("_") == 3}
    return int(place)
