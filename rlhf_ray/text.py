"""Tokenizer in, PromptBatch out, and back."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from rlhf_ray.chat import plain_ids, prompt_ids, prompt_text
from rlhf_ray.config import BadInput
from rlhf_ray.experience import PromptBatch, Rollout


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], width: int) -> PromptBatch:
    """Left-pad the prompts to `width` tokens and number them 0, 1, 2, …; each is a group of its own.

    The width is fixed, not that of the longest prompt, since a sample must not depend on its neighbours.
    Raises BadInput where a prompt is empty or longer than the width.
    """
    tokens = torch.full((len(prompts), width), tokenizer.pad_token_id)
    mask = torch.zeros(len(prompts), width, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids = prompt_ids(tokenizer, prompt)
        if not 0 < len(ids) <= width:
            start = prompt[:60].encode("unicode_escape").decode()
            raise BadInput(f"prompt: expected 1 to {width} tokens, got {len(ids)} in prompt {row} ({start!r} …)")
        tokens[row, width - len(ids) :] = torch.tensor(ids)
        mask[row, width - len(ids) :] = True
    each = torch.arange(len(prompts))
    return PromptBatch(tokens, mask, each, each)


def encode_pair(
    tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str, most_tokens: int
) -> tuple[list[int], int]:
    """Tokens of a prompt, its completion and the end-of-text token, and how many of them are the prompt's.

    Prompt and completion are encoded apart, as in generation, and the prompt alone goes through a chat template.
    Raises BadInput where they are longer than `most_tokens`.
    """
    asked, said = prompt_ids(tokenizer, prompt), plain_ids(tokenizer, completion)
    ids = [*asked, *said, tokenizer.eos_token_id]
    if len(ids) > most_tokens:
        start = prompt[:60].encode("unicode_escape").decode()
        raise BadInput(
            f"completion: expected at most {most_tokens} tokens with its prompt, got {len(ids)} ({start!r} …)"
        )
    return ids, len(asked)


def check_pairs(tokenizer: PreTrainedTokenizerBase, rows: Iterable[dict[str, Any]], most_tokens: int) -> None:
    """Raises BadInput, at the door, where a row's `prompt` and `completion` are longer than `most_tokens`."""
    for row in rows:
        encode_pair(tokenizer, row["prompt"], row["completion"], most_tokens)


def as_completions(pairs: Iterable[dict[str, Any]], side: str) -> list[dict[str, Any]]:
    """The `prompt, completion` of each preference's `chosen` or `rejected` side."""
    return [{"prompt": pair["prompt"], "completion": pair[side]} for pair in pairs]


def fits(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str, most_tokens: int) -> bool:
    """Whether prompt, completion and end-of-text are at most so many tokens."""
    return len(prompt_ids(tokenizer, prompt)) + len(plain_ids(tokenizer, completion)) < most_tokens


def pad_right(sequences: Sequence[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens `B T` and their mask `B T`, padded behind."""
    width = max(map(len, sequences))
    tokens = torch.tensor([ids + [pad] * (width - len(ids)) for ids in sequences])
    mask = torch.tensor([[True] * len(ids) + [False] * (width - len(ids)) for ids in sequences])
    return tokens, mask


def decode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: PromptBatch) -> list[str]:
    """The text of each prompt."""
    each = zip(prompts.tokens, prompts.mask, strict=True)
    return [prompt_text(tokenizer, tokens[mask].tolist()) for tokens, mask in each]


def decode_responses(tokenizer: PreTrainedTokenizerBase, rollout: Rollout) -> list[str]:
    """The text of each response, without the end-of-text token that may close it."""
    texts = []
    for tokens, mask, ended in zip(rollout.tokens, rollout.mask, rollout.ended, strict=True):
        ids = tokens[mask].tolist()
        texts.append(tokenizer.decode(ids[:-1] if ended else ids))
    return texts
