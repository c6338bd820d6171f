"""Texts become tokens and tokens become the same texts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from rlhf_ray.config import BadInput
from rlhf_ray.models.loading import load_tokenizer
from rlhf_ray.text import decode_prompts, decode_responses, encode_pair, encode_prompts, pad_right

TEXTS = st.text("abcdefghijklmnopqrstuvwxyz .", min_size=1, max_size=20)
EOS = 0


@given(st.lists(TEXTS, min_size=1, max_size=5), st.integers(20, 30))
def test_prompts_come_back_as_they_went_in(tokenizer: Any, prompts: list[str], width: int) -> None:
    batch = encode_prompts(tokenizer, prompts, width)
    assert decode_prompts(tokenizer, batch) == prompts
    assert batch.tokens.shape == batch.mask.shape == (len(prompts), width)
    assert batch.sample.tolist() == list(range(len(prompts)))


@given(TEXTS)
@examples(max_examples=20)
def test_a_prompt_stands_at_the_right_edge_of_its_row(each_folder: str, text: str) -> None:
    tokenizer = load_tokenizer(each_folder)
    batch = encode_prompts(tokenizer, [text], 24)
    length = int(batch.mask.sum())
    assert batch.mask[0].tolist() == [False] * (24 - length) + [True] * length
    assert (batch.tokens[~batch.mask] == tokenizer.pad_token_id).all()


def test_a_prompt_does_not_depend_on_its_neighbours(tokenizer: Any) -> None:
    alone = encode_prompts(tokenizer, ["the dog."], 24)
    beside = encode_prompts(tokenizer, ["the quick brown fox", "the dog."], 24)
    assert torch.equal(beside.tokens[1:], alone.tokens)
    assert torch.equal(beside.mask[1:], alone.mask)


@pytest.mark.parametrize("prompt", ["", "the quick brown fox jumps over"])
def test_a_prompt_that_is_empty_or_too_long_is_named(tokenizer: Any, prompt: str) -> None:
    with pytest.raises(BadInput, match=rf"expected 1 to 4 tokens, got \d+ in prompt 1 \('{prompt}"):
        encode_prompts(tokenizer, ["dog", prompt], 4)


def test_a_prompt_with_odd_characters_is_named_on_one_line(tokenizer: Any) -> None:
    with pytest.raises(BadInput) as caught:
        encode_prompts(tokenizer, ["dog\n\x1b[31m" * 9], 4)
    assert str(caught.value).isprintable()


@given(st.lists(TEXTS, min_size=1, max_size=4), st.data())
def test_a_response_is_read_without_its_end_of_text(
    tokenizer: Any, rollout_of: Callable, texts: list[str], data: st.DataObject
) -> None:
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    ended = data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
    said = [row + [EOS] * end for row, end in zip(ids, ended, strict=True)]
    rollout = rollout_of([[5]] * len(texts), said)
    assert decode_responses(tokenizer, rollout) == texts


def test_a_response_of_nothing_but_end_of_text_is_empty(tokenizer: Any, rollout_of: Callable) -> None:
    assert decode_responses(tokenizer, rollout_of([[5], [6]], [[EOS], [7, 8, EOS]]))[0] == ""


@given(TEXTS, TEXTS)
def test_a_pair_is_prompt_completion_and_end_of_text(tokenizer: Any, prompt: str, completion: str) -> None:
    ids, asked = encode_pair(tokenizer, prompt, completion, most_tokens=50)
    assert tokenizer.decode(ids[:asked]) == prompt
    assert tokenizer.decode(ids[asked:-1]) == completion
    assert ids[-1] == EOS


def test_a_pair_that_is_too_long_is_named(tokenizer: Any) -> None:
    ids, _ = encode_pair(tokenizer, "the fox", "jumps", most_tokens=50)
    assert encode_pair(tokenizer, "the fox", "jumps", most_tokens=len(ids))[0] == ids
    with pytest.raises(BadInput, match=rf"at most {len(ids) - 1} tokens .* got {len(ids)} .*the fox"):
        encode_pair(tokenizer, "the fox", "jumps", most_tokens=len(ids) - 1)


def test_sequences_are_padded_behind_and_the_mask_says_where() -> None:
    tokens, mask = pad_right([[7, 8, 9], [9], [9, 1]], pad=1)
    assert tokens.tolist() == [[7, 8, 9], [9, 1, 1], [9, 1, 1]]
    assert mask.tolist() == [[True, True, True], [True, False, False], [True, True, False]]
