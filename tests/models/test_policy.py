"""The policy sees its tokens and nothing else: no padding, no neighbour, and no temperature but the one it is told."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_ray.experience import PromptBatch, Rollout
from rlhf_ray.models.decoding import decode, inverse_cdf
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.models.policy import positions, response_logprobs

EOS, PAD = 0, 1
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [14, 15]]
RESPONSES = [[20, 21, EOS], [22, 23, 24, 25], [26, EOS], [27, 28, 29, EOS]]
LISTS = st.lists(st.integers(2, 63), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def policy(policy_folder: str) -> PreTrainedModel:
    return load_causal(policy_folder)


@pytest.fixture(scope="module")
def prompt(rollout_of: Callable) -> PromptBatch:
    return rollout_of(PROMPTS, RESPONSES).prompt


def logprobs_of(model: Any, rollout: Rollout, temperature: float = 1.0) -> Tensor:
    with torch.no_grad():
        return response_logprobs(model, rollout, temperature)[0]


def uniforms(rows: int, columns: int, seed: int = 0) -> Tensor:
    """Numbers that never draw end-of-text, which is token 0 and less likely than a half."""
    generator = torch.Generator().manual_seed(seed)
    return 0.5 + torch.rand(rows, columns, generator=generator, dtype=torch.float64) / 2


@given(st.lists(st.tuples(LISTS, LISTS), min_size=1, max_size=4), st.integers(0, 5), st.integers(0, 3))
@examples(max_examples=20)
def test_every_response_is_as_likely_as_if_it_were_alone(
    policy: PreTrainedModel, rollout_of: Callable, pairs: list, left: int, right: int
) -> None:
    prompts, responses = [asked for asked, _ in pairs], [said for _, said in pairs]
    widths = {
        "prompt_width": max(map(len, prompts)) + left,
        "response_width": max(map(len, responses)) + right,
    }
    together = logprobs_of(policy, rollout_of(prompts, responses, **widths))
    for row, (asked, said) in enumerate(pairs):
        alone = logprobs_of(policy, rollout_of([asked], [said]))[0]
        torch.testing.assert_close(together[row, : len(said)], alone, atol=1e-5, rtol=0)
        assert (together[row, len(said) :] == 0).all()


@pytest.mark.parametrize("columns", [1, 4, 20])
def test_left_padding_changes_no_logprob(each_folder: str, rollout_of: Callable, columns: int) -> None:
    """The neighbour's prompt is so long that the columns stay; what stands in them is the padding token."""
    policy, pad = load_causal(each_folder), load_tokenizer(each_folder).pad_token_id
    alone = rollout_of(PROMPTS[:1], RESPONSES[:1], pad=pad)
    beside = rollout_of([PROMPTS[0], [33] * (3 + columns)], [RESPONSES[0], [40]], pad=pad)
    torch.testing.assert_close(logprobs_of(policy, beside)[0], logprobs_of(policy, alone)[0], atol=1e-5, rtol=0)


def test_without_places_a_neighbour_would_change_them(policy_folder: str, rollout_of: Callable) -> None:
    """The model is no longer told the places of its tokens, and counts them through all sequences."""
    policy = load_causal(policy_folder)
    policy.base_model.register_forward_pre_hook(
        lambda model, given, named: (given, named | {"position_ids": None}), with_kwargs=True
    )
    alone = rollout_of(PROMPTS[:1], RESPONSES[:1])
    beside = rollout_of([[33] * 7, PROMPTS[0]], [[40], RESPONSES[0]])
    change = logprobs_of(policy, beside)[1] - logprobs_of(policy, alone)[0]
    assert float(change.abs().max()) > 1e-2


@pytest.mark.parametrize("pad", [PAD, EOS, 63])
def test_which_token_pads_does_not_matter(policy: PreTrainedModel, rollout_of: Callable, pad: int) -> None:
    theirs = logprobs_of(policy, rollout_of(PROMPTS, RESPONSES, pad=pad))
    torch.testing.assert_close(theirs, logprobs_of(policy, rollout_of(PROMPTS, RESPONSES)), atol=1e-5, rtol=0)


def test_a_padding_token_that_was_said_counts_as_any_other(policy: PreTrainedModel, rollout_of: Callable) -> None:
    said = [20, PAD, PAD, 21, PAD]
    alone = logprobs_of(policy, rollout_of([PROMPTS[0]], [said]))[0]
    beside = logprobs_of(policy, rollout_of([PROMPTS[0], [33] * 9], [said, [40] * 8]))[0]
    assert (alone < 0).all()
    torch.testing.assert_close(beside[:5], alone, atol=1e-5, rtol=0)
    other = logprobs_of(policy, rollout_of([PROMPTS[0]], [[20, 30, PAD, 21, PAD]]))[0]
    assert abs(float(other[3] - alone[3])) > 1e-3


def test_places_count_the_real_tokens() -> None:
    mask = torch.tensor([[False, False, True, True, True], [True, True, True, False, True]])
    assert positions(mask).masked_select(mask).tolist() == [0, 1, 2, 0, 1, 2, 3]


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_sampler_and_learner_find_each_token_equally_likely(
    each_folder: str, rollout_of: Callable, temperature: float
) -> None:
    policy, pad = load_causal(each_folder), load_tokenizer(each_folder).pad_token_id
    prompt = rollout_of(PROMPTS, RESPONSES, pad=pad).prompt
    rollout = decode(policy, prompt, forced(uniforms(4, 10), [9, 2, 0, None]), temperature=temperature, eos=EOS)
    learner = logprobs_of(policy, rollout, temperature)
    torch.testing.assert_close(learner, rollout.logprobs, atol=1e-4, rtol=0)
    other = logprobs_of(policy, rollout, temperature + 0.3)
    assert float((other - rollout.logprobs).abs().max()) > 1e-2


def forced(numbers: Tensor, ends: list[int | None]) -> Tensor:
    """Numbers that draw end-of-text at the given places: 0 always draws token 0."""
    numbers = numbers.clone()
    for row, place in enumerate(ends):
        if place is not None:
            numbers[row, place] = 0.0
    return numbers


def test_as_temperature_vanishes_decoding_is_greedy(each_folder: str, rollout_of: Callable) -> None:
    policy, pad = load_causal(each_folder), load_tokenizer(each_folder).pad_token_id
    prompt = rollout_of(PROMPTS, RESPONSES, pad=pad).prompt
    rollout = decode(policy, prompt, uniforms(4, 12), temperature=1e-4, eos=EOS)
    greedy = policy.generate(
        input_ids=prompt.tokens,
        attention_mask=prompt.mask.long(),
        do_sample=False,
        max_new_tokens=12,
        eos_token_id=EOS,
        pad_token_id=pad,
    )[:, prompt.tokens.shape[1] :]
    for row in range(len(rollout)):
        said = rollout.tokens[row][rollout.mask[row]].tolist()
        assert greedy[row, : len(said)].tolist() == said
        assert (greedy[row, len(said) :] == pad).all()


def test_the_same_call_gives_the_same_bits(policy: PreTrainedModel, prompt: PromptBatch) -> None:
    numbers = forced(uniforms(4, 8), [5, 1, 2, None])
    one, other = (decode(policy, prompt, numbers, temperature=0.8, eos=EOS) for _ in range(2))
    for name in ("tokens", "mask", "logprobs", "ended"):
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_other_numbers_give_other_responses(policy: PreTrainedModel, prompt: PromptBatch) -> None:
    one, other = (decode(policy, prompt, uniforms(4, 8, seed), temperature=1.0, eos=EOS) for seed in (1, 2))
    assert not torch.equal(one.tokens, other.tokens)


@given(st.lists(st.one_of(st.none(), st.integers(0, 7)), min_size=4, max_size=4))
@examples(max_examples=20)
def test_when_its_neighbours_fall_silent_does_not_change_what_a_row_says(
    policy: PreTrainedModel, prompt: PromptBatch, ends: list[int | None]
) -> None:
    numbers = uniforms(4, 8)
    undisturbed = decode(policy, prompt, numbers, temperature=1.0, eos=EOS)
    rollout = decode(policy, prompt, forced(numbers, ends), temperature=1.0, eos=EOS)
    for row, place in enumerate(ends):
        until = 8 if place is None else place
        assert torch.equal(rollout.tokens[row, :until], undisturbed.tokens[row, :until])
        near = rollout.logprobs[row, :until] - undisturbed.logprobs[row, :until]
        assert (near.abs() < 1e-5).all()


@given(st.lists(st.one_of(st.none(), st.integers(0, 7)), min_size=4, max_size=4))
@examples(max_examples=20)
def test_a_response_ends_with_its_end_of_text_or_runs_out_of_tokens(
    policy: PreTrainedModel, prompt: PromptBatch, ends: list[int | None]
) -> None:
    rollout = decode(policy, prompt, forced(uniforms(4, 8), ends), temperature=1.0, eos=EOS)
    lengths = [8 if place is None else place + 1 for place in ends]
    assert torch.equal(rollout.mask, torch.arange(8) < torch.tensor(lengths)[:, None])
    assert rollout.ended.tolist() == [place is not None for place in ends]
    for row, length in enumerate(lengths):
        assert (rollout.tokens[row, length - 1] == EOS) == rollout.ended[row]
        assert (rollout.tokens[row, : length - 1] != EOS).all()
    assert (rollout.logprobs[rollout.mask] < 0).all()
    assert (rollout.logprobs[~rollout.mask] == 0).all()


def test_every_token_is_drawn_as_often_as_it_is_likely() -> None:
    shares = torch.tensor([0.125, 0.5, 0.0, 0.25, 0.125], dtype=torch.float64)
    middles = (torch.arange(80, dtype=torch.float64) + 0.5) / 80
    drawn, _ = inverse_cdf(shares.log().expand(80, 5), middles)
    assert drawn.bincount(minlength=5).tolist() == [10, 40, 0, 20, 10]
    assert (drawn.diff() >= 0).all()


def test_a_token_begins_where_the_one_before_it_ends() -> None:
    logprobs = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64).log().expand(4, 3)
    near = 1e-12
    numbers = torch.tensor([0.25 - near, 0.25 + near, 0.75 - near, 0.75 + near], dtype=torch.float64)
    assert inverse_cdf(logprobs, numbers)[0].tolist() == [0, 1, 1, 2]


def test_an_impossible_token_is_not_drawn_even_at_the_edges() -> None:
    logprobs = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0], dtype=torch.float64).log().expand(2, 5)
    edges = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert inverse_cdf(logprobs, edges)[0].tolist() == [1, 3]


def test_rounding_of_the_probabilities_leaves_no_gap_at_the_end() -> None:
    logprobs = torch.tensor([[0.5, 0.5 - 1e-6, 0.0]]).log()  # they sum to a little less than 1
    assert inverse_cdf(logprobs, torch.tensor([1 - 1e-9], dtype=torch.float64))[0].tolist() == [1]


def test_who_finds_all_tokens_equal_has_the_entropy_log_v(policy: PreTrainedModel, rollout_of: Callable) -> None:
    undecided = copy.deepcopy(policy)
    torch.nn.init.zeros_(undecided.lm_head.weight)
    rollout = rollout_of(PROMPTS, RESPONSES)
    logprobs, entropy = response_logprobs(undecided, rollout, 0.7)
    torch.testing.assert_close(entropy, math.log(64) * rollout.mask)
    torch.testing.assert_close(logprobs, -math.log(64) * rollout.mask)


def test_a_cooler_policy_is_surer_of_itself(policy: PreTrainedModel, rollout_of: Callable) -> None:
    rollout = rollout_of(PROMPTS, RESPONSES)
    _, cool = response_logprobs(policy, rollout, 0.5)
    _, warm = response_logprobs(policy, rollout, 1.0)
    assert (cool < warm)[rollout.mask].all()
    assert (cool > 0)[rollout.mask].all()
    assert (warm < math.log(64))[rollout.mask].all()
