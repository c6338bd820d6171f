"""How responses are drawn, in training, evaluation and collection alike."""

from typing import Literal

from pydantic import Field

from rlhf_ray.config import Config


class Sampling(Config):
    """How responses are drawn, in training, evaluation and collection alike."""

    temperature: float = Field(1.0, gt=0, description="Divides the logits, for drawing and for every log-probability.")
    prompt_tokens: int = Field(112, ge=1, description="Width of a prompt batch; a longer prompt is an error.")
    response_tokens: int = Field(88, ge=1, description="Most tokens of a response; then it counts as not ended.")
    rows: int = Field(
        64, ge=1, description="Prompts decoded together. Part of what is computed: keep it to repeat a run."
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="Of the sampler's weights and products; bf16 is faster where the machine multiplies it."
    )
    engine: Literal["own", "transformers", "vllm"] = Field(
        "own",
        description="Who decodes: own repeats itself bit for bit; transformers (continuous batching) and vllm are for "
        "GPUs.",
    )

    @property
    def tokens(self) -> int:
        """Most tokens of a prompt with its response."""
        return self.prompt_tokens + self.response_tokens

    @property
    def tolerance(self) -> float:
        """Nats by which sampler and learner may disagree on a token at equal weights.

        Two ways to compute a number in float32 stay well within a hundredth. In bf16 the worst of some thousand tokens
        was 0.07 nats off, 0.002 in the mean (benchmarks/sampling.py).
        """
        return {"fp32": 1e-2, "bf16": 0.5}[self.precision]
