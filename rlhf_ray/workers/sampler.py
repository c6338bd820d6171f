"""The Sampler speaks: it answers prompts with the policy's newest weights."""

from rlhf_ray.batch import concat
from rlhf_ray.experience import PromptBatch, Rollout
from rlhf_ray.seeds import derive
from rlhf_ray.weights import LocalWeights, Weights
from rlhf_ray.workers.engines.engine import start
from rlhf_ray.workers.sampling import Sampling


class Sampler:
    """Decodes in work items of `sampling.rows` prompts, so who else decodes does not change what is drawn."""

    def __init__(self, model: str, sampling: Sampling, run_seed: int, device: str = "cpu") -> None:
        self.sampling = sampling
        self.run_seed = run_seed
        self.engine = start(model, sampling, device)
        self.version: int | None = None

    def generate(self, prompts: PromptBatch, weights: Weights, seed: int) -> Rollout:
        """One response a prompt. From engine=own the same prompts, weights and seed give the same bits."""
        if weights.version != self.version:
            self.load(weights.fetch())
        return concat([self._speak(item, seed) for item in prompts.split(self.sampling.rows)])

    def load(self, weights: LocalWeights) -> None:
        """Speak with these weights from now on. Raises ValueError where they are not what was sent."""
        self.version = None  # until they are whole
        self.engine.load(weights)
        self.version = weights.version

    def _speak(self, item: PromptBatch, seed: int) -> Rollout:
        """Each sample has its own seed, from (run, iteration, sample)."""
        return self.engine.speak(item, [derive(self.run_seed, seed, sample) for sample in item.sample.tolist()])
