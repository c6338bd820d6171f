"""The Scorer judges: the rewards' weighted sum a response, and the frozen reference's log-probability a token."""

import torch
from pydantic import Field
from torch import Tensor

from rlhf_ray.alarm import Alarm, NotFinite
from rlhf_ray.batch import concat
from rlhf_ray.config import Config
from rlhf_ray.experience import Rollout, ScoredRollout
from rlhf_ray.models.activations import fuse_activations
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.models.policy import check_policy, response_logprobs
from rlhf_ray.models.precision import Precision, products
from rlhf_ray.workers.rewards import Reward, build


class Scoring(Config):
    """What a response is worth."""

    rewards: dict[str, Reward] = Field(
        {"model": Reward()},
        min_length=1,
        description="The rewards by names of your own; the score is their weighted sum.",
    )
    clip: float = Field(
        5.0, gt=0, description="The sum is clipped to this; the reward model's unit is its standard deviation."
    )
    missing_eos_penalty: float = Field(1.0, ge=0, description="Taken off the score of a response that did not end.")
    rows: int = Field(64, ge=1, description="Responses scored together.")
    precision: Precision = Field(
        "fp32", description="Of the models' products; bf16 is faster where the machine multiplies it."
    )


class Scorer:
    """Judges with the models in two folders. Where others have the reference, its log-probabilities are NaN here."""

    def __init__(
        self,
        reward: str,
        reference: str,
        scoring: Scoring,
        temperature: float,
        device: str = "cpu",
        has_reference: bool = True,
    ) -> None:
        self.scoring = scoring
        self.temperature = temperature
        self.device = device
        tokenizer = load_tokenizer(reference)
        self.rewards = {name: build(kind, reward, tokenizer, device) for name, kind in scoring.rewards.items()}
        self.weights = torch.tensor([kind.weight for kind in scoring.rewards.values()], device=device)
        self.reference = fuse_activations(load_causal(reference)).to(device) if has_reference else None
        if self.reference:
            check_policy(self.reference, reference)

    def score(self, rollout: Rollout) -> ScoredRollout:
        """Judge every response. Raises NotFinite, naming the sample, where a score is not a number."""
        with products(self.scoring.precision, self.device):
            return concat([self._score(item.to(self.device)).to("cpu") for item in rollout.split(self.scoring.rows)])

    @torch.no_grad()
    def _score(self, rollout: Rollout) -> ScoredRollout:
        parts = torch.stack([_finite(name, reward(rollout), rollout) for name, reward in self.rewards.items()], dim=1)
        raw = (parts * self.weights).sum(1)
        penalty = self.scoring.missing_eos_penalty * (~rollout.ended)
        clipped = raw.abs() > self.scoring.clip
        score = raw.clamp(-self.scoring.clip, self.scoring.clip) - penalty
        return ScoredRollout(rollout, score, parts, clipped, self._ref_logprobs(rollout))

    def _ref_logprobs(self, rollout: Rollout) -> Tensor:
        if self.reference is None:
            return torch.full_like(rollout.logprobs, torch.nan)
        return response_logprobs(self.reference, rollout, self.temperature)[0]


def _finite(name: str, scores: Tensor, rollout: Rollout) -> Tensor:
    wrong = (~scores.isfinite()).nonzero()[:, 0]
    if len(wrong):
        sample = int(rollout.prompt.sample[wrong[0]])
        raise NotFinite(
            Alarm(
                "score",
                f"the reward {name!r} gave {float(scores[wrong[0]])} for sample {sample}",
                "a reward model whose training diverged, or a function or server that divides by 0",
                "look at that reward; a reward model is trained again with a lower reward.lr",
            )
        )
    return scores
