"""What one YAML file means: the parts of a run, and the checks that need more than one of them."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from rlhf_ray.config import BadInput, Config, check
from rlhf_ray.evaluation.compare import Evaluation
from rlhf_ray.feedback.collection import Collection
from rlhf_ray.feedback.data import Data
from rlhf_ray.incidents.world import PROMPT_COLUMNS, World
from rlhf_ray.models.adapters import Lora, check_targets
from rlhf_ray.models.loading import context_length
from rlhf_ray.training.assess import Returns
from rlhf_ray.training.boards import BoardName
from rlhf_ray.training.ppo import PPO
from rlhf_ray.training.reward import RewardTraining
from rlhf_ray.training.search import Search, read_result, stage_of
from rlhf_ray.training.sft import SFT
from rlhf_ray.training.tripwires import Tripwires
from rlhf_ray.workers.learner import Learning
from rlhf_ray.workers.sampler import Sampling
from rlhf_ray.workers.scorer import Scoring

# As Ray and Kubernetes label machines.
Name = Annotated[str, StringConstraints(pattern=r"^([a-z0-9.-]+/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?$")]
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?$")]
Searched = Annotated[str, StringConstraints(pattern=r"^search:[\w-]+$")]


class Cluster(Config):
    """How many actors of each role, and what each may use.

    Roles that take turns share their seats. Where rollouts are begun ahead, learners have seats of their own, if there
    is room.
    """

    samplers: int = Field(1, ge=1, description="Actors that generate rollouts.")
    scorers: int = Field(1, ge=1, description="Actors that score them.")
    learners: int = Field(
        1, ge=1, description="Actors that update the policy together; also the workers of SFT and reward training."
    )
    shard: bool = Field(
        False, description="Learners hold a part of each model (FSDP2), for models that do not fit one of them."
    )
    weights: Literal["store", "collective"] = Field(
        "store", description="How samplers get new weights: each from the object store, or all at once (gloo, NCCL)."
    )
    gpus_each: float = Field(
        0, ge=0, description="GPUs of a seat; 0 runs on CPUs, 0.5 puts two seats on one GPU, above 1 only whole ones."
    )
    threads_each: int = Field(2, ge=1, description="CPU threads of a seat, and of each process on it.")
    fit_threads: int | None = Field(
        None, ge=1, description="CPU threads of a worker of SFT and reward training, which run alone; none: a seat's."
    )
    learn_on: dict[Name, Label] = Field(
        {}, description="Labels of the machines for seats on which learners sit, such as {role: learner}; {}: any."
    )
    speak_on: dict[Name, Label] = Field({}, description="Labels of the machines for all other seats; {}: any.")
    grows: bool = Field(
        False, description="Machines join when work waits for them: room that lacks is waited for, not an error."
    )
    deadline_s: float = Field(600, gt=0, description="Longest wait for one call to an actor, or for a seat.")

    @property
    def fitting_threads(self) -> int:
        return self.fit_threads or self.threads_each


class RunConfig(Config):
    """A run: its folder, its seed, and each stage's settings."""

    folder: str = Field(
        "runs/unnamed", min_length=1, description="Where runs of this config lie; each seed has a folder there."
    )
    storage: str = Field(
        "none",
        min_length=1,
        description="Where finished stages and PPO's checkpoints are kept, too, and brought from where the folder "
        "lacks them: a folder, s3://BUCKET/… or gs://BUCKET/…; none: the folder alone.",
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
    boards: list[BoardName] = Field(
        [],
        description="Where metrics are shown beside JSON lines and TensorBoard; WANDB_MODE, MLFLOW_TRACKING_URI and "
        "such say how.",
    )
    data: Data | Literal["demo"] = Field(
        "demo", description="Feedback and prompts of one's own; demo: the demo's world and its simulated people."
    )
    world: World = World()
    collection: Collection = Collection()
    sampling: Sampling = Sampling()
    reward: RewardTraining | Searched = Field(
        RewardTraining(), description="How the reward model is trained, or search:NAME for the best of that search."
    )
    search: Search | Literal["none"] = Field("none", description="The search for a better reward model.")
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
        self._reward_fits()
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
        if self.cluster != "none":
            self._can_place(self.cluster)
            if self.cluster.shard:
                self._can_shard(learners)
        reward_batch = 0 if isinstance(self.reward, str) else self.reward.batch
        for name, batch in (("reward", reward_batch), ("sft", 0 if self.sft == "none" else self.sft.batch)):
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

    def _reward_fits(self) -> None:
        width = self.sampling.prompt_tokens + self.sampling.response_tokens + 1
        if isinstance(self.reward, RewardTraining) and self.reward.most_tokens < width:
            raise ValueError(
                f"reward.most_tokens: expected at least sampling.prompt_tokens + sampling.response_tokens + 1 "
                f"({width}), got {self.reward.most_tokens}"
            )
        if self.search != "none":
            self.search.check_space(self.first_training)
        for name, reward in self.scoring.rewards.items():
            if reward.members > 1 and not self.searched:
                raise ValueError(
                    f"scoring.rewards.{name}.members: expected 1 without reward=search:NAME, whose best models they "
                    f"are, got {reward.members}"
                )

    def _can_place(self, cluster: Cluster) -> None:
        """A seat's GPUs must be such as can be given, and a label must have a seat that it chooses the machine of."""
        if cluster.gpus_each > 1 and cluster.gpus_each % 1:
            raise ValueError(f"cluster.gpus_each: expected at most 1 or a whole number, got {cluster.gpus_each:g}")
        if cluster.speak_on and self.seats == cluster.learners:
            raise ValueError(
                "cluster.speak_on: expected seats on which nobody learns (ppo.lead=1, or more samplers than learners), "
                "got none"
            )

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
    def searched(self) -> str | None:
        """The stage of the search whose best model is the run's reward model; None where the run trains its own."""
        return stage_of(self.reward.removeprefix("search:")) if isinstance(self.reward, str) else None

    @property
    def first_training(self) -> RewardTraining:
        """How a search begins: as the run trains its reward model, or by default."""
        return RewardTraining() if isinstance(self.reward, str) else self.reward

    @property
    def reward_training(self) -> RewardTraining:
        """How the reward model is or was trained. Raises BadInput where that is the outcome of a missing search."""
        if not self.searched:
            return self.first_training
        folder = self.run_folder / self.searched
        return check(RewardTraining, read_result(folder)["best"]["training"], str(folder))

    @property
    def speaking_seats(self) -> int:
        """Seats of those who speak and judge, which take turns."""
        return 1 if self.cluster == "none" else max(self.cluster.samplers, self.cluster.scorers)

    @property
    def first_learning_seat(self) -> int:
        """Learners take turns with the others on the first seats; where rollouts are begun ahead they sit behind."""
        return self.speaking_seats if self.ppo.lead else 0

    @property
    def seats(self) -> int:
        """Places for one worker of each role that takes turns there, if there is room for all."""
        learners = 1 if self.cluster == "none" else self.cluster.learners
        return max(self.speaking_seats, self.first_learning_seat + learners)

    @property
    def tolerance(self) -> float:
        """Nats by which sampler and learner may disagree on a token at equal weights, whichever rounds more."""
        learner = Sampling(precision=self.learning.precision)
        return max(self.sampling.tolerance, learner.tolerance)

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
        judged = self.reward_training.most_tokens
        taught = judged if self.sft == "none" else self.sft.most_tokens
        return min(judged, taught, context_length(self.base))

    def searched_stages(self) -> tuple[str, ...]:
        """The search whose best model is the run's reward model, if the run does not train its own.

        Raises BadInput where it is missing, reads less than a response, or has fewer members than it is asked for.
        """
        if not self.searched:
            return ()
        width, most = self.sampling.prompt_tokens + self.sampling.response_tokens + 1, self.reward_training.most_tokens
        if most < width:
            raise BadInput(
                f"reward: expected a search with reward.most_tokens of at least {width} (sampling.prompt_tokens + "
                f"sampling.response_tokens + 1), got {most}"
            )
        there = len(read_result(self.run_folder / self.searched)["models"])
        for name, reward in self.scoring.rewards.items():
            if reward.members > there:
                raise BadInput(
                    f"scoring.rewards.{name}.members: expected at most {there}, the models that {self.searched} kept "
                    f"(search.keep), got {reward.members}"
                )
        return (self.searched,)

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
