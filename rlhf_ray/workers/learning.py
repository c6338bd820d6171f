"""How the learner takes its steps."""

from typing import Literal, Self

from pydantic import Field, model_validator

from rlhf_ray.config import Config
from rlhf_ray.models.precision import Precision


class Learning(Config):
    """How the learner takes its steps."""

    epochs: int = Field(2, ge=1, description="Passes over each batch of experience.")
    minibatch: int = Field(32, ge=1, description="Episodes an optimizer step.")
    microbatch_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens of prompts and responses that go through the models at once, to save memory, but at least "
        "one episode; none: the minibatch's.",
    )
    precision: Precision = Field(
        "fp32",
        description="Of products; weights, optimizer and losses stay in fp32. bf16 is faster where the machine "
        "multiplies it.",
    )
    policy_lr: float = Field(6e-4, gt=0, description="Learning rate of the policy at the first step.")
    critic_lr: float = Field(1e-3, gt=0, description="Learning rate of the critic at the first step.")
    critic_warmup: int = Field(0, ge=0, description="Iterations at the start in which the critic alone learns.")
    schedule: Literal["constant", "linear"] = Field(
        "linear", description="Learning rates stay, or fall to 0 at the last step."
    )
    clip: float = Field(0.2, gt=0, description="How far a token's probability ratio may move for free.")
    dual_clip: float | None = Field(
        None, gt=1, description="Most that a bad token may cost, in advantages, however likely it became."
    )
    value_clip: float = Field(0.2, gt=0, description="How far a value may move for free.")
    target_kl: float | None = Field(
        None, gt=0, description="Inner epochs end when the policy has moved 1.5 times this far, in nats a token."
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice instead of keeping them: less memory, more time."
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients of each model are clipped to this norm.")
    adam_betas: tuple[float, float] = Field((0.9, 0.95), description="AdamW's decay of both moments.", strict=False)
    adam_eps: float = Field(1e-5, gt=0, description="AdamW's epsilon; there is no weight decay.")

    @model_validator(mode="after")
    def _decays(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.adam_betas):
            raise ValueError(f"adam_betas: expected two numbers in [0, 1), got {self.adam_betas}")
        return self
