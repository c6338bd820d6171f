"""Real actors on a local Ray: a group does what its worker does, and the cluster's limits are said at once."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import torch

from rlhf_ray.config import BadInput
from rlhf_ray.data.prompts import PromptStream
from rlhf_ray.distributed.connection import ActorLost, NoAnswer, check_address, connect, wait_for
from rlhf_ray.distributed.groups import Begun
from rlhf_ray.distributed.recovery import insist
from rlhf_ray.distributed.team import assemble
from rlhf_ray.experience import ScoredRollout
from rlhf_ray.models.loading import load_tokenizer
from rlhf_ray.runs import RunConfig
from rlhf_ray.training.checkpoint import Checkpoints
from rlhf_ray.training.ppo import train
from rlhf_ray.weights import pack

PROMPTS = ["the quick brown fox", "pack my box", "how vexingly quick", "five dozen liquor jugs", "daft zebras", "dog."]


@pytest.fixture(scope="module", autouse=True)
def ray_connection():
    connect()
    yield
    ray.shutdown()


def process_of(worker: object) -> int:
    import os

    return os.getpid()


def processes_of(*groups) -> set[int]:
    asked = [actor.__ray_call__.remote(process_of) for group in groups for actor in group.actors]
    return set(wait_for(asked, "process_of", 120))


def config_of(**cluster) -> RunConfig:
    return RunConfig.model_validate(
        {
            "seed": 3,
            "sampling": {"prompt_tokens": 24, "response_tokens": 8, "rows": 4},
            "scoring": {"rows": 4},
            "learning": {"minibatch": 8},
            "ppo": {"steps": 2, "episodes": 16},
            "cluster": {"threads_each": 1, "deadline_s": 120} | cluster if cluster != {"none": True} else "none",
        }
    )


@pytest.fixture
def metrics_of(tmp_path_factory) -> Callable:
    def metrics_of(config: RunConfig, policy: str, reward: str) -> list[dict[str, float]]:
        return learn(config, policy, reward, tmp_path_factory.mktemp("checkpoints"))

    return metrics_of


def learn(config: RunConfig, policy: str, reward: str, folder: Path) -> list[dict[str, float]]:
    stream = PromptStream(PROMPTS, load_tokenizer(policy), size=16, width=24, seed=config.seed)
    said: list[dict[str, float]] = []
    with assemble(config) as team:
        torch.set_num_threads(1)  # as each actor has: sums over two threads are not the same bits every time
        workers = team.sampler(policy), team.scorer(reward, policy), team.learner(policy, reward)
        checkpoints = Checkpoints(folder, every=1)

        def report(step: int, scored: ScoredRollout, metrics: dict[str, float]) -> bool:
            said.append(metrics)
            return True

        train(*workers, stream, config.ppo, config.returns, report, checkpoints)
    return said


def differences(one: list[dict[str, float]], other: list[dict[str, float]]) -> dict[tuple[int, str], tuple]:
    """By step and name, the metrics that are not the same float for float."""
    assert len(one) == len(other)
    pairs = [
        (step, name, a[name], b.get(name)) for step, (a, b) in enumerate(zip(one, other, strict=True)) for name in a
    ]
    return {(step, name): (a, b) for step, name, a, b in pairs if a != b}


def test_a_group_of_one_is_the_worker_itself(metrics_of, policy_folder, reward_folder):
    alone = metrics_of(config_of(none=True), policy_folder, reward_folder)
    group = metrics_of(config_of(), policy_folder, reward_folder)
    assert differences(alone, group) == {}


def test_the_number_of_actors_changes_who_computes_never_what(metrics_of, policy_folder, reward_folder):
    one = metrics_of(config_of(), policy_folder, reward_folder)
    two = metrics_of(config_of(samplers=2, scorers=2), policy_folder, reward_folder)
    assert differences(one, two) == {}


@pytest.mark.parametrize("weights", ["store", pytest.param("collective", marks=pytest.mark.slow)])
def test_killed_workers_come_back_and_say_the_same(weights, policy_folder, reward_folder):
    """In a process with others, and each in one of its own."""
    stream = PromptStream(PROMPTS, load_tokenizer(policy_folder), size=16, width=24, seed=0)
    from rlhf_ray.models.loading import load_causal

    packed = pack(load_causal(policy_folder).parameters(), version=0)
    with assemble(config_of(weights=weights), learns=False) as team:
        sampler, scorer = team.sampler(policy_folder), team.scorer(reward_folder, policy_folder)

        def say() -> ScoredRollout:
            return scorer.score(sampler.generate(stream.batch(0), packed, seed=1))

        before, processes = say(), processes_of(sampler, scorer)
        for actor in team.actors:
            ray.kill(actor, no_restart=False)
        while processes & (others := processes_of(sampler, scorer)):
            time.sleep(0.1)  # Ray kills when it gets to it
        after = say()
    assert len(processes) == len(others) == (1 if weights == "store" else 2)
    assert torch.equal(before.rollout.tokens, after.rollout.tokens)
    assert torch.equal(before.rollout.logprobs, after.rollout.logprobs)
    assert torch.equal(before.score, after.score)


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ({"samplers": 300}, r"cluster: need 300 CPUs \(300 seat\(s\) with threads_each=1\), have \d+"),
        ({"gpus_each": 7}, r"cluster: need 7 GPUs \(1 seat\(s\) with gpus_each=7\), have \d+"),
    ],
)
def test_a_cluster_that_is_too_small_is_said_before_anything_starts(cluster, said):
    with pytest.raises(BadInput, match=said), assemble(config_of(**cluster)):
        pass


def test_a_wait_ends_and_says_whom_it_waited_for():
    @ray.remote(num_cpus=0)
    def slow():
        import time

        time.sleep(30)

    ref = slow.remote()
    with pytest.raises(NoAnswer, match=r"the slow one: no answer within 0.5 s\..* raise cluster.deadline_s"):
        wait_for([ref], "the slow one", 0.5)
    ray.cancel(ref, force=True)


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [("raise", FloatingPointError, "nan"), ("wait", NoAnswer, "sampler: no answer"), ("die", ActorLost, "sampler: ")],
)
def test_who_judges_what_another_failed_to_say_is_not_blamed(what, error, said):
    class Speaker:
        def speak(self, what):
            import os
            import time

            if what == "raise":
                raise FloatingPointError("nan")
            time.sleep(30) if what == "wait" else os._exit(1)

    kind = ray.remote(num_cpus=0)(Speaker)
    speakers = [kind.remote(), kind.remote()]
    spoken = [speakers[0].speak.remote(what), speakers[1].speak.remote("wait")]
    judged = [ray.remote(num_cpus=0)(lambda said: said).remote(each) for each in spoken]
    parts, begin = [range(1), range(1, 2)], time.monotonic()
    with pytest.raises(error, match=said):
        Begun(judged, parts, "scorer", 8, of=Begun(spoken, parts, "sampler", 8)).result()
    assert time.monotonic() - begin < 8 or what == "wait", "nobody waits for the other one"
    for speaker in speakers:
        ray.kill(speaker)


def test_what_a_worker_raises_arrives_as_it_is(metrics_of, policy_folder, tmp_path):
    from transformers import GPT2ForSequenceClassification

    broken = GPT2ForSequenceClassification.from_pretrained(policy_folder, num_labels=1)
    torch.nn.init.constant_(broken.score.weight, float("nan"))
    broken.config.score_mean, broken.config.score_std = 0.0, 1.0
    broken.save_pretrained(tmp_path)
    with pytest.raises(FloatingPointError, match="score at step 1: the reward 'model' gave nan for sample 0"):
        metrics_of(config_of(), policy_folder, str(tmp_path))


@pytest.mark.slow
def test_a_run_whose_learner_dies_goes_on_from_its_checkpoint_and_ends_the_same(
    metrics_of, policy_folder, reward_folder, tmp_path
):
    config = config_of()
    undisturbed = metrics_of(config, policy_folder, reward_folder)
    stream = PromptStream(PROMPTS, load_tokenizer(policy_folder), size=16, width=24, seed=config.seed)
    said: dict[int, dict[str, float]] = {}
    attempts = []

    def attempt() -> None:
        with assemble(config) as team:
            learner = team.learner(policy_folder, reward_folder)
            checkpoints = Checkpoints(tmp_path, every=1)
            begin = checkpoints.restore(learner)
            attempts.append(begin.step if begin else 0)

            def report(step: int, scored: ScoredRollout, metrics: dict[str, float]) -> bool:
                said[step] = metrics
                if step == 2 and len(attempts) == 1:
                    ray.kill(learner.actors[0].actor)
                return True

            workers = team.sampler(policy_folder), team.scorer(reward_folder, policy_folder), learner
            train(*workers, stream, config.ppo, config.returns, report, checkpoints, begin)

    insist(attempt, progress=Checkpoints(tmp_path, every=1).newest_step)
    assert attempts == [0, 1]
    assert list(said.values()) == undisturbed


@pytest.mark.parametrize(("steps", "times"), [([0] * 9, 3), ([0, 0, 5, 5, 5, 5], 4), ([0, 1, 2, 3, 4, 4, 4], 6)])
def test_who_loses_an_actor_again_and_again_without_progress_gives_up(steps, times):
    attempts, reached = [], iter(steps)

    def lose() -> None:
        attempts.append(1)
        raise ActorLost("learner.update: the actor died")

    with pytest.raises(ActorLost, match=r"learner\.update"):
        insist(lose, progress=lambda: next(reached), attempts=3)
    assert len(attempts) == times


def test_an_actor_that_cannot_start_is_no_lost_one(policy_folder, tmp_path):
    config = config_of(weights="collective")  # each worker is an actor of its own
    with assemble(config, learns=False) as team, pytest.raises(RuntimeError, match="could not start") as error:
        (actor,) = team.scorer(str(tmp_path), policy_folder).actors
        wait_for([actor.__ray_call__.remote(process_of)], "scorer", 120)
    assert not isinstance(error.value, ActorLost)
    assert "expected a model folder with config.json, found none" in str(error.value)


def test_workers_that_take_turns_are_one_process_and_each_says_why_it_cannot_start(
    policy_folder, reward_folder, tmp_path
):
    with assemble(config_of(samplers=2)) as team:
        learner = team.learner(policy_folder, None)
        groups = team.sampler(policy_folder), team.scorer(reward_folder, policy_folder), learner
        asked = [actor.__ray_call__.remote(process_of) for group in groups for actor in group.actors]
        speaks, speaks_alone, judges, learns = ray.get(asked, timeout=120)
        assert speaks == judges == learns != speaks_alone
        broken = team.learner(str(tmp_path), None)
        with pytest.raises(BadInput, match=r"expected a model folder with config.json, found none"):
            broken.version()


def test_a_cluster_where_nobody_listens_is_named_at_once():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(BadInput, match=rf"RAY_ADDRESS: expected a cluster that answers at 127.0.0.1:{port}, got: "):
        check_address(f"127.0.0.1:{port}")
    for address in ("", "auto", "local"):
        check_address(address)
