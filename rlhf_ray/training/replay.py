"""Recorded rollouts in the place of a sampler: to learn again, with other settings, from what was said before."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Self

import torch
from pydantic import Field, NonNegativeInt, model_validator
from transformers import PreTrainedTokenizerBase

from rlhf_ray.config import BadInput, Strict, check
from rlhf_ray.data.prompts import PromptStream
from rlhf_ray.data.tables import read_table
from rlhf_ray.durable import file_digest
from rlhf_ray.experience import PromptBatch, Rollout
from rlhf_ray.text import decode_prompts
from rlhf_ray.training.ppo import PPO
from rlhf_ray.weights import Weights
from rlhf_ray.workers.sampler import Sampling

NO_REPLAY = "none"  # the config's word for a run that samples
NOBODYS = -1  # the version of weights that are none of this run's
LogProb = Annotated[float, Field(le=1e-3, allow_inf_nan=False)]  # 0 at most, give or take a rounding


class Said(Strict):
    """What a replay reads of a row of `rollouts.parquet`: a response and its log-probabilities."""

    step: NonNegativeInt
    sample: NonNegativeInt
    prompt: str
    ended: bool
    response_ids: list[NonNegativeInt] = Field(min_length=1)
    logprobs: list[LogProb]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.logprobs) != len(self.response_ids):
            raise ValueError(f"logprobs: expected {len(self.response_ids)}, one a token, got {len(self.logprobs)}")
        return self


def recorded(path: str) -> dict[str, str]:
    """The digest of the file to replay, by its name. Raises BadInput where it is not there."""
    if path == NO_REPLAY:
        return {}
    if not Path(path).is_file():
        raise BadInput(f"replay: expected a rollouts.parquet, found none at {path}")
    return {"replay": file_digest(Path(path))}


class Recording:
    """Says in each step what was said in the step of that number, as a `rollouts.parquet` has it."""

    def __init__(
        self, path: Path, tokenizer: PreTrainedTokenizerBase, prompts: PromptStream, ppo: PPO, sampling: Sampling
    ) -> None:
        """Raises BadInput where a step is not whole, or what was said is not made of this tokenizer's tokens.

        So, too, where it answers another prompt than those of the run: whose truth nobody here knows.
        """
        known = {text: place for place, text in enumerate(decode_prompts(tokenizer, prompts.all))}
        said: dict[int, list[Said]] = {step: [] for step in range(1, ppo.steps + 1)}
        for number, values in enumerate(read_table(path, tuple(Said.model_fields))):
            row = check(Said, values, f"{path}: row {number}")
            if len(row.response_ids) > sampling.response_tokens or max(row.response_ids) >= len(tokenizer):
                raise BadInput(
                    f"{path}: row {number}: response_ids: expected at most {sampling.response_tokens} below "
                    f"{len(tokenizer)}, got {len(row.response_ids)} of up to {max(row.response_ids)}"
                )
            if row.prompt not in known:
                raise BadInput(f"{path}: row {number}: prompt: expected one of this run, got {row.prompt[:80]!r}")
            said.setdefault(row.step, []).append(row)
        for step in range(1, ppo.steps + 1):
            if len(said[step]) != ppo.episodes:
                raise BadInput(f"{path}: step {step}: expected {ppo.episodes} rollouts, got {len(said[step])}")
            fewest = min(Counter(row.prompt for row in said[step]).values())
            if fewest < ppo.samples_per_prompt:
                raise BadInput(
                    f"{path}: step {step}: expected {ppo.samples_per_prompt} rollouts to each prompt "
                    f"(ppo.samples_per_prompt), got {fewest}"
                )
        self.said = {}
        for step in range(1, ppo.steps + 1):
            asked = prompts.all[torch.tensor([known[row.prompt] for row in said[step]])]
            self.said[step] = _rollout(said[step], asked, tokenizer.pad_token_id, sampling.response_tokens)

    def generate(self, prompts: PromptBatch, weights: Weights, seed: int) -> Rollout:
        """What was said in step `seed`. Who would be asked now, and with which weights, changes nothing."""
        return self.said[seed]


def recording_of(
    path: str, tokenizer: PreTrainedTokenizerBase, prompts: PromptStream, ppo: PPO, sampling: Sampling
) -> Recording | None:
    """What the config says to replay, if anything."""
    return None if path == NO_REPLAY else Recording(Path(path), tokenizer, prompts, ppo, sampling)


def _rollout(rows: list[Said], asked: PromptBatch, pad: int, width: int) -> Rollout:
    _, group = torch.unique(asked.tokens, dim=0, return_inverse=True)
    tokens = torch.full((len(rows), width), pad)
    mask, logprobs = torch.zeros(tokens.shape, dtype=torch.bool), torch.zeros(tokens.shape)
    for place, row in enumerate(rows):
        length = len(row.response_ids)
        tokens[place, :length] = torch.tensor(row.response_ids)
        logprobs[place, :length] = torch.tensor(row.logprobs)
        mask[place, :length] = True
    sample = torch.tensor([row.sample for row in rows])
    ended = torch.tensor([row.ended for row in rows])
    prompt = PromptBatch(asked.tokens, asked.mask, sample, group)
    return Rollout(prompt, tokens, mask, logprobs, ended, torch.full_like(sample, NOBODYS))
