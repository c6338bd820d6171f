"""The stream of prompts never ends, leaves nobody out, and can be entered anywhere."""

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from rlhf_ray.config import BadInput
from rlhf_ray.data.prompts import PromptStream
from rlhf_ray.text import decode_prompts

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog"]


def stream(tokenizer: Any, count: int = 8, *, size: int = 3, seed: int = 5) -> PromptStream:
    return PromptStream(WORDS[:count], tokenizer, size=size, width=6, seed=seed)


def said(tokenizer: Any, prompts: PromptStream, steps: int) -> list[str]:
    """The prompts of the first batches, one after the other."""
    return [text for step in range(steps) for text in decode_prompts(tokenizer, prompts.batch(step))]


@given(st.integers(1, 8), st.integers(1, 12), st.integers(0, 2**31))
@examples(max_examples=20)
def test_every_prompt_comes_once_an_epoch(tokenizer: Any, count: int, size: int, seed: int) -> None:
    texts = said(tokenizer, stream(tokenizer, count, size=size, seed=seed), steps=-(-3 * count // size))
    for epoch in range(3):
        assert Counter(texts[epoch * count : (epoch + 1) * count]) == Counter(WORDS[:count])


def test_each_prompt_stands_in_a_group_of_as_many_rows_as_samples_are_asked_for(tokenizer: Any) -> None:
    grouped = PromptStream(WORDS, tokenizer, size=12, width=6, seed=5, samples=3)
    batch, alone = grouped.batch(1), stream(tokenizer, size=4).batch(1)
    assert batch.group.tolist() == [number // 3 for number in range(12)]
    assert batch.sample.tolist() == list(range(12))
    for number in range(3):
        assert torch.equal(batch.tokens[number::3], alone.tokens)


def test_a_batch_depends_on_seed_and_step_alone(tokenizer: Any) -> None:
    walked = stream(tokenizer)
    for step in range(7):
        last = walked.batch(step)
    entered = stream(tokenizer).batch(6)
    assert torch.equal(entered.tokens, last.tokens)
    assert torch.equal(entered.mask, last.mask)


def test_each_epoch_and_each_seed_has_an_order_of_its_own(tokenizer: Any) -> None:
    first, second = (decode_prompts(tokenizer, stream(tokenizer, size=8).batch(step)) for step in (0, 1))
    other = decode_prompts(tokenizer, stream(tokenizer, size=8, seed=6).batch(0))
    assert len({tuple(order) for order in (first, second, other)}) == 3


@pytest.mark.parametrize("step", [0, 1, 9])
def test_the_samples_of_every_batch_are_numbered_from_0(tokenizer: Any, step: int) -> None:
    assert stream(tokenizer).batch(step).sample.tolist() == [0, 1, 2]


def test_a_prompt_that_is_too_long_is_named(tokenizer: Any) -> None:
    with pytest.raises(BadInput, match=r"prompt 1 \('pack my box with"):
        PromptStream(["dog", "pack my box with five dozen jugs"], tokenizer, size=1, width=6, seed=0)


def test_a_stream_of_no_prompts_is_an_error(tokenizer: Any) -> None:
    with pytest.raises(BadInput, match="at least one, got none"):
        PromptStream([], tokenizer, size=1, width=6, seed=0)
