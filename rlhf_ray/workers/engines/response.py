"""What an engine that thinks in lists said, as a rollout."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rlhf_ray.experience import PromptBatch, Rollout


@dataclass(frozen=True)
class Response:
    """The tokens that were said, end-of-text among them if it came, and the log-probability (nats) of each."""

    tokens: Sequence[int]
    logprobs: Sequence[float]


def asked(prompts: PromptBatch) -> list[list[int]]:
    """Each prompt's own tokens, without padding."""
    return [tokens[mask].tolist() for tokens, mask in zip(prompts.tokens, prompts.mask, strict=True)]


def as_rollout(prompts: PromptBatch, responses: Sequence[Response], *, width: int, eos: int, version: int) -> Rollout:
    """The responses side by side, `width` tokens wide.

    Raises RuntimeError, naming the sample, where one is missing or empty, is longer than it may be, or does not say how
    likely each token was.
    """
    if len(responses) != len(prompts):
        raise RuntimeError(f"the engine: expected {len(prompts)} responses, got {len(responses)}")
    tokens = torch.full((len(prompts), width), eos)
    mask = torch.zeros(len(prompts), width, dtype=torch.bool)
    logprobs = torch.zeros(len(prompts), width)
    for row, response in enumerate(responses):
        said = len(response.tokens)
        if not 0 < said <= width or len(response.logprobs) != said:
            raise RuntimeError(
                f"the engine: expected 1 to {width} tokens with as many log-probabilities for sample "
                f"{int(prompts.sample[row])}, got {said} and {len(response.logprobs)}"
            )
        tokens[row, :said] = torch.tensor(response.tokens)
        logprobs[row, :said] = torch.tensor(response.logprobs)
        mask[row, :said] = True
    ended = (mask & (tokens == eos)).any(1)
    return Rollout(prompts, tokens, mask, logprobs, ended, torch.full_like(prompts.sample, version))
