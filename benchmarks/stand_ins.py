"""Stand-ins for the three workers: each call waits as long as a real one would and gives back as much.

A process holds many of them and does their calls side by side in threads, which costs nothing while they wait. Weights
and rollouts really travel; what a GPU would compute does not happen.
"""

import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlhf_ray.algorithms.kl import KlPenalty
from rlhf_ray.experience import CriticEstimates, Estimates, Experience, Metrics, PromptBatch, Rollout, ScoredRollout
from rlhf_ray.weights import LocalWeights, Weights, checksum
from rlhf_ray.workers.ranks import Ranks


@dataclass(frozen=True)
class Waits:
    """Seconds of each call, and the bytes of the weights that are really sent."""

    generate: float
    score: float
    estimate: float
    update: float
    weights_bytes: int


class StandIns:
    """Samplers, scorers and learners, as many as there are threads. All learners step at the same time."""

    def __init__(self, waits: Waits, response: int, minibatch: int, learners: int) -> None:
        torch.set_num_threads(1)
        self.waits, self.response, self.minibatch, self.learners = waits, response, minibatch, learners
        self.updates = [0] * learners
        self.buffer = np.zeros(waits.weights_bytes // 4, dtype=np.float32)
        self.digest = checksum(self.buffer)

    def generate(self, prompts: PromptBatch, weights: Weights, seed: int) -> Rollout:
        begin = time.monotonic()
        version = weights.fetch().version
        count, generator = len(prompts), torch.Generator().manual_seed(seed)
        lengths = torch.randint(self.response // 2, self.response + 1, (count, 1), generator=generator)
        mask = torch.arange(self.response) < lengths
        tokens = torch.randint(2, 1000, (count, self.response), generator=generator)
        said = {"tokens": tokens, "mask": mask, "logprobs": -mask.float(), "ended": torch.ones(count, dtype=torch.bool)}
        for name in {field.name for field in fields(Rollout)} - {"prompt", *said}:
            said[name] = torch.full((count,), version)  # the version of the weights, where a rollout knows it
        return self._after(self.waits.generate, begin, Rollout(prompts, **said))

    def score(self, rollout: Rollout) -> ScoredRollout:
        begin, score = time.monotonic(), torch.randn(len(rollout))
        no_clip = torch.zeros(len(rollout), dtype=torch.bool)
        scored = ScoredRollout(rollout, score, score[:, None], no_clip, rollout.logprobs.clone())
        return self._after(self.waits.score, begin, scored)

    def estimate(self, rank: int, rollout: Rollout) -> Estimates:
        begin = time.monotonic()
        rows = Ranks(rank, self.learners).rows(len(rollout), self.minibatch)
        thought = CriticEstimates(rollout.logprobs[rows], torch.zeros(len(rows), self.response))
        return self._after(self.waits.estimate, begin, thought)

    def update(self, rank: int, experience: Experience, penalty: KlPenalty) -> Metrics:
        time.sleep(self.waits.update)
        self.updates[rank] += 1
        return {"lr": 0.0}

    def weights(self, rank: int) -> LocalWeights:
        return LocalWeights(self.updates[rank], self.buffer, self.digest)

    def version(self, rank: int) -> int:
        return self.updates[rank]

    def remember(self, rank: int, folder: str) -> None:
        Path(folder, "nothing").touch()

    def _after(self, seconds: float, begin: float, said: Any) -> Any:
        """What was said, once so many seconds have passed since the beginning: making it up is part of them."""
        time.sleep(max(0.0, begin + seconds - time.monotonic()))
        return said


class OneOfMany:
    """The handle of one learner among those of a process: its calls carry its rank."""

    def __init__(self, handle: Any, rank: int) -> None:
        self._handle, self._rank = handle, rank

    def __getattr__(self, name: str) -> Any:
        method, rank = getattr(self._handle, name), self._rank

        class Call:
            @staticmethod
            def remote(*arguments: Any) -> Any:
                return method.remote(rank, *arguments)

        return Call


def size_of(batch: Any) -> int:
    """Bytes of a batch's tensors."""
    parts = (getattr(batch, field.name) for field in fields(batch))
    return sum(part.nbytes if isinstance(part, Tensor) else size_of(part) for part in parts)
