"""A small run of PPO on plain workers, for tests of the loop and of what watches it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from rlhf_ray.alarm import Alarm
from rlhf_ray.data.prompts import PromptStream
from rlhf_ray.experience import Metrics, Rollout, ScoredRollout
from rlhf_ray.models.adapters import Lora
from rlhf_ray.training.assess import Returns
from rlhf_ray.training.checkpoint import Checkpoints, Progress
from rlhf_ray.training.ppo import PPO, train
from rlhf_ray.training.reference import OwnReference
from rlhf_ray.training.tripwires import Tripwires, watch
from rlhf_ray.workers.learner import Learner, Learning
from rlhf_ray.workers.sampler import Sampler, Sampling

TEXTS = ["the quick", "brown fox", "jumps", "over the lazy", "dog"]
SAMPLING = Sampling(temperature=1.0, prompt_tokens=12, response_tokens=8, rows=32)
LIKED = 30


class Judge:
    """Likes one token: the score is its share of the response."""

    def score(self, rollout: Rollout) -> ScoredRollout:
        liked = ((rollout.tokens == LIKED) & rollout.mask).sum(1)
        score = liked / rollout.mask.sum(1)
        return ScoredRollout(rollout, score, score[:, None], torch.zeros_like(rollout.ended), rollout.logprobs)


class Run:
    """Plain workers on tiny models; what was reported is in `metrics`, what was warned of in `warnings`."""

    def __init__(self, policy: str, reward: str, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        self.policy, self.reward = policy, reward
        self.folder = folder
        self.tokenizer = tokenizer
        self.sampler = Sampler(policy, SAMPLING, run_seed=3)
        self.judge = Judge()
        self.on_policy = True
        self.lead = 0
        self.lora: Lora | None = None
        self.opinion: Callable[[ScoredRollout], Metrics] = lambda scored: {}
        self.prepare: Callable[[Learner], None] = lambda learner: None
        self.metrics: list[Metrics] = []
        self.warnings: list[Alarm] = []

    def stream(self, size: int, samples: int = 1) -> PromptStream:
        return PromptStream(TEXTS, self.tokenizer, size=size, width=12, seed=3, samples=samples)

    def train(
        self,
        *,
        steps: int,
        episodes: int = 16,
        lr: float = 1e-3,
        returns: Returns | None = None,
        tripwires: Tripwires | None = None,
        until: int | None = None,
        begin: Progress | None = None,
    ) -> list[Metrics]:
        """Train, or go on from the newest checkpoint. `until` breaks the run off after that step, as a kill would."""
        learning = Learning(epochs=2, minibatch=16, policy_lr=lr, critic_lr=lr, schedule="linear")
        returns = returns or Returns()
        critic = self.reward if returns.needs_critic else None
        self.learner = Learner(self.policy, critic, learning, SAMPLING.temperature, 3, steps, lora=self.lora)
        self.prepare(self.learner)
        checkpoints = Checkpoints(self.folder, every=2)

        def report(step: int, scored: ScoredRollout, metrics: Metrics) -> bool:
            assert step == len(self.metrics) + 1
            self.metrics.append(metrics | self.opinion(scored))
            is_good = watch(self.metrics, tripwires, self.warnings.append) if tripwires else True
            if step == until:
                raise KeyboardInterrupt
            return is_good

        train(
            self.sampler,
            OwnReference(self.judge, self.learner) if self.lora else self.judge,
            self.learner,
            self.stream(episodes, 4 if returns.needs_groups else 1),
            PPO(steps=steps, episodes=episodes, lead=self.lead),
            returns,
            report,
            checkpoints,
            begin or checkpoints.restore(self.learner),
            on_policy=self.on_policy,
        )
        return self.metrics


@pytest.fixture
def new_run(
    policy_folder: str,
    reward_folder: str,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[], Run]:
    return lambda: Run(policy_folder, reward_folder, tokenizer, tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def run(new_run: Callable[[], Run]) -> Run:
    return new_run()


@pytest.fixture
def scored(rollout_of: Callable) -> ScoredRollout:
    """Two responses with two rewards each."""
    rollout = rollout_of([[5, 6], [7]], [[20, 21, 0], [22, 23]])
    parts = torch.tensor([[0.25, 0.75], [0.5, -0.5]])
    return ScoredRollout(rollout, torch.tensor([0.5, -0.5]), parts, torch.zeros_like(rollout.ended), rollout.logprobs)
