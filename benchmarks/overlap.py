"""Rollouts begun ahead against rollouts in turn, on two cores: `python benchmarks/overlap.py CONFIG [key=value …]`.

First stand-ins whose rollout and whose update cost the same, once as waiting and once as matrix products on one thread:
what the loop itself can bring. Then the real models: the shipped base, and a reward model made from it that nobody
trained, which costs what a trained one costs. There lead 0 has both cores in turn, or one alone; lead 1 has a core for
each side, or both in turn, too, where there is no room for seats of their own: with a worker of two threads for each
role, or with two of one thread. The leads take turns, A B A B; seconds are of the iterations after the second. It is
written to `benchmarks/results/overlap.md`. The default takes about a quarter of an hour.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import ray
import torch
from tables import head, line, write

from rlhf_ray.config import load
from rlhf_ray.data.prompts import PromptStream
from rlhf_ray.distributed.connection import connect
from rlhf_ray.distributed.groups import LearnerGroup, SamplerGroup, ScorerGroup
from rlhf_ray.distributed.team import assemble
from rlhf_ray.experience import Estimates, Experience, Metrics, PromptBatch, Rollout, ScoredRollout
from rlhf_ray.incidents.world import make_prompts
from rlhf_ray.models.folder import resolve
from rlhf_ray.models.loading import load_classifier, load_tokenizer
from rlhf_ray.runs import RunConfig
from rlhf_ray.training.assess import Returns
from rlhf_ray.training.checkpoint import Checkpoints
from rlhf_ray.training.ppo import PPO, train
from rlhf_ray.weights import LocalWeights, Weights, pack

COST = 0.5  # seconds of a stand-in's rollout, and of its update
STEPS, ROUNDS, WARM = 12, 2, 2
COLUMNS = ("workers", "lead 0, s an iteration", "lead 1, s an iteration", "times as fast")
ONE, TWO = "{threads_each: 2}", "{samplers: 2, scorers: 2, learners: 2, threads_each: 1}"  # workers of a role
SLIGHT = "{threads_each: 1}"
WAYS = {  # the cluster of either lead
    "workers of one thread, so that a second core is there for lead 1": (SLIGHT, SLIGHT),
    "a worker of two threads, no room for seats of their own": (ONE, ONE),
    "two workers of one thread, no room for seats of their own": (TWO, TWO),
}
Workers = tuple[Any, Any, Any]
Spend = Callable[[], None]


def wait() -> None:
    time.sleep(COST)


def work() -> None:
    """As long as it takes on a core of one's own, in CPU seconds of this thread."""
    matrix, begun = torch.ones(256, 256), time.thread_time()
    while time.thread_time() - begun < COST:
        matrix @ matrix


class Speaker:
    def __init__(self, spend: Spend) -> None:
        torch.set_num_threads(1)
        self.spend = spend

    def generate(self, prompts: PromptBatch, weights: Weights, seed: int) -> Rollout:
        version = weights.fetch().version
        self.spend()
        tokens, zeros = torch.arange(8).expand(len(prompts), 8), torch.zeros(len(prompts), 8)
        whole = torch.ones_like(zeros, dtype=torch.bool)
        return Rollout(prompts, tokens, whole, zeros, whole[:, 0], torch.full_like(prompts.sample, version))

    def score(self, rollout: Rollout) -> ScoredRollout:
        score = torch.rand(len(rollout))
        return ScoredRollout(rollout, score, score[:, None], torch.zeros_like(rollout.ended), rollout.logprobs)


class Improver:
    def __init__(self, spend: Spend) -> None:
        torch.set_num_threads(1)
        self.spend = spend
        self.updates = 0

    def weights(self) -> LocalWeights:
        return pack([torch.zeros(1)], self.updates)

    def version(self) -> int:
        return self.updates

    def estimate(self, rollout: Rollout) -> Estimates:
        return Estimates(rollout.logprobs)

    def update(self, experience: Experience, penalty: Any) -> Metrics:
        self.spend()
        self.updates += 1
        return {}

    def remember(self, folder: str) -> None:
        """There is nothing to write down."""


@contextmanager
def stand_ins(spend: Spend) -> Iterator[Workers]:
    connect()
    hire = ray.remote(num_cpus=1)
    speaker, improver = hire(Speaker).remote(spend), hire(Improver).remote(spend)
    try:
        yield SamplerGroup([speaker], 64, 60), ScorerGroup([speaker], 64, 60), LearnerGroup([improver], 64, 60)
    finally:
        ray.kill(speaker), ray.kill(improver)


@contextmanager
def models(config: RunConfig, reward: str) -> Iterator[Workers]:
    base = resolve(config.base)
    with assemble(config) as team:
        learner = team.learner(base, reward if config.returns.needs_critic else None)
        yield team.sampler(base), team.judge(reward, base, learner), learner


def untrained_reward(base: str, folder: str) -> str:
    model = load_classifier(base)
    model.config.score_mean, model.config.score_std, model.config.pad_token_id = (
        0.0,
        1.0,
        load_tokenizer(base).pad_token_id,
    )
    model.save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)
    return folder


def seconds(workers: Workers, ppo: PPO, returns: Returns, stream: PromptStream) -> list[float]:
    """Of each iteration that came when all was warm."""
    ends: list[float] = []

    def report(step: int, scored: ScoredRollout, metrics: Metrics) -> bool:
        ends.append(time.monotonic())
        return step < ppo.steps  # the last is the only one that would be saved

    with tempfile.TemporaryDirectory() as folder:
        train(*workers, stream, ppo, returns, report, Checkpoints(Path(folder), every=ppo.steps))
    return [end - start for start, end in pairwise(ends)][WARM - 1 :]


def compare(name: str, of: Callable[[int], list[float]]) -> str:
    """A row: both leads in turn, the median with the range, and how many times as fast."""
    taken: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(ROUNDS):
        for lead in taken:
            taken[lead] += of(lead)
    cells = [f"{median(each):.2f} [{min(each):.2f}, {max(each):.2f}]" for each in taken.values()]
    return line([name, *cells, f"{median(taken[0]) / median(taken[1]):.2f}"])


def main(path: str, *words: str) -> None:
    config = load(RunConfig, path, words)
    tokenizer = load_tokenizer(resolve(config.base))
    prompts = [row["prompt"] for row in make_prompts(200, 0, heldout=False)]
    rows = []

    def stream(episodes: int) -> PromptStream:
        return PromptStream(prompts, tokenizer, size=episodes, width=config.sampling.prompt_tokens, seed=0)

    for name, spend in {"that wait": wait, "that compute": work}.items():

        def of_stand_ins(lead: int, spend: Spend = spend) -> list[float]:
            with stand_ins(spend) as workers:
                ppo = PPO(steps=STEPS, episodes=64, lead=lead)
                return seconds(workers, ppo, Returns(advantage="reinforce++"), stream(64))

        rows.append(compare(f"stand-ins {name}, {COST:g} s each", of_stand_ins))
    with tempfile.TemporaryDirectory() as folder:
        reward = untrained_reward(resolve(config.base), folder)

        def of_models(lead: int, clusters: tuple[str, str]) -> list[float]:
            own = load(RunConfig, path, [*words, f"ppo.lead={lead}", f"cluster={clusters[lead]}"])
            with models(own, reward) as workers:
                ppo = own.ppo.model_copy(update={"steps": min(own.ppo.steps, STEPS)})
                return seconds(workers, ppo, own.returns, stream(ppo.episodes))

        for name, clusters in WAYS.items():
            named = f"the real ones, {config.ppo.episodes} episodes, {name}"
            rows.append(compare(named, partial(of_models, clusters=clusters)))
    versions = {name: version(name) for name in ("torch", "transformers", "ray")}
    write("overlap", [path, *words], {"versions": versions}, [*head(COLUMNS), *rows])


if __name__ == "__main__":
    main(*sys.argv[1:])
