"""TRL's last PPO on the models and prompts of a finished run: `python benchmarks/trl_ppo.py RUN OUT STEPS SEED`.

`peer_trl.py` calls this with TRL 1.12 in front of the path. The settings are those of the run's config, as far as TRL
has them; it clips no gradient and no score. With STEPS 0 nothing is learned: one batch is looked at from both sides,
and `OUT/differences.json` says how far apart they are.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from trl.experimental.ppo import PPOTrainer, ppo_trainer
from trl_trainer import build

from rlhf_ray.algorithms.kl import kl_per_token
from rlhf_ray.algorithms.losses import policy_loss
from rlhf_ray.algorithms.masked import masked_mean, whiten
from rlhf_ray.algorithms.returns import generalized_advantages, shape_rewards
from rlhf_ray.chat import plain_ids
from rlhf_ray.config import load
from rlhf_ray.data.tables import read_table
from rlhf_ray.experience import PromptBatch, Rollout
from rlhf_ray.models.loading import load_causal, load_classifier, load_tokenizer
from rlhf_ray.models.policy import response_logprobs
from rlhf_ray.models.scalar import Scalar, response_scores, response_values
from rlhf_ray.runs import RunConfig


def normalised(folder: Path) -> PreTrainedModel:
    """The run's reward model, whose head gives the normalised score itself."""
    model = load_classifier(str(folder))
    std, mean, old = model.config.score_std, model.config.score_mean, model.score
    model.score = nn.Linear(old.in_features, 1)
    with torch.no_grad():
        model.score.weight.copy_(old.weight / std)
        model.score.bias.fill_(-mean / std)
    return model


def trainer(run: Path, out: Path, steps: int, seed: int, begin: str = "", **changes: Any) -> PPOTrainer:
    """TRL's trainer with the settings of the run. The policy begins as the SFT model, or as the one in `begin`."""
    config = load(RunConfig, run / "config.yaml")
    ppo, learning, returns, sampling = config.ppo, config.learning, config.returns, config.sampling
    tokenizer = load_tokenizer(str(run / "sft"))
    prompts = [row["prompt"] for row in read_table(run / "world" / "prompts.parquet", ("prompt",))]
    settings = {
        "output_dir": str(out),
        "per_device_train_batch_size": ppo.episodes,
        "num_mini_batches": ppo.episodes // learning.minibatch,
        "total_episodes": steps * ppo.episodes,
        "local_rollout_forward_batch_size": sampling.rows,
        "response_length": sampling.response_tokens,
        "temperature": sampling.temperature,
        "missing_eos_penalty": config.scoring.missing_eos_penalty,
        "num_ppo_epochs": learning.epochs,
        "kl_coef": returns.kl_coef,
        "kl_estimator": returns.kl_estimator,
        "cliprange": learning.clip,
        "cliprange_value": learning.value_clip,
        "gamma": returns.gamma,
        "lam": returns.lam,
        "seed": seed,
        "bf16": False,
    }
    return build(
        load_causal(begin or str(run / "sft")),
        load_causal(str(run / "sft")),
        normalised(run / "reward"),
        normalised(run / "reward"),
        tokenizer,
        [plain_ids(tokenizer, prompt) for prompt in prompts],
        settings | changes,
        rates=(learning.policy_lr, learning.critic_lr),
        steps=steps,
        betas=learning.adam_betas,
        eps=learning.adam_eps,
    )


def learn(run: Path, out: Path, steps: int, seed: int) -> None:
    taught = trainer(run, out, steps, seed)
    taught.train()
    taught.policy_model.save_pretrained(out / "policy")
    taught.processing_class.save_pretrained(out / "policy")
    curve = [entry for entry in taught.state.log_history if "objective/scores" in entry]
    (out / "curve.json").write_text(json.dumps(curve, indent=1), encoding="utf-8")


class Witness:
    """Stands in TRL's module and remembers what its functions were given and what they gave."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[tuple[Any, ...], Any]]] = {}

    def watch(self, name: str) -> None:
        original, seen = getattr(ppo_trainer, name), self.seen.setdefault(name, [])

        def watched(*given: Any, **more: Any) -> Any:
            result = original(*given, **more)
            kept = tuple(part.detach().clone() if isinstance(part, Tensor) else part for part in given)
            seen.append((kept, result.detach().clone() if isinstance(result, Tensor) else result))
            return result

        setattr(ppo_trainer, name, watched)


def read(queries: Tensor, spoken: Tensor, pad: int, eos: int) -> Rollout:
    """TRL's batch as a rollout: a response ends with its first end-of-text, or where the width does."""
    responses = spoken[:, queries.shape[1] :]
    after_end = (responses == eos).int().cumsum(1) - (responses == eos).int() > 0
    each = torch.arange(len(queries))
    prompt = PromptBatch(queries, queries != pad, each, each)
    ended = (responses == eos).any(1)
    return Rollout(prompt, responses, ~after_end, torch.zeros(responses.shape), ended, torch.zeros_like(prompt.sample))


def differences(run: Path, out: Path, seed: int) -> dict[str, float]:
    """The largest difference between TRL and us on one batch that TRL drew, in each of what both define alike.

    The policy is the run's tuned one, so that it has left the reference. Lambda is 1: with another one TRL's credit
    also depends on where it puts the score, which is one token later than we do. TRL whitens by the sample's variance,
    we by the population's: the factor between the two is taken out. The policy loss is that of a second epoch over
    the batch, when ratios are no longer 1.
    """
    np.random.permutation = np.arange  # both sides read the batch in its order
    witness = Witness()
    for name in ("batch_generation", "selective_log_softmax", "get_reward", "masked_whiten", "masked_mean"):
        witness.watch(name)
    tuned, sft, reward = (str(run / part) for part in ("ppo/policy", "sft", "reward"))
    more = {"lam": 1.0, "num_mini_batches": 1, "local_rollout_forward_batch_size": 10**6, "num_ppo_epochs": 2}
    taught = trainer(run, out, 1, seed, tuned, **more)
    policy, reference, critic = load_causal(tuned), load_causal(sft), Scalar.load(reward)
    config, tokenizer = load(RunConfig, run / "config.yaml"), taught.processing_class
    taught.train()

    (_, queries, *_), (spoken, _) = witness.seen["batch_generation"][0]
    rollout = read(queries, spoken, tokenizer.pad_token_id, tokenizer.eos_token_id)
    mask, start, width = rollout.mask, queries.shape[1] - 1, rollout.mask.shape[1]
    their_logprobs, their_ref, *_, their_new = [result for _, result in witness.seen["selective_log_softmax"]]
    (their_all_values, _, _), (_, their_scores, _) = [result for _, result in witness.seen["get_reward"]]
    (their_raw, _), their_advantages = witness.seen["masked_whiten"][0]
    *_, (_, their_loss), _ = witness.seen["masked_mean"]  # of each epoch the last but one

    with torch.no_grad():
        logprobs = response_logprobs(policy, rollout, config.sampling.temperature)[0]
        ref_logprobs = response_logprobs(reference, rollout, config.sampling.temperature)[0]
        values = response_values(critic, rollout)
        scores = response_scores(critic, rollout, tokenizer.eos_token_id)
    kl = kl_per_token(logprobs, ref_logprobs)
    credit = shape_rewards(
        scores - config.scoring.missing_eos_penalty * ~rollout.ended, kl, mask, config.returns.kl_coef
    )
    raw, _ = generalized_advantages(credit, values, mask, gamma=1.0, lam=1.0)
    count = int(mask.sum())
    advantages = whiten(raw, mask) * ((count - 1) / count) ** 0.5
    losses = policy_loss(their_new, logprobs, advantages, config.learning.clip)

    def worst(difference: Tensor) -> float:
        return float(difference[mask].abs().max())

    return {
        "log-probability a token": worst(logprobs - their_logprobs),
        "log-probability of the reference a token": worst(ref_logprobs - their_ref),
        "KL a token": worst(kl - (their_logprobs - their_ref)),
        "value a token": worst(values - their_all_values[:, start : start + width, 0]),
        "score a response": float((scores - their_scores.squeeze()).abs().max()),
        "advantage a token, not whitened": worst(raw - their_raw),
        "advantage a token": worst(advantages - their_advantages),
        "policy loss of the second epoch": abs(float(masked_mean(losses, mask)) - float(their_loss)),
        "the same, how far its ratios are from 1": worst((their_new - logprobs).exp() - 1),
    }


def main(run: Path, out: Path, steps: int, seed: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if steps:
        learn(run, out, steps, seed)
    else:
        (out / "differences.json").write_text(json.dumps(differences(run, out, seed), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
