"""Groups of actors. Each has its worker's own methods, so the loop cannot tell one object from forty machines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
import torch
from jaxtyping import Float
from ray import ObjectRef
from ray.actor import ActorHandle
from torch import Tensor

from rlhf_ray.algorithms.kl import KlPenalty
from rlhf_ray.batch import Batch, Lent, concat, gather
from rlhf_ray.distributed.broadcast import Broadcast
from rlhf_ray.distributed.connection import NoAnswer, done_of, no_answer, wait_for
from rlhf_ray.experience import Estimates, Experience, Metrics, PromptBatch, Rollout, ScoredRollout
from rlhf_ray.training.ahead import Later, Promise
from rlhf_ray.weights import LocalWeights, Weights
from rlhf_ray.workers.ranks import Ranks

Kind = TypeVar("Kind", bound=Batch)


@dataclass(frozen=True)
class RayWeights:
    """Weights in the object store. Ray unpacks no reference inside a dataclass: only who calls `fetch` reads them."""

    version: int
    ref: ObjectRef
    deadline_s: float

    def fetch(self) -> LocalWeights:
        return wait_for([self.ref], "learner.weights", self.deadline_s)[0]


@dataclass(frozen=True)
class Begun(Generic[Kind]):
    """A batch that actors are at work on: a call for each part, which is lent, and whose rows follow each other.

    What it is made of has a name of its own, should that fail.
    """

    calls: Sequence[ObjectRef]
    parts: Sequence[range]
    whom: str
    deadline_s: float
    of: "Begun[Any] | None" = None

    def result(self) -> Kind:
        try:
            return self._gathered()
        except NoAnswer:
            if not self.of:
                raise
            if len(done_of(self.of.calls)) < len(self.of.calls):
                raise no_answer(self.of.whom, self.deadline_s) from None
            return self._gathered()  # it could not begin before, and has its own time
        except Exception:
            if self.of:
                wait_for(done_of(self.of.calls), self.of.whom, self.deadline_s)
            raise

    def _gathered(self) -> Kind:
        return gather(wait_for(self.calls, self.whom, self.deadline_s))


@dataclass(frozen=True)
class SamplerGroup:
    actors: Sequence[ActorHandle]
    rows: int
    deadline_s: float

    def generate(self, prompts: PromptBatch, weights: Weights, seed: int) -> Rollout:
        return self.begin(prompts, weights, seed).result()

    def begin(self, prompts: PromptBatch, weights: Weights, seed: int) -> Begun[Rollout]:
        """What all are told is put into the store once: to pack an actor's own part would cost more than its call."""
        parts = _deal(len(prompts), self.rows, len(self.actors))
        told, speak = ray.put((parts, Lent.of(prompts), weights, seed)), ray.put(speak_rows)
        calls = [
            actor.__ray_call__.remote(speak, told, number)
            for number, actor in zip(range(len(parts)), self.actors, strict=False)
        ]
        return Begun(calls, parts, "sampler.generate", self.deadline_s)


@dataclass(frozen=True)
class ScorerGroup:
    actors: Sequence[ActorHandle]
    rows: int
    deadline_s: float

    def score(self, rollout: Rollout) -> ScoredRollout:
        parts = _deal(len(rollout), self.rows, len(self.actors))
        calls = [
            actor.score.remote(rollout[part.start : part.stop]) for actor, part in zip(self.actors, parts, strict=False)
        ]
        return concat(wait_for(calls, "scorer.score", self.deadline_s))

    def begin(self, rollout: Promise[Rollout]) -> Promise[ScoredRollout]:
        """Each scorer begins once the parts are there that its rows are in; they do not pass through this process."""
        if not isinstance(rollout, Begun):
            return Later(lambda: self.score(rollout.result()))
        parts = _deal(rollout.parts[-1].stop, self.rows, len(self.actors))
        calls, judge = [], ray.put(score_rows)
        for actor, part in zip(self.actors, parts, strict=False):
            near = [place for place, given in enumerate(rollout.parts) if _overlap(given, part)]
            first = rollout.parts[near[0]].start
            needed = [rollout.calls[place] for place in near]
            calls.append(actor.__ray_call__.remote(judge, part.start - first, part.stop - first, *needed))
        return Begun(calls, parts, "scorer.score", self.deadline_s, of=rollout)


@dataclass(frozen=True)
class LearnerGroup:
    """Learners that take the same steps together, each from its share of every minibatch.

    They hold the same models, or where those are `sharded`, a part of them each: then one alone cannot say anything.
    """

    actors: Sequence[ActorHandle]
    minibatch: int
    deadline_s: float
    sharded: bool = False
    broadcast: Broadcast | None = None

    def weights(self) -> RayWeights:
        """The newest weights, in the object store; with a broadcast the samplers need not come for them."""
        first = self.broadcast.send(self.actors[0]) if self.broadcast else self.actors[0].weights.remote()
        if self.sharded:  # each adds its part to what the first one says
            for actor in self.actors[1:]:
                actor.weights.remote()
        return RayWeights(self.version(), first, self.deadline_s)

    def estimate(self, rollout: Rollout) -> Estimates:
        """What each learner thinks of its own rows, put back in the order of the rollout."""
        return concat(self._ask_all("estimate", ray.put(rollout)))[self._order(len(rollout))]

    def refer(self, rollout: Rollout) -> Float[Tensor, "B R"]:
        """What the policy without its adapters thinks, put back in the order of the rollout."""
        return torch.cat(self._ask_all("refer", ray.put(rollout)))[self._order(len(rollout))]

    def update(self, experience: Experience, penalty: KlPenalty) -> Metrics:
        return self._ask_all("update", ray.put(experience), penalty)[0]

    def version(self) -> int:
        return self._ask("version")

    def save(self, folder: str) -> None:
        (self._ask_all if self.sharded else self._ask)("save", folder)

    def remember(self, folder: str) -> None:
        (self._ask_all if self.sharded else self._ask)("remember", folder)

    def recall(self, folder: str) -> None:
        self._ask_all("recall", folder)

    def _order(self, count: int) -> Tensor:
        """The places of the first row, the second, … in what all learners say of their own rows."""
        ranks = [Ranks(rank, len(self.actors)) for rank in range(len(self.actors))]
        return torch.cat([rank.rows(count, self.minibatch) for rank in ranks]).argsort()

    def _ask(self, method: str, *arguments: Any) -> Any:
        """The first learner's answer: all would say the same."""
        ref = getattr(self.actors[0], method).remote(*arguments)
        return wait_for([ref], f"learner.{method}", self.deadline_s)[0]

    def _ask_all(self, method: str, *arguments: Any) -> list[Any]:
        refs = [getattr(actor, method).remote(*arguments) for actor in self.actors]
        return wait_for(refs, f"learner.{method}", self.deadline_s)


def _deal(count: int, rows: int, actors: int) -> list[range]:
    """The rows of each actor, in order: whole work items of `rows` rows.

    Items stay whole so that the number of actors changes who computes, never what.
    """
    items = -(-count // rows)
    size = -(-items // actors) * rows
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop


def speak_rows(sampler: Any, told: tuple[list[range], Lent[PromptBatch], Weights, int], number: int) -> Lent[Rollout]:
    """What a sampler does with its part of what all samplers are told. Runs in its actor."""
    parts, prompts, weights, seed = told
    return Lent.of(sampler.generate(prompts.rows(parts[number]), weights, seed))


def score_rows(scorer: Any, start: int, stop: int, *parts: Lent[Rollout]) -> Lent[ScoredRollout]:
    """What a scorer does with rows of a rollout that came in parts. Runs in its actor."""
    return Lent.of(scorer.score(gather(parts)[start:stop]))
