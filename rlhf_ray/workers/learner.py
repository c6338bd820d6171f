"""The Learner improves: it holds policy and perhaps critic, remembers what they thought, and takes PPO's steps."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from rlhf_ray.alarm import Alarm, NotFinite, Tripped
from rlhf_ray.algorithms.kl import NO_PENALTY, KlPenalty, kl_per_token
from rlhf_ray.algorithms.losses import clipped_share, clipped_values, policy_loss, value_loss
from rlhf_ray.batch import concat
from rlhf_ray.experience import CriticEstimates, CriticExperience, Estimates, Experience, Metrics, Rollout
from rlhf_ray.models.activations import fuse_activations
from rlhf_ray.models.adapters import Lora, adapt, adapters_off
from rlhf_ray.models.loading import load_causal
from rlhf_ray.models.memory import recompute_activations, shard, shard_policy
from rlhf_ray.models.plain import changing_parameters, plain, plain_parameters
from rlhf_ray.models.policy import check_policy, response_logprobs, side_by_side
from rlhf_ray.models.precision import products
from rlhf_ray.models.scalar import Scalar, response_values
from rlhf_ray.seeds import derive
from rlhf_ray.weights import LocalWeights, pack
from rlhf_ray.workers.learning import Learning
from rlhf_ray.workers.pieces import cut
from rlhf_ray.workers.ranks import Ranks
from rlhf_ray.workers.student import Student

RATIO_TOLERANCE = 1e-3  # nats; the same pieces in the same precision are far nearer, in float32 as in bf16
POLICY, ADAPTERS = "policy", "adapters"  # names of folders, the former also of a student
PLAIN = f"{POLICY}/model.safetensors"
NO_STEP = "no step was taken with it"
PATIENCE = 1.5  # inner epochs end at this many times the target KL, as OpenAI's Spinning Up has it


class Learner:
    """A policy and perhaps a critic that learn. `total_steps` is the length of the schedule in calls of `update`.

    A sampler that spoke with this very version of the weights has computed the log-probabilities already. Within how
    many nats its word is taken for them says `trust`; without it they are always computed here.
    """

    def __init__(
        self,
        policy: str,
        critic: str | None,
        learning: Learning,
        temperature: float,
        run_seed: int,
        total_steps: int,
        device: str = "cpu",
        lora: Lora | None = None,
        sharded: bool = False,
        trust: float | None = None,
    ) -> None:
        self.learning = learning
        self.temperature = temperature
        self.run_seed = run_seed
        self.total_steps = total_steps
        self.device = device
        self.lora = lora
        self.sharded = sharded
        self.trust = trust
        self.ranks = Ranks()
        self.updates = 0
        self.policy = fuse_activations(load_causal(policy))
        check_policy(self.policy, policy)
        self.critic = Scalar.load(critic) if critic else None
        for name, model in self._transformers().items():
            if lora:
                adapt(model, lora, derive(run_seed, "adapters", name))
            if learning.gradient_checkpointing:
                recompute_activations(model)
        self.students = [] if sharded else self._students()

    def join(self, place: str, rank: int, size: int, deadline_s: float) -> None:
        """Learn together with others, as number `rank` of `size` that meet at `place`, from the same models.

        Where models are to be sharded nobody could learn before: each rank gets its part of them now.
        """
        self.ranks = Ranks.join(place, rank, size, self.device, deadline_s)
        if self.sharded:
            mesh = self.ranks.mesh()
            shard_policy(self.policy, mesh)
            if self.critic:
                shard(self.critic.classifier.base_model, mesh)
                shard(self.critic.classifier.score, mesh)
            self.students = self._students()

    def weights(self) -> LocalWeights:
        """What the policy would weigh without adapters and shards. Of sharded models all ranks must be asked."""
        return pack((tensor for _, tensor in plain_parameters(self.policy)), self.version())

    def version(self) -> int:
        return self.updates

    @torch.no_grad()
    def estimate(self, rollout: Rollout) -> Estimates:
        """Log-probabilities and values before learning, in the pieces in which `update` will compute them first.

        Log-probabilities are the sampler's own where it spoke with this version and there is trust. Of a rank among
        several, those of its own rows: `Ranks.rows` says which they are.
        """
        is_known = self._is_known(rollout)
        return concat([self._estimate(piece, is_known).to("cpu") for piece in self._pieces(rollout)])

    @torch.no_grad()
    def refer(self, rollout: Rollout) -> Float[Tensor, "B R"]:
        """Log-probabilities of the policy as it was before it got adapters, in the same pieces as `estimate`."""
        with adapters_off(self.policy):
            return torch.cat([self._logprobs(piece)[0].cpu() for piece in self._pieces(rollout)])

    def update(self, experience: Experience, penalty: KlPenalty = NO_PENALTY) -> Metrics:
        """All epochs over one batch of experience. Raises NotFinite before a step that is not finite.

        The first minibatch is that of `estimate`: its ratios must be 1, else the two disagree and learning is wrong. To
        a sampler's log-probabilities they are as near to 1 as it is trusted.
        """
        steps: list[Metrics] = []
        before = self._policy_tensors() if self.updates == self.learning.critic_warmup else []
        minibatches = [
            rows for epoch in range(self.learning.epochs) for rows in self._minibatches(len(experience), epoch)
        ]
        for rows in minibatches:
            figures = self._gradient(experience, rows, penalty, first=not steps)
            if self._went_too_far(figures):
                break
            steps.append(figures | self._step())
        lr = float(self.students[0].schedule.get_last_lr()[0])
        for student in self.students:
            student.schedule.step()
        self.updates += 1
        averages = {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]}
        epochs = len(steps) / len(minibatches) * self.learning.epochs
        return averages | {"lr": lr, "policy/epochs": epochs} | _explained_variance(experience) | self._changed(before)

    def save(self, folder: str) -> None:
        """Write the plain policy as a Hugging Face model folder (safetensors), and the adapters beside it."""
        policy = plain(self.policy)
        if self.ranks.rank == 0:
            policy.save_pretrained(Path(folder))
            if self.lora:
                self.policy.save_pretrained(Path(folder, ADAPTERS))

    def remember(self, folder: str) -> None:
        """Write all there is to go on from: models, optimizers, schedules and the count of updates.

        Raises NotFinite, and writes nothing, where a weight is not a number. Of sharded models all ranks must be asked.
        """
        for student in self.students:
            if name := student.not_finite():
                raise NotFinite(_not_finite(f"{student.name}.{name}", "the weights; they are not saved", self.updates))
        policy, students = plain(self.policy), {student.name: student.state() for student in self.students}
        learned = {student.name: student.learned() for student in self.students}
        if self.ranks.rank > 0:
            return
        policy.save_pretrained(Path(folder, POLICY), max_shard_size="1TB")
        for name, tensors in learned.items():
            if name != POLICY or self.lora:
                save_file(tensors, Path(folder, f"{name}.safetensors"))
        torch.save({"updates": self.updates, "students": students}, Path(folder, "learning.pt"))

    def recall(self, folder: str) -> None:
        """Become what `remember` wrote down."""
        state = torch.load(Path(folder, "learning.pt"), map_location="cpu", weights_only=True)
        for student in self.students:
            is_plain = student.name == POLICY and not self.lora
            student.relearn(Path(folder, PLAIN if is_plain else f"{student.name}.safetensors"))
            student.load(state["students"][student.name])
        self.updates = state["updates"]

    def _transformers(self) -> dict[str, PreTrainedModel]:
        critic = {"critic": self.critic.classifier} if self.critic else {}
        return {POLICY: self.policy} | critic

    def _students(self) -> list[Student]:
        c = self.learning
        students = [self._student(POLICY, self.policy, c.policy_lr, warmup=c.critic_warmup)]
        if self.critic:
            students.append(self._student("critic", self.critic, c.critic_lr))
        return students

    def _student(self, name: str, model: nn.Module, lr: float, warmup: int = 0) -> Student:
        """It stays as it is for the first `warmup` calls of `update`."""
        c, linear = self.learning, self.learning.schedule == "linear"
        if not self.sharded:
            model.to(self.device)
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = AdamW(learning, lr=lr, betas=c.adam_betas, eps=c.adam_eps, weight_decay=0.0, fused=True)

        def share(step: int) -> float:
            if step < warmup:
                return 0.0
            return 1 - step / self.total_steps if linear else 1.0

        return Student(name, model, optimizer, LambdaLR(optimizer, share))

    def _pieces(self, rollout: Rollout) -> Iterator[Rollout]:
        """This rank's rows of each minibatch, as many at once as the models take."""
        for rows in torch.arange(len(rollout)).split(self.learning.minibatch):
            for piece in self._cut(rollout, rows):
                yield rollout[piece].to(self.device)

    def _cut(self, rollout: Rollout, rows: Tensor) -> list[Tensor]:
        """This rank's rows of a minibatch, in pieces."""
        _, mask = side_by_side(rollout)
        shares = [replace(self.ranks, rank=rank).share(rows) for rank in range(self.ranks.size)]
        return cut(shares, mask.sum(1), self.learning.microbatch_tokens)[self.ranks.rank]

    def _is_known(self, rollout: Rollout) -> bool:
        """Whether the sampler's log-probabilities are those of the policy as it is now."""
        return self.trust is not None and bool((rollout.version == self.version()).all())

    def _estimate(self, rollout: Rollout, is_known: bool) -> Estimates:
        logprobs = rollout.logprobs if is_known else self._logprobs(rollout)[0]
        return CriticEstimates(logprobs, self._values(self.critic, rollout)) if self.critic else Estimates(logprobs)

    def _logprobs(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        with products(self.learning.precision, self.device):
            return response_logprobs(self.policy, rollout, self.temperature)

    def _values(self, critic: Scalar, rollout: Rollout) -> Tensor:
        with products(self.learning.precision, self.device):
            return response_values(critic, rollout)

    def _minibatches(self, size: int, epoch: int) -> list[Tensor]:
        """Rows of each minibatch: in order in the first epoch, so that its ratios are exactly 1; shuffled later."""
        order = torch.arange(size)
        if epoch:
            generator = torch.Generator().manual_seed(derive(self.run_seed, "minibatches", self.updates, epoch))
            order = torch.randperm(size, generator=generator)
        return list(order.split(self.learning.minibatch))

    def _gradient(self, experience: Experience, rows: Tensor, penalty: KlPenalty, first: bool) -> Metrics:
        """Leave the gradient of a minibatch's mean loss a token in the models; the means of what was seen on the way.

        Every piece is divided by the token count of the whole, so neither the cut into pieces nor the number of ranks
        changes more than the rounding.
        """
        for student in self.students:
            student.optimizer.zero_grad()
        tokens = int(experience.rollout.mask[rows].sum())
        means: dict[str, float] = {}
        furthest = 0.0
        for piece in self._cut(experience.rollout, rows):
            sums, moved = self._backward(experience[piece].to(self.device), penalty, tokens)
            means = {name: means.get(name, 0.0) + figure / tokens for name, figure in sums.items()}
            furthest = max(furthest, moved)
        means = self.ranks.total(means)
        if first:
            self._check_ratio(self.ranks.largest(furthest), self._is_known(experience.rollout))
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise NotFinite(_not_finite(name, f"the loss, which is {mean}; {NO_STEP}", self.updates + 1))
        if not self.sharded:  # what is sharded adds up by itself
            self.ranks.add_up([p.grad for s in self.students for p in s.parameters if p.grad is not None])
        return means

    def _backward(self, experience: Experience, penalty: KlPenalty, tokens: int) -> tuple[Metrics, float]:
        """Sums over the tokens of a piece, after its share of the gradient was added, and the furthest that one moved.

        That is the largest distance, in nats, between a token's log-probability now and before.
        """
        rollout, old, mask = experience.rollout, experience.old, experience.rollout.mask
        logprobs, entropy = self._logprobs(rollout)
        c = self.learning
        of_values: dict[str, Tensor] = {}
        losses = {"loss/policy_avg": policy_loss(logprobs, old.logprobs, experience.advantages, c.clip, c.dual_clip)}
        if penalty.coef:
            divergence = kl_per_token(logprobs, experience.ref_logprobs, penalty.estimator)
            losses["loss/kl_avg"] = penalty.coef * divergence
        if self.critic and isinstance(experience, CriticExperience) and isinstance(old, CriticEstimates):
            values = self._values(self.critic, rollout)
            losses["loss/value_avg"] = value_loss(values, old.values, experience.returns, c.value_clip)
            of_values = {"val/clipfrac_avg": clipped_values(values.detach(), old.values, c.value_clip)}
        sums = {name: torch.where(mask, loss, 0.0).sum() for name, loss in losses.items()}
        torch.stack(list(sums.values())).sum().div(tokens).backward()
        with torch.no_grad():
            log_ratio = torch.where(mask, logprobs - old.logprobs, 0.0)
            seen = {
                "objective/entropy": entropy,
                "policy/approxkl_avg": log_ratio**2 / 2,
                "policy/clipfrac_avg": clipped_share(logprobs, old.logprobs, c.clip),
                "val/ratio": log_ratio.exp(),
            } | of_values
            sums |= {name: torch.where(mask, figure, 0.0).sum() for name, figure in seen.items()}
            return {name: float(figure) for name, figure in sums.items()}, float(log_ratio.abs().max())

    def _check_ratio(self, furthest: float, is_known: bool) -> None:
        limit = self.trust if is_known and self.trust else RATIO_TOLERANCE
        if furthest > limit:
            raise Tripped(
                Alarm(
                    "ratio",
                    f"expected 1 on the first minibatch, got a log-probability that is off by {furthest:.4f}, more "
                    f"than {limit:g} nats",
                    "the policy changed between estimate and update, something in it is random, such as dropout, or "
                    "the sampler that spoke does not have the learner's weights",
                    "leave the models in evaluation mode, and let nothing else change the learner's policy",
                    self.updates + 1,
                )
            )

    def _policy_tensors(self) -> list[Tensor]:
        """What can change in the plain policy. An adapter's own tensors would not do: one of the two begins at 0."""
        return [tensor.detach().clone() for _, tensor in changing_parameters(self.policy)]

    def _changed(self, before: list[Tensor]) -> Metrics:
        """After the policy's first update: the share of its tensors that it has changed, which must be all of them."""
        if not before:
            return {}
        pairs = list(zip(before, self._policy_tensors(), strict=True))
        return {"policy/changed_share": sum(not torch.equal(old, new) for old, new in pairs) / len(pairs)}

    def _went_too_far(self, figures: Metrics) -> bool:
        limit = self.learning.target_kl
        return limit is not None and figures["policy/approxkl_avg"] > PATIENCE * limit

    def _step(self) -> Metrics:
        """Clip the gradients and take a step with each optimizer, if all are finite."""
        names = {"policy": "policy/grad_norm", "critic": "val/grad_norm"}
        norms = {names[s.name]: s.gradient_norm(self.learning.max_grad_norm) for s in self.students}
        for name, norm in norms.items():
            if not math.isfinite(norm):
                raise NotFinite(_not_finite(name, f"the gradient, whose norm is {norm}; {NO_STEP}", self.updates + 1))
        for student in self.students:
            student.optimizer.step()
        return norms


def _not_finite(name: str, where: str, step: int) -> Alarm:
    return Alarm(
        name,
        f"a number is not finite in {where}",
        "a learning rate so large that the model left the range of its numbers, or an input that is not finite",
        "lower learning.policy_lr, learning.critic_lr or scoring.clip",
        step,
    )


def _explained_variance(experience: Experience) -> Metrics:
    """1 - Var(return - value) / Var(return): 1 is a perfect critic, 0 one that only knows the mean."""
    if not (isinstance(experience, CriticExperience) and isinstance(experience.old, CriticEstimates)):
        return {}
    mask = experience.rollout.mask
    returns: Float[Tensor, " N"] = experience.returns[mask]
    errors = returns - experience.old.values[mask]
    return {"val/explained_variance": float(1 - errors.var(correction=0) / (returns.var(correction=0) + 1e-8))}
