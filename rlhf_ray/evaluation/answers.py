"""What a version of the policy answers to prompts: text, score, KL and length of each."""

from transformers import PreTrainedTokenizerBase

from rlhf_ray.data.tables import Row
from rlhf_ray.experience import Rollout, ScoredRollout
from rlhf_ray.text import decode_responses, encode_prompts
from rlhf_ray.training.ahead import Speaks
from rlhf_ray.training.assess import response_kl
from rlhf_ray.weights import Weights


def sample(
    sampler: Speaks, tokenizer: PreTrainedTokenizerBase, prompts: list[Row], weights: Weights, width: int, seed: int
) -> tuple[list[Row], Rollout]:
    """One answer a prompt: its row with `completion`, `ended` and `tokens`, and the rollout that holds it."""
    batch = encode_prompts(tokenizer, [row["prompt"] for row in prompts], width)
    rollout = sampler.generate(batch, weights, seed=seed)
    texts = decode_responses(tokenizer, rollout)
    lengths = rollout.mask.sum(1).tolist()
    rows = [
        row | {"completion": text, "ended": bool(ended), "tokens": length}
        for row, text, ended, length in zip(prompts, texts, rollout.ended, lengths, strict=True)
    ]
    return rows, rollout


def scored(rows: list[Row], rollout: ScoredRollout) -> list[Row]:
    """The rows with `score` and `kl` (nats a response)."""
    figures = zip(rows, rollout.score.tolist(), response_kl(rollout).tolist(), strict=True)
    return [row | {"score": score, "kl": kl} for row, score, kl in figures]
