"""The house's own decoding: the same prompts, weights and seeds give the same rollout, bit for bit."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_ray.config import BadInput
from rlhf_ray.experience import PromptBatch, Rollout
from rlhf_ray.models.activations import fuse_activations
from rlhf_ray.models.decoding import decode
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.weights import LocalWeights, unpack
from rlhf_ray.workers.sampling import Sampling


class Own:
    """A model in this process, and the loop of `models/decoding.py`.

    In fp32 it attends as the learner does. In bf16 it has torch's fused attention, whose bits depend on the number of
    threads; a run repeats itself with those that its config names.
    """

    def __init__(self, model: str, sampling: Sampling, device: str) -> None:
        self.sampling, self.device = sampling, device
        self.policy = fuse_activations(load_causal(model)).to(device)
        if sampling.precision == "bf16":
            self.policy.to(torch.bfloat16).set_attn_implementation("sdpa")
        check_attention(self.policy, model, sampling.tokens)
        self.eos = load_tokenizer(model).eos_token_id
        self.version = -1

    def load(self, weights: LocalWeights) -> None:
        unpack(weights, self.policy)
        self.version = weights.version

    def speak(self, prompts: PromptBatch, seeds: Sequence[int]) -> Rollout:
        how = {"temperature": self.sampling.temperature, "eos": self.eos, "version": self.version}
        uniforms = self._uniforms(seeds).to(self.device)
        return decode(self.policy, prompts.to(self.device), uniforms, **how).to("cpu")

    def _uniforms(self, seeds: Sequence[int]) -> Float[Tensor, "B R"]:
        """Each sample's own random numbers."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        width = self.sampling.response_tokens
        return torch.stack([torch.rand(width, generator=each, dtype=torch.float64) for each in generators])


def check_attention(model: PreTrainedModel, name: str, tokens: int) -> None:
    """Raises BadInput where a layer does not attend to all of `tokens` tokens, as the decoding takes for granted."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    if window and "layer_types" not in config.to_dict():  # a model whose layers are all of one kind
        kinds = {"sliding_attention"}
    if kinds - {"full_attention", "sliding_attention"}:
        raise BadInput(f"sampling.engine: expected transformers or vllm for {name}, whose layers are {sorted(kinds)}")
    if "sliding_attention" in kinds and window and tokens > window:
        raise BadInput(
            f"sampling: expected prompt_tokens + response_tokens of at most {window}, the window in which {name} "
            f"attends, with engine=own; got {tokens}"
        )
