"""The reference where it needs no second copy: the learner's own base, with the adapters off."""

from dataclasses import dataclass, replace

from rlhf_ray.experience import Rollout, ScoredRollout
from rlhf_ray.training.ahead import Judges
from rlhf_ray.training.ppo import Improves


@dataclass(frozen=True)
class OwnReference:
    """Judges as the scorer does, and asks the learner what its policy thought before it learned anything."""

    scorer: Judges
    learner: Improves

    def score(self, rollout: Rollout) -> ScoredRollout:
        return replace(self.scorer.score(rollout), ref_logprobs=self.learner.refer(rollout))
