"""What one YAML file means: the parts of a run, and the checks that need more than one of them."""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from rlhf_ray.config import BadInput, Config
from rlhf_ray.evaluation.compare import Evaluation
from rlhf_ray.feedback.collection import Collection
from rlhf_ray.feedback.data import Data
from rlhf_ray.incidents.world import PROMPT_COLUMNS, World
from rlhf_ray.models.adapters import Lora, check_targets
from rlhf_ray.models.loading import context_length
from rlhf_ray.training.assess import Returns
from rlhf_ray.training.ppo import PPO
from rlhf_ray.training.reward import RewardTraining
from rlhf_ray.training.sft import SFT
from rlhf_ray.training.tripwires import Tripwires
from rlhf_ray.workers.learner import Learning
from rlhf_ray.workers.sampler import Sampling
from rlhf_ray.workers.scorer import Scoring


class Cluster(Config):
    """How many actors of each role, and what each may use. Roles take turns, so they share their seats."""

    samplers: int = Field(1, ge=1, description="Actors that generate rollouts.")
    scorers: int = Field(1, ge=1, description="Actors that score them.")
    learners: int = Field(
        1, ge=1, description="Actors that update the policy together; also the workers of SFT and reward training."
    )
    shard: bool = Field(
        False, description="Learners hold a part of each model (FSDP2), for models that do not fit one of them."
    )
    gpus_each: float = Field(0, ge=0, description="GPUs of a seat; 0 runs on CPUs.")
    threads_each: int = Field(2, ge=1, description="CPU threads of a seat, and of each process on it.")
    deadline_s: float = Field(600, gt=0, description="Longest wait for one call to an actor.")

    @property
    def seats(self) -> int:
        """Places for one actor of each role: the roles of one iteration work one after the other."""
        return max(self.samplers, self.scorers, self.learners)


class RunConfig(Config):
    """A run: its folder, its seed, and each stage's settings."""

    folder: str = Field(
        "runs/unnamed", min_length=1, description="Where runs of this config lie; each seed has a folder there."
    )
    seed: int = Field(0, ge=0, description="Everything random in the run follows from it.")
    base: str = Field(
        "shipped", min_length=1, description="Model folder or hub name to begin with; shipped: the package's own."
    )
    sft: SFT | Literal["none"] = Field(
        "none", description="Fine-tuning on the corpus; none: the base writes in the form already."
    )
    lora: Lora | Literal["none"] = Field(
        "none",
        description="Adapters that learn in the place of policy, critic and reward model; none: all of them does.",
    )
    save_every: int = Field(5, ge=1, description="Iterations of PPO from one checkpoint to the next.")
    replay: str = Field(
        "none", min_length=1, description="A rollouts.parquet that PPO learns from without a sampler; none: it samples."
    )
    data: Data | Literal["demo"] = Field(
        "demo", description="Feedback and prompts of one's own; demo: the demo's world and its simulated people."
    )
    world: World = World()
    collection: Collection = Collection()
    sampling: Sampling = Sampling()
    reward: RewardTraining = RewardTraining()
    scoring: Scoring = Scoring()
    learning: Learning = Learning()
    returns: Returns = Returns()
    ppo: PPO = PPO()
    tripwires: Tripwires = Tripwires()
    evaluation: Evaluation = Evaluation()
    cluster: Cluster | Literal["none"] = Field(
        Cluster(), description="Ray actors; none: the same classes in one process."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        width = self.sampling.prompt_tokens + self.sampling.response_tokens + 1
        if self.reward.most_tokens < width:
            raise ValueError(
                f"reward.most_tokens: expected at least sampling.prompt_tokens + sampling.response_tokens + 1 "
                f"({width}), got {self.reward.most_tokens}"
            )
        if self.learning.minibatch > self.ppo.episodes:
            raise ValueError(
                f"learning.minibatch: expected at most ppo.episodes ({self.ppo.episodes}), "
                f"got {self.learning.minibatch}"
            )
        smallest = self.ppo.episodes % self.learning.minibatch or self.learning.minibatch
        learners = 1 if self.cluster == "none" else self.cluster.learners
        if learners > smallest:
            raise ValueError(
                f"cluster.learners: expected at most {smallest}, the episodes of the smallest minibatch, got {learners}"
            )
        if self.cluster != "none" and self.cluster.shard:
            self._can_shard(learners)
        for name, batch in (("reward", self.reward.batch), ("sft", 0 if self.sft == "none" else self.sft.batch)):
            if batch % learners:
                raise ValueError(f"{name}.batch: expected a multiple of cluster.learners ({learners}), got {batch}")
        samples = self.ppo.samples_per_prompt
        if self.ppo.episodes % samples:
            raise ValueError(
                f"ppo.samples_per_prompt: expected a divisor of ppo.episodes ({self.ppo.episodes}), got {samples}"
            )
        if self.returns.needs_critic and self.learning.critic_warmup >= self.ppo.steps:
            raise ValueError(
                f"learning.critic_warmup: expected less than ppo.steps ({self.ppo.steps}), "
                f"got {self.learning.critic_warmup}"
            )
        if self.learning.critic_warmup and not self.returns.needs_critic:
            raise ValueError(
                f"learning.critic_warmup: expected 0 with returns.advantage={self.returns.advantage}, which has no "
                f"critic, got {self.learning.critic_warmup}"
            )
        if self.returns.needs_groups and samples < 2:
            raise ValueError(
                f"ppo.samples_per_prompt: expected at least 2 with returns.advantage={self.returns.advantage}, "
                f"got {samples}"
            )
        return self

    def _can_shard(self, learners: int) -> None:
        """Every rank must read as many pieces as the others, or they would wait for each other for ever."""
        if learners < 2:
            raise ValueError(f"cluster.shard: expected cluster.learners of at least 2, got {learners}")
        if self.adapters:
            raise ValueError("cluster.shard: expected lora=none, got adapters, whose base is not split")
        for name, episodes in (("learning.minibatch", self.learning.minibatch), ("ppo.episodes", self.ppo.episodes)):
            if episodes % learners:
                raise ValueError(
                    f"{name}: expected a multiple of cluster.learners ({learners}) with cluster.shard, got {episodes}"
                )

    @property
    def run_folder(self) -> Path:
        return Path(self.folder, f"seed-{self.seed}")

    @property
    def threads(self) -> int:
        """CPU threads of each process that computes; without a cluster OMP_NUM_THREADS says, or a default seat."""
        if self.cluster != "none":
            return self.cluster.threads_each
        said = os.environ.get("OMP_NUM_THREADS", "")
        return int(said) if said.isdigit() and int(said) else Cluster().threads_each

    @property
    def adapters(self) -> Lora | None:
        return None if self.lora == "none" else self.lora

    @property
    def prompt_columns(self) -> tuple[str, ...]:
        """Of a table of prompts. Only the demo knows the truth about its prompts, by which answers can be judged."""
        return PROMPT_COLUMNS if self.data == "demo" else ("prompt",)

    @property
    def most_tokens(self) -> int:
        """Tokens that a judged prompt and completion may have, with end-of-text, in every model that reads them."""
        taught = self.reward.most_tokens if self.sft == "none" else self.sft.most_tokens
        return min(self.reward.most_tokens, taught, context_length(self.base))

    def check_base(self) -> None:
        """The base must be able to read the longest prompt with the longest response, and have the layers to adapt.

        Raises BadInput.
        """
        # A response that was cut off is read with end-of-text behind it.
        width, room = self.sampling.prompt_tokens + self.sampling.response_tokens, context_length(self.base) - 1
        if width > room:
            raise BadInput(
                f"sampling: expected prompt_tokens + response_tokens of at most {room}, one less than the context of "
                f"{self.base}, got {width}"
            )
        if self.adapters:
            check_targets(self.base, self.adapters)
