"""The Learner improves: it holds policy and critic, remembers what they thought, and takes PPO's steps."""

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from rlhf_ray.algorithms.losses import clipped_share, policy_loss, value_loss
from rlhf_ray.algorithms.masked import masked_mean
from rlhf_ray.batch import concat
from rlhf_ray.config import Config
from rlhf_ray.experience import Estimates, Experience, Metrics, Rollout
from rlhf_ray.models.loading import load_causal
from rlhf_ray.models.policy import response_logprobs
from rlhf_ray.models.scalar import Scalar, response_values
from rlhf_ray.seeds import derive
from rlhf_ray.weights import LocalWeights, pack

RATIO_TOLERANCE = 1e-3  # float32 rounding of a log-probability over a response is far below this


class Learning(Config):
    """How the learner takes its steps."""

    epochs: int = Field(2, ge=1, description="Passes over each batch of experience.")
    minibatch: int = Field(32, ge=1, description="Episodes an optimizer step.")
    policy_lr: float = Field(1.5e-4, gt=0, description="Learning rate of the policy at the first step.")
    critic_lr: float = Field(3e-4, gt=0, description="Learning rate of the critic at the first step.")
    schedule: Literal["constant", "linear"] = Field(
        "linear", description="Learning rates stay, or fall to 0 at the last step."
    )
    clip: float = Field(0.2, gt=0, description="How far a token's probability ratio may move for free.")
    value_clip: float = Field(0.2, gt=0, description="How far a value may move for free.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients of each model are clipped to this norm.")
    adam_eps: float = Field(
        1e-5, gt=0, description="Epsilon of both optimizers (AdamW, betas 0.9 and 0.95, no weight decay)."
    )


class Learner:
    """Policy and critic with an optimizer each. `total_steps` is the length of the schedule in calls of `update`."""

    def __init__(
        self,
        policy: str,
        critic: str,
        learning: Learning,
        temperature: float,
        run_seed: int,
        total_steps: int,
        device: str = "cpu",
    ) -> None:
        self.learning = learning
        self.temperature = temperature
        self.run_seed = run_seed
        self.device = device
        self.policy = load_causal(policy).to(device)
        self.critic = Scalar.load(critic).to(device)
        self.updates = 0
        self.optimizers = [
            torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), eps=learning.adam_eps, weight_decay=0.0)
            for model, lr in ((self.policy, learning.policy_lr), (self.critic, learning.critic_lr))
        ]
        decay = (lambda step: 1 - step / total_steps) if learning.schedule == "linear" else (lambda step: 1.0)
        self.schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, decay) for optimizer in self.optimizers]

    def weights(self) -> LocalWeights:
        return pack(self.policy, self.version())

    def version(self) -> int:
        return self.updates

    @torch.no_grad()
    def estimate(self, rollout: Rollout) -> Estimates:
        """Log-probabilities and values before learning, in the pieces in which `update` will compute them first."""
        return concat([self._estimate(piece.to(self.device)) for piece in rollout.split(self.learning.minibatch)])

    def update(self, experience: Experience) -> Metrics:
        """All epochs over one batch of experience. Raises FloatingPointError before a step that is not finite.

        The first minibatch is that of `estimate`: its ratios must be 1, else the two disagree and learning is wrong.
        """
        steps = []
        for epoch in range(self.learning.epochs):
            for number, rows in enumerate(self._minibatches(len(experience), epoch)):
                first = epoch == 0 and number == 0
                steps.append(self._step(experience[rows].to(self.device), first))
        lr = float(self.schedules[0].get_last_lr()[0])
        for schedule in self.schedules:
            schedule.step()
        self.updates += 1
        averages = {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]}
        return averages | {"lr": lr, "val/explained_variance": _explained_variance(experience)}

    def save(self, folder: str) -> None:
        """Write the policy as a Hugging Face model folder (safetensors)."""
        self.policy.save_pretrained(Path(folder))

    def _estimate(self, rollout: Rollout) -> Estimates:
        logprobs, _ = response_logprobs(self.policy, rollout, self.temperature)
        return Estimates(logprobs, response_values(self.critic, rollout)).to("cpu")

    def _minibatches(self, size: int, epoch: int) -> list[Tensor]:
        """Rows of each minibatch: in order in the first epoch, so that its ratios are exactly 1; shuffled later."""
        order = torch.arange(size)
        if epoch:
            generator = torch.Generator().manual_seed(derive(self.run_seed, "minibatches", self.updates, epoch))
            order = torch.randperm(size, generator=generator)
        return list(order.split(self.learning.minibatch))

    def _step(self, experience: Experience, first: bool) -> Metrics:
        rollout, old, mask = experience.rollout, experience.old, experience.rollout.mask
        logprobs, entropy = response_logprobs(self.policy, rollout, self.temperature)
        values = response_values(self.critic, rollout)
        if first:
            _check_ratio(logprobs, old.logprobs, mask)
        losses = {
            "loss/policy_avg": policy_loss(logprobs, old.logprobs, experience.advantages, self.learning.clip),
            "loss/value_avg": value_loss(values, old.values, experience.returns, self.learning.value_clip),
        }
        means = {name: masked_mean(loss, mask) for name, loss in losses.items()}
        models = (self.policy, self.critic)
        norms = [self._gradient(model, name, loss) for (name, loss), model in zip(means.items(), models, strict=True)]
        for optimizer in self.optimizers:
            optimizer.step()
        with torch.no_grad():
            log_ratio = logprobs - old.logprobs
            clipped = clipped_share(logprobs, old.logprobs, self.learning.clip)
            return {name: float(loss) for name, loss in means.items()} | {
                "objective/entropy": float(masked_mean(entropy, mask)),
                "policy/approxkl_avg": float(masked_mean(log_ratio**2 / 2, mask)),
                "policy/clipfrac_avg": float(masked_mean(clipped, mask)),
                "val/ratio": float(masked_mean(log_ratio.exp(), mask)),
                "policy/grad_norm": norms[0],
                "val/grad_norm": norms[1],
            }

    def _gradient(self, model: nn.Module, name: str, loss: Tensor) -> float:
        model.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), self.learning.max_grad_norm)
        if not (loss.isfinite() and norm.isfinite()):
            raise FloatingPointError(
                f"{name}: got loss {loss.item()} and gradient norm {float(norm)} in update {self.updates + 1}; "
                "no step was taken. A lower learning rate or score clip may help"
            )
        return float(norm)


@torch.no_grad()
def _check_ratio(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor) -> None:
    worst = float(torch.where(mask, (logprobs - old_logprobs).abs(), 0.0).max())
    if worst > RATIO_TOLERANCE:
        raise RuntimeError(
            f"ratio: expected 1 on the first minibatch, got a log-probability that is off by {worst:.4f}; "
            "the policy changed between `estimate` and `update`, or something in it is random"
        )


def _explained_variance(experience: Experience) -> float:
    """1 - Var(return - value) / Var(return): 1 is a perfect critic, 0 one that only knows the mean."""
    returns: Float[Tensor, N] = experience.returns[experience.rollout.mask]
    errors = returns - experience.old.values[experience.rollout.mask]
    return float(1 - errors.var(correction=0) / (returns.var(correction=0) + 1e-8))
