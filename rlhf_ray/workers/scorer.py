"""The Scorer judges: a reward model's score a response, and the frozen reference's log-probability a token."""

import torch
from pydantic import Field
from torch import Tensor

from rlhf_ray.alarm import Alarm, NotFinite
from rlhf_ray.batch import concat
from rlhf_ray.config import Config
from rlhf_ray.experience import Rollout, ScoredRollout
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.models.policy import response_logprobs
from rlhf_ray.models.scalar import Scalar, response_scores


class Scoring(Config):
    """What becomes of the reward model's number."""

    clip: float = Field(5.0, gt=0, description="Normalised scores are clipped to this many standard deviations.")
    missing_eos_penalty: float = Field(1.0, ge=0, description="Taken off the score of a response that did not end.")
    rows: int = Field(64, ge=1, description="Responses scored together.")


class Scorer:
    def __init__(self, reward: str, reference: str, scoring: Scoring, temperature: float, device: str = "cpu") -> None:
        self.scoring = scoring
        self.temperature = temperature
        self.device = device
        self.reward = Scalar.load(reward).to(device)
        self.reference = load_causal(reference).to(device)
        self.eos = load_tokenizer(reference).eos_token_id

    def score(self, rollout: Rollout) -> ScoredRollout:
        """Judge every response. Raises NotFinite, naming the sample, where a score is not a number."""
        return concat([self._score(item.to(self.device)).to("cpu") for item in rollout.split(self.scoring.rows)])

    @torch.no_grad()
    def _score(self, rollout: Rollout) -> ScoredRollout:
        raw = response_scores(self.reward, rollout, self.eos)
        _check_finite(raw, rollout)
        penalty = self.scoring.missing_eos_penalty * (~rollout.ended)
        clipped = raw.abs() > self.scoring.clip
        score = raw.clamp(-self.scoring.clip, self.scoring.clip) - penalty
        ref_logprobs, _ = response_logprobs(self.reference, rollout, self.temperature)
        return ScoredRollout(rollout, score, clipped, ref_logprobs)


def _check_finite(scores: Tensor, rollout: Rollout) -> None:
    wrong = (~scores.isfinite()).nonzero()[:, 0]
    if len(wrong):
        sample = int(rollout.prompt.sample[wrong[0]])
        raise NotFinite(
            Alarm(
                "score",
                f"the reward model gave {float(scores[wrong[0]])} for sample {sample}",
                "a reward model whose training diverged, or a damaged model folder",
                "look at the reward model's metrics, and train it again with a lower reward.lr",
            )
        )
