"""The Sampler speaks: it answers prompts with the policy's newest weights."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from rlhf_ray.batch import concat
from rlhf_ray.config import Config
from rlhf_ray.experience import PromptBatch, Rollout
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.models.decoding import decode
from rlhf_ray.seeds import derive
from rlhf_ray.weights import Weights, unpack


class Sampling(Config):
    """How responses are drawn, in training, evaluation and collection alike."""

    temperature: float = Field(1.0, gt=0, description="Divides the logits, for drawing and for every log-probability.")
    prompt_tokens: int = Field(112, ge=1, description="Width of a prompt batch; a longer prompt is an error.")
    response_tokens: int = Field(88, ge=1, description="Most tokens of a response; then it counts as not ended.")
    rows: int = Field(
        64, ge=1, description="Prompts decoded together. Part of what is computed: keep it to repeat a run."
    )


class Sampler:
    """Decodes in work items of `sampling.rows` prompts, so who else decodes does not change what is drawn."""

    def __init__(self, model: str, sampling: Sampling, run_seed: int, device: str = "cpu") -> None:
        self.sampling = sampling
        self.run_seed = run_seed
        self.device = device
        self.policy = load_causal(model).to(device)
        self.eos = load_tokenizer(model).eos_token_id
        self.version: int | None = None

    def generate(self, prompts: PromptBatch, weights: Weights, seed: int) -> Rollout:
        """One response a prompt. The same prompts, weights and seed give the same rollout, bit for bit."""
        if weights.version != self.version:
            unpack(weights.fetch(), self.policy)
            self.version = weights.version
        return concat([self._decode(item, seed) for item in prompts.split(self.sampling.rows)])

    def _decode(self, item: PromptBatch, seed: int) -> Rollout:
        uniforms = self._uniforms(item.sample, seed).to(self.device)
        how = {"temperature": self.sampling.temperature, "eos": self.eos, "version": self.version}
        return decode(self.policy, item.to(self.device), uniforms, **how).to("cpu")

    def _uniforms(self, samples: Tensor, seed: int) -> Float[Tensor, "B R"]:
        """Each sample's own random numbers, from (run, iteration, sample)."""
        rows = []
        for sample in samples.tolist():
            generator = torch.Generator().manual_seed(derive(self.run_seed, seed, sample))
            rows.append(torch.rand(self.sampling.response_tokens, generator=generator, dtype=torch.float64))
        return torch.stack(rows)
