"""What a sampler asks of an engine, and who is there to be asked."""

from collections.abc import Sequence
from typing import Protocol

from rlhf_ray.experience import PromptBatch, Rollout
from rlhf_ray.weights import LocalWeights
from rlhf_ray.workers.sampling import Sampling


class Engine(Protocol):
    def load(self, weights: LocalWeights) -> None:
        """Speak with these weights from now on. Raises ValueError where they are not what was sent."""

    def speak(self, prompts: PromptBatch, seeds: Sequence[int]) -> Rollout:
        """One response a prompt, with a seed for each."""


def start(model: str, sampling: Sampling, device: str) -> Engine:
    """The engine that the config names. Raises BadInput where it is not installed or cannot run the model."""
    if sampling.engine == "vllm":
        from rlhf_ray.workers.engines.vllm import VLLM

        return VLLM(model, sampling)
    if sampling.engine == "transformers":
        from rlhf_ray.workers.engines.continuous import Continuous

        return Continuous(model, sampling, device)
    from rlhf_ray.workers.engines.own import Own

    return Own(model, sampling, device)
