"""Rollouts begun ahead: the next ones are spoken and judged while the learner improves.

Which weights speak at which step depends on the step alone: those that the learner had `lead` updates before its newest
ones. So a run that was killed and goes on speaks as it would have.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

from rlhf_ray.alarm import Alarm, Tripped
from rlhf_ray.batch import Batch
from rlhf_ray.experience import PromptBatch, Rollout, ScoredRollout
from rlhf_ray.weights import Weights

Kind = TypeVar("Kind", bound=Batch)
Promised = TypeVar("Promised", bound=Batch, covariant=True)


class Promise(Protocol[Promised]):
    """A batch that somebody is at work on."""

    def result(self) -> Promised: ...


class Speaks(Protocol):
    def generate(self, prompts: PromptBatch, weights: Weights, seed: int) -> Rollout: ...


class Judges(Protocol):
    def score(self, rollout: Rollout) -> ScoredRollout: ...


@runtime_checkable
class SpeaksAhead(Speaks, Protocol):
    """One that can begin and be asked for the result later, as a group of actors."""

    def begin(self, prompts: PromptBatch, weights: Weights, seed: int) -> Promise[Rollout]: ...


@runtime_checkable
class JudgesAhead(Judges, Protocol):
    """One that can begin before there is anything to judge: with what a sampler has begun."""

    def begin(self, rollout: Promise[Rollout]) -> Promise[ScoredRollout]: ...


@dataclass(frozen=True)
class Later(Generic[Kind]):
    """A promise that is worked on when the result is asked for."""

    work: Callable[[], Kind]

    def result(self) -> Kind:
        return self.work()


def begin(sampler: Speaks, scorer: Judges, prompts: PromptBatch, weights: Weights, seed: int) -> Promise[ScoredRollout]:
    """Speak, then judge. Actors are at work when this returns; plain workers speak here, and judge when asked."""
    if not isinstance(sampler, SpeaksAhead):
        spoken = sampler.generate(prompts, weights, seed)
        return Later(lambda: scorer.score(spoken))
    speaking = sampler.begin(prompts, weights, seed)
    if not isinstance(scorer, JudgesAhead):
        return Later(lambda: scorer.score(speaking.result()))
    return scorer.begin(speaking)


class Ahead:
    """The scored rollouts of step `done + 1`, `done + 2`, …, of which up to `lead` are begun before they are due.

    `older` are the weights of the steps `done - lead` and later, oldest first, which the first of them are spoken with.
    """

    def __init__(
        self,
        speak: Callable[[int, Weights], Promise[ScoredRollout]],
        lead: int,
        steps: int,
        done: int = 0,
        older: tuple[Weights, ...] = (),
    ) -> None:
        self.speak = speak
        self.lead = lead
        self.steps = steps
        self.taken = self.begun = done
        self.under_way: deque[Promise[ScoredRollout]] = deque()
        self.known: deque[Weights] = deque(older, maxlen=lead + 1)

    @property
    def older(self) -> tuple[Weights, ...]:
        """What a run that goes on after the step that was taken last must know besides the learner's newest weights."""
        return tuple(self.known)[len(self.known) - self.lead :] if self.lead else ()

    def take(self, weights: Weights) -> ScoredRollout:
        """The next step's, after those behind it were begun. `weights` are the learner's newest."""
        self.known.append(weights)
        self.taken += 1
        while self.begun < min(self.taken + self.lead, self.steps):
            self.begun += 1
            self.under_way.append(self.speak(self.begun, self._due(self.begun)))
        return self.under_way.popleft().result()

    def _due(self, step: int) -> Weights:
        version = version_of(step, self.lead)
        return next(weights for weights in self.known if weights.version == version)


def version_of(step: int, lead: int) -> int:
    """The version of the weights that speak at a step: one a step, `lead` versions late."""
    return max(0, step - 1 - lead)


def lag_of(step: int, rollout: Rollout) -> int:
    """By how many updates the learner was ahead of the oldest weights that spoke, when it began to learn from it."""
    return step - 1 - int(rollout.version.min())


def check_version(step: int, rollout: Rollout, version: int) -> None:
    """Every episode must have been spoken with the weights whose turn it was."""
    wrong = rollout.version[rollout.version != version]
    if len(wrong):
        raise Tripped(
            Alarm(
                "weights",
                f"the sampler spoke with version {int(wrong[0])} of the weights, expected version {version}",
                "new weights did not reach the sampler",
                "compare the version and the checksum of the weights on both sides",
                step,
            )
        )
