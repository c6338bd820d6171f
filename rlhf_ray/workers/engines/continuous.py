"""Continuous batching of transformers: requests join and leave the batch at every step, keys and values lie in pages.

For GPUs, where it has flash attention and CUDA graphs; on a CPU it works and is several times slower than the house's
own. It has one seed a call, and which requests share a step depends on its threads' timing: unlike the house's own, it
does not promise the same tokens again.
"""

from collections.abc import Sequence

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from rlhf_ray.experience import PromptBatch, Rollout
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.weights import LocalWeights, unpack
from rlhf_ray.workers.engines.response import Response, as_rollout, asked
from rlhf_ray.workers.sampling import Sampling

PAGE = 32  # tokens; the library's 256 would reserve on a CPU far more than a short response needs


class Continuous:
    def __init__(self, model: str, sampling: Sampling, device: str) -> None:
        self.sampling, self.device = sampling, device
        dtype = torch.bfloat16 if sampling.precision == "bf16" else torch.float32
        self.policy = load_causal(model).to(device, dtype)
        if device != "cpu":
            self.policy.set_attn_implementation("sdpa")  # or flash attention, to which the library switches by itself
        self.eos, self.version = load_tokenizer(model).eos_token_id, -1

    def load(self, weights: LocalWeights) -> None:
        unpack(weights, self.policy)
        self.version = weights.version

    def speak(self, prompts: PromptBatch, seeds: Sequence[int]) -> Rollout:
        """Draws in the order of the library, from the first sample's seed."""
        said = self.policy.generate_batch(
            asked(prompts), generation_config=self._generation(), continuous_batching_config=self._batching(seeds[0])
        )
        responses = [Response(output.generated_tokens, output.logprobs) for output in said.values()]
        how = {"width": self.sampling.response_tokens, "eos": self.eos, "version": self.version}
        return as_rollout(prompts, responses, **how)

    def _generation(self) -> GenerationConfig:
        """Nothing but the temperature between the logits and the draw."""
        return GenerationConfig(
            do_sample=True,
            temperature=self.sampling.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=self.sampling.response_tokens,
            eos_token_id=self.eos,
            pad_token_id=self.eos,
        )

    def _batching(self, seed: int) -> ContinuousBatchingConfig:
        """On a GPU the library sizes its memory by what is free; on a CPU it is told what the item needs."""
        if self.device != "cpu":
            return ContinuousBatchingConfig(return_logprobs=True, seed=seed % 2**31)
        rows, tokens = self.sampling.rows, self.sampling.tokens
        return ContinuousBatchingConfig(
            return_logprobs=True,
            seed=seed % 2**31,
            page_size=PAGE,
            num_blocks=rows * (-(-tokens // PAGE) + 1),
            max_batch_tokens=max(tokens, 2048),
        )
