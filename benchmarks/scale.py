"""The real controller with stand-in workers: `python benchmarks/scale.py [--model 1B] [--iterations N] [--profile]`.

The loop, the groups and the data path are those of the main job; the workers only wait as long as one H100 would take
by the plan's rates (`scale_plan.py`) and give back as much. Up to 64 samplers, 64 scorers and 16 learners live in eight
processes, as threads: so their waits cost nothing, but what they read and write shares this machine's cores with the
controller, which on a cluster it would not. The table is printed and written to `benchmarks/results/scale.md`.
The default takes about five minutes on 2 idle cores.
"""

import argparse
import cProfile
import logging
import pstats
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import ray
import scale_plan
import torch
from scale_plan import GB, H100, MODELS, Job
from stand_ins import OneOfMany, StandIns, Waits, size_of
from tables import head, here, line, write
from workload import words

from rlhf_ray.data.prompts import PromptStream
from rlhf_ray.distributed.connection import connect, disconnect
from rlhf_ray.distributed.groups import LearnerGroup, SamplerGroup, ScorerGroup
from rlhf_ray.experience import Metrics, ScoredRollout
from rlhf_ray.training.assess import Returns
from rlhf_ray.training.checkpoint import Checkpoints
from rlhf_ray.training.ppo import PPO, train

JOB = Job(episodes=32, prompt=128, response=128)  # for each sampler
CLUSTERS = ((1, 1), (4, 1), (16, 4), (64, 16))
LEADS = (0, 1) if "lead" in PPO.model_fields else (0,)
HOSTS = 8  # processes, at most
WEIGHTS = 64 * 2**20  # bytes that really travel; the rest of the way is in the waits
DEADLINE_S = 300.0
COLUMNS = (
    "samplers",
    "learners",
    "lead",
    "episodes",
    "iteration, s",
    "waits alone, s",
    "efficiency",
    "controller's thread, CPU ms",
    "its process, CPU ms",
    "experience, MB",
)


@dataclass
class Clock:
    """Wall seconds and the controller's own CPU seconds of each iteration, and the bytes of what was learned from."""

    walls: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)
    processes: list[float] = field(default_factory=list)
    bytes: int = 0

    def start(self) -> None:
        self.last = (time.monotonic(), time.thread_time(), time.process_time())

    def tick(self, step: int, scored: ScoredRollout, metrics: Metrics) -> bool:
        now = (time.monotonic(), time.thread_time(), time.process_time())
        for kept, before, after in zip((self.walls, self.threads, self.processes), self.last, now, strict=True):
            kept.append(after - before)
        self.bytes, self.last = size_of(scored), now
        return True


def waits_of(model: scale_plan.Model, samplers: int, learners: int) -> Waits:
    spent = scale_plan.seconds(model, JOB, H100, samplers, learners)
    spoken = spent["generate"] + spent["weights"]  # a sampler fetches weights before it speaks
    return Waits(spoken, spent["score"], spent["estimate"], spent["update"], WEIGHTS)


def ideal(waits: Waits, lead: int) -> float:
    """Seconds of an iteration in which nothing but the waits takes time."""
    rollout, learning = waits.generate + waits.score, waits.estimate + waits.update
    return max(rollout, learning) if lead else rollout + learning


@contextmanager
def hosts_of(waits: Waits, samplers: int, learners: int, minibatch: int) -> Iterator[list[ray.actor.ActorHandle]]:
    """Processes of stand-ins, each with room for all calls that may come at once."""
    count = min(HOSTS, samplers)
    options = {"num_cpus": 0, "max_concurrency": 3 * -(-samplers // count) + learners}
    kind = ray.remote(StandIns).options(**options)
    hosts = [kind.remote(waits, JOB.response, minibatch, learners) for _ in range(count)]
    try:
        ray.get([host.version.remote(0) for host in hosts], timeout=DEADLINE_S)
        yield hosts
    finally:
        for host in hosts:
            ray.kill(host)


def simulate(model: scale_plan.Model, samplers: int, learners: int, lead: int, iterations: int) -> Clock:
    """Run the loop; the first iteration only warms it up."""
    clock, episodes, waits = Clock(), samplers * JOB.episodes, waits_of(model, samplers, learners)
    ppo = PPO(steps=iterations + 1, episodes=episodes, **({"lead": lead} if lead else {}))
    texts = [" ".join(f"w{2 + (row + place) % 900}" for place in range(JOB.prompt)) for row in range(episodes)]
    prompts = PromptStream(texts, words(1000), size=episodes, width=JOB.prompt, seed=0)
    with hosts_of(waits, samplers, learners, episodes) as hosts, tempfile.TemporaryDirectory() as folder:
        dealt = [hosts[number % len(hosts)] for number in range(samplers)]
        ranks = [OneOfMany(hosts[rank % len(hosts)], rank) for rank in range(learners)]
        checkpoints = Checkpoints(Path(folder), every=ppo.steps + 1)
        speaks, judges = (kind(dealt, JOB.episodes, DEADLINE_S) for kind in (SamplerGroup, ScorerGroup))
        improves = LearnerGroup(ranks, episodes, DEADLINE_S)
        clock.start()
        train(speaks, judges, improves, prompts, ppo, Returns(), clock.tick, checkpoints)
    return replace(clock, walls=clock.walls[1:], threads=clock.threads[1:], processes=clock.processes[1:])


def row(model: scale_plan.Model, samplers: int, learners: int, lead: int, iterations: int) -> str:
    clock = simulate(model, samplers, learners, lead, iterations)
    least, wall = ideal(waits_of(model, samplers, learners), lead), median(clock.walls)
    own = [f"{1000 * median(spent):.0f}" for spent in (clock.threads, clock.processes)]
    figures = [f"{wall:.2f}", f"{least:.2f}", f"{least / wall:.0%}", *own, f"{clock.bytes / 1e6:.1f}"]
    return line([str(samplers), str(learners), str(lead), str(samplers * JOB.episodes), *figures])


def profile(model: scale_plan.Model, iterations: int) -> None:
    """Print what the controller's thread does in the largest cluster, by its own time."""
    profiler = cProfile.Profile(time.thread_time)
    profiler.runcall(simulate, model, *CLUSTERS[-1], LEADS[-1], iterations)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(MODELS), default="1B")
    parser.add_argument("--iterations", type=int, default=5, help="measured ones")
    parser.add_argument("--profile", action="store_true", help="print where the controller's time goes instead")
    asked = parser.parse_args()
    model = MODELS[asked.model]
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    connect()
    try:
        if asked.profile:
            profile(model, asked.iterations)
            return
        rows = [row(model, *cluster, lead, asked.iterations) for lead in LEADS for cluster in CLUSTERS]
    finally:
        disconnect()
    said = (
        f"{asked.model} by the plan's rates, {JOB.episodes} episodes a sampler of {JOB.prompt} and up to "
        f"{JOB.response} tokens; medians of {asked.iterations} iterations; {WEIGHTS / GB:.2f} GB of weights really "
        "travel to every sampler, the rest of their way is part of the waits."
    )
    write("scale", sys.argv[1:], here(), [said, "", *head(COLUMNS), *rows])


if __name__ == "__main__":
    main()
