"""The team: workers hired as actors on reserved seats, or as plain objects where there is no cluster."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
import torch

from rlhf_ray.distributed.broadcast import Broadcast
from rlhf_ray.distributed.colocation import Colleague, Colocated
from rlhf_ray.distributed.connection import connect, environment, wait_for
from rlhf_ray.distributed.gauges import Gauges
from rlhf_ray.distributed.groups import LearnerGroup, SamplerGroup, ScorerGroup
from rlhf_ray.distributed.placement import Seats, check_room, machines, plan, reserve
from rlhf_ray.distributed.rendezvous import free_place, join
from rlhf_ray.heap import keep_freed_memory
from rlhf_ray.runs import Cluster, RunConfig
from rlhf_ray.training.ahead import Judges, Speaks
from rlhf_ray.training.boards import Board, open_boards
from rlhf_ray.training.ppo import Improves
from rlhf_ray.training.reference import OwnReference
from rlhf_ray.workers.learner import Learner
from rlhf_ray.workers.rewards import check_members
from rlhf_ray.workers.sampler import Sampler
from rlhf_ray.workers.scorer import Scorer

ROLES = 3  # samplers, scorers and learners share a seat


class Team(ABC):
    """Hires the workers of a stage."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    @abstractmethod
    def sampler(self, model: str) -> Speaks: ...

    @abstractmethod
    def scorer(self, reward: str, reference: str, *, has_reference: bool = True) -> Judges: ...

    @abstractmethod
    def learner(self, policy: str, critic: str | None) -> Improves: ...

    def boards(self, scratch: Path) -> list[Board]:
        """Where the run's metrics are shown. Raises BadInput where one cannot be opened."""
        c = self.config
        return open_boards(c.boards, c.run_folder, scratch, c.model_dump())

    def judge(self, reward: str, reference: str, learner: Improves) -> Judges:
        """The scorer that a learner is trained with. One that has adapters is its own reference."""
        if not self.config.adapters:
            return self.scorer(reward, reference)
        return OwnReference(self.scorer(reward, reference, has_reference=False), learner)


class LocalTeam(Team):
    """Every worker is a plain object in this process."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        torch.set_num_threads(config.threads)
        keep_freed_memory()

    def sampler(self, model: str) -> Speaks:
        return Sampler(model, self.config.sampling, self.config.seed)

    def scorer(self, reward: str, reference: str, *, has_reference: bool = True) -> Judges:
        c = self.config
        check_members(c.scoring.rewards, reward)
        return Scorer(reward, reference, c.scoring, c.sampling.temperature, has_reference=has_reference)

    def learner(self, policy: str, critic: str | None) -> Improves:
        c = self.config
        schedule = (c.sampling.temperature, c.seed, c.ppo.steps)
        return Learner(policy, critic, c.learning, *schedule, lora=c.adapters, trust=c.tolerance)


class RayTeam(Team):
    """Workers are actors. Number i of a role sits on seat i; where nobody learns, all seats speak and judge.

    Those who take turns on a CPU's seat are one actor, in PPO where a learner is among them. Learners that improve
    while others speak sit on the seats behind those; where there are none, they take turns, too, if each seat has one.
    """

    def __init__(self, config: RunConfig, cluster: Cluster, seats: Seats, learns: bool) -> None:
        super().__init__(config)
        self.cluster = cluster
        self.seats = seats
        self.samplers, self.scorers = (cluster.samplers, cluster.scorers) if learns else (seats.count, seats.count)
        self.learns, ahead = learns, learns and bool(config.ppo.lead)
        meanwhile = ahead and len(seats.learning) < seats.count  # somebody speaks where nobody learns
        # What has devices, or hears weights while another sends them, needs a process of its own.
        takes_turns = not (meanwhile or cluster.gpus_each or cluster.weights == "collective")
        # A learner's call may then come behind those of the next rollout.
        self.patience_s = cluster.deadline_s * (ROLES if ahead and takes_turns else 1)
        sharing = seats.learning if learns else range(seats.count)
        self.colocated: dict[int, Any] = dict.fromkeys(sharing) if takes_turns else {}
        self.actors: list[Any] = []
        self.device = "cuda" if cluster.gpus_each else "cpu"
        self.broadcast = Broadcast(self.device, cluster.deadline_s) if cluster.weights == "collective" else None

    def sampler(self, model: str) -> Speaks:
        c = self.config
        actors = self._hire(range(self.samplers), Sampler, model, c.sampling, c.seed, self.device)
        if self.broadcast:
            self.broadcast.samplers = actors
        return SamplerGroup(actors, c.sampling.rows, self.cluster.deadline_s)

    def scorer(self, reward: str, reference: str, *, has_reference: bool = True) -> Judges:
        c = self.config
        check_members(c.scoring.rewards, reward)
        arguments = (reward, reference, c.scoring, c.sampling.temperature, self.device, has_reference)
        actors = self._hire(range(self.scorers), Scorer, *arguments)
        return ScorerGroup(actors, c.scoring.rows, self.cluster.deadline_s)

    def learner(self, policy: str, critic: str | None) -> Improves:
        c = self.config
        schedule = (c.sampling.temperature, c.seed, c.ppo.steps)
        arguments = (policy, critic, c.learning, *schedule, self.device, c.adapters, self.cluster.shard, c.tolerance)
        actors = self._hire(self.seats.learning, Learner, *arguments, restarts=0)
        if len(actors) > 1:
            self.introduce(actors, self.cluster.deadline_s)
        how = (c.learning.minibatch, self.patience_s, self.cluster.shard, self.broadcast)
        return LearnerGroup(actors, *how)

    @staticmethod
    def introduce(learners: list[Any], deadline_s: float) -> None:
        """Tell the learners where to meet each other: at the first one's machine."""
        (place,) = wait_for([learners[0].__ray_call__.remote(free_place)], "learner 0", deadline_s)
        joins = [
            actor.__ray_call__.remote(join, place, rank, len(learners), deadline_s)
            for rank, actor in enumerate(learners)
        ]
        wait_for(joins, "learner.join", deadline_s)

    def boards(self, scratch: Path) -> list[Board]:
        return [*super().boards(scratch), Gauges(str(self.config.run_folder))]

    def dismiss(self) -> None:
        for actor in self.actors:
            ray.kill(actor)

    def _hire(self, seats: Sequence[int], worker: type, *arguments: Any, restarts: int = 3) -> list[Any]:
        """Samplers and scorers restart alone and repeat the call: what they compute depends on its arguments only.

        A learner has a state that a restart would lose, so it does not restart, and who is colocated with it neither.
        """
        return [self._hire_one(seat, worker, arguments, restarts) for seat in seats]

    def _hire_one(self, seat: int, worker: type, arguments: tuple[Any, ...], restarts: int) -> Any:
        if seat in self.colocated:
            restarts = 0 if self.learns else restarts
            self.colocated[seat] = self.colocated[seat] or self._start(seat, Colocated, (), restarts, share=1)
            return Colleague.hire(self.colocated[seat], worker, *arguments)
        return self._start(seat, worker, arguments, restarts, share=ROLES)

    def _start(self, seat: int, worker: type, arguments: tuple[Any, ...], restarts: int, share: int) -> Any:
        options = {
            "num_cpus": _part(self.cluster.threads_each, share),
            "num_gpus": _part(self.cluster.gpus_each, share),
            "max_restarts": restarts,
            "max_task_retries": restarts,
            "runtime_env": environment(self.cluster),
            "scheduling_strategy": self.seats.at(seat),
        }
        self.actors.append(ray.remote(worker).options(**options).remote(*arguments))
        return self.actors[-1]


@contextlib.contextmanager
def assemble(config: RunConfig, *, learns: bool = True) -> Iterator[Team]:
    """The team of a stage, in which perhaps nobody learns; its actors are dismissed at the end.

    Raises BadInput where the cluster is too small.
    """
    cluster = config.cluster
    if cluster == "none":
        yield LocalTeam(config)
        return
    connect()
    seats = plan(config, cluster, machines())
    check_room(cluster, seats)
    with reserve(seats, cluster.deadline_s) as reserved:
        team = RayTeam(config, cluster, reserved, learns)
        try:
            yield team
        finally:
            team.dismiss()


def _part(amount: float, share: int) -> float:
    """A role's part of a seat, rounded down to thousandths, which Ray can count."""
    return int(amount / share * 1000) / 1000
