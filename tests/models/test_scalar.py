"""The reward model reads a response at its end, and the critic expects without looking ahead."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rlhf_ray.config import BadInput
from rlhf_ray.experience import Rollout
from rlhf_ray.models.scalar import Scalar, at_last_token, response_scores, response_values

EOS, PAD = 0, 1
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
RESPONSES = [[20, 21, EOS], [22, 23, 24, 25], [26, EOS]]


@pytest.fixture(scope="module")
def reward(reward_folder: str) -> Scalar:
    return Scalar.load(reward_folder)


@pytest.fixture(scope="module")
def rollout(rollout_of: Callable) -> Rollout:
    return rollout_of(PROMPTS, RESPONSES)


@torch.no_grad()
def scores_of(model: Scalar, rollout: Rollout) -> Tensor:
    return response_scores(model, rollout, EOS)


@torch.no_grad()
def values_of(model: Scalar, rollout: Rollout) -> Tensor:
    return response_values(model, rollout)


@torch.no_grad()
def read_at_the_end(model: Scalar, tokens: list[int]) -> float:
    """The model's last number for a sequence without any padding."""
    row = torch.tensor([tokens])
    return float(model(row, torch.ones_like(row, dtype=torch.bool))[0, -1])


def test_a_score_is_read_at_the_last_token(reward: Scalar, rollout: Rollout) -> None:
    scores = scores_of(reward, rollout)
    for row in (0, 2):
        assert float(scores[row]) == pytest.approx(read_at_the_end(reward, PROMPTS[row] + RESPONSES[row]), abs=1e-5)


def test_a_response_that_was_cut_off_is_scored_as_if_it_had_ended(
    reward: Scalar, rollout: Rollout, rollout_of: Callable
) -> None:
    closed = rollout_of(PROMPTS, [RESPONSES[0], [*RESPONSES[1], EOS], RESPONSES[2]])
    assert not rollout.ended[1]
    assert closed.ended[1]
    torch.testing.assert_close(scores_of(reward, rollout), scores_of(reward, closed), atol=1e-5, rtol=0)
    read = read_at_the_end(reward, [*PROMPTS[1], *RESPONSES[1], EOS])
    assert float(scores_of(reward, rollout)[1]) == pytest.approx(read, abs=1e-5)


def test_scoring_leaves_the_rollout_as_it_was(reward: Scalar, rollout: Rollout) -> None:
    tokens, mask = rollout.tokens.clone(), rollout.mask.clone()
    scores_of(reward, rollout)
    assert torch.equal(rollout.tokens, tokens)
    assert torch.equal(rollout.mask, mask)


@pytest.mark.parametrize("pad", [PAD, EOS])
@pytest.mark.parametrize("columns", [1, 4, 20])
def test_left_padding_changes_no_score_and_no_value(
    reward: Scalar, rollout_of: Callable, pad: int, columns: int
) -> None:
    alone = rollout_of(PROMPTS[:1], RESPONSES[:1], pad=pad)
    beside = rollout_of([PROMPTS[0], [33] * (3 + columns)], [RESPONSES[0], [40]], pad=pad)
    torch.testing.assert_close(scores_of(reward, beside)[:1], scores_of(reward, alone), atol=1e-5, rtol=0)
    torch.testing.assert_close(values_of(reward, beside)[:1], values_of(reward, alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize("pad", [PAD, EOS])
def test_right_padding_changes_no_score_and_no_value(reward: Scalar, rollout_of: Callable, pad: int) -> None:
    alone = rollout_of(PROMPTS[:1], RESPONSES[:1], pad=pad)
    beside = rollout_of(PROMPTS[:2], [RESPONSES[0], [40] * 9], response_width=12, pad=pad)
    torch.testing.assert_close(scores_of(reward, beside)[:1], scores_of(reward, alone), atol=1e-5, rtol=0)
    values = values_of(reward, beside)[0]
    torch.testing.assert_close(values[:3], values_of(reward, alone)[0], atol=1e-5, rtol=0)
    assert (values[3:] == 0).all()


def test_a_padding_token_that_was_said_is_read_as_any_other(reward: Scalar, rollout_of: Callable) -> None:
    said = [20, PAD, 21, PAD, EOS]
    beside = rollout_of([PROMPTS[0], [33] * 9], [said, [40] * 8])
    assert float(scores_of(reward, beside)[0]) == pytest.approx(read_at_the_end(reward, PROMPTS[0] + said), abs=1e-5)
    without = rollout_of([PROMPTS[0]], [[20, 21, EOS]])
    assert abs(float(scores_of(reward, beside)[0] - scores_of(reward, without)[0])) > 1e-3


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_value_looks_at_the_tokens_before_it_and_not_ahead(reward: Scalar, rollout_of: Callable, place: int) -> None:
    said = [20, 21, 22, 23, 24]
    changed = [*said[:place], 50, *said[place + 1 :]]
    before, after = (values_of(reward, rollout_of([PROMPTS[0]], [words]))[0] for words in (said, changed))
    torch.testing.assert_close(after[: place + 1], before[: place + 1], atol=1e-6, rtol=0)
    assert ((after - before)[place + 1 :].abs() > 1e-3).all()


def test_the_first_value_is_what_the_prompt_promises(reward: Scalar, rollout: Rollout) -> None:
    for row, asked in enumerate(PROMPTS):
        promised = read_at_the_end(reward, asked)
        assert float(values_of(reward, rollout)[row, 0]) == pytest.approx(promised, abs=1e-5)


def test_scores_are_normalised_as_the_artefact_says(reward: Scalar, rollout: Rollout) -> None:
    raw = Scalar(reward.classifier)
    raw.mean, raw.std = 0.0, 1.0
    torch.testing.assert_close(scores_of(reward, rollout) * 1.7 + 0.3, scores_of(raw, rollout), atol=1e-5, rtol=0)


def test_a_model_without_a_measured_score_is_no_reward_model(policy_folder: str) -> None:
    with pytest.raises(BadInput, match="score_mean"):
        Scalar.load(policy_folder)


def test_the_last_token_is_found_behind_gaps_and_padding() -> None:
    values = torch.arange(12.0).view(3, 4)
    mask = torch.tensor([[True, True, False, False], [False, True, False, True], [True, True, True, True]])
    assert at_last_token(values, mask).tolist() == [1.0, 7.0, 11.0]


def test_each_row_is_scored_by_itself(reward: Scalar, rollout: Rollout) -> None:
    whole = scores_of(reward, rollout)
    alone = torch.cat([scores_of(reward, row) for row in rollout.split(1)])
    torch.testing.assert_close(whole, alone, atol=1e-5, rtol=0)
    numbered = replace(rollout, prompt=replace(rollout.prompt, sample=torch.tensor([7, 8, 9])))
    assert torch.equal(scores_of(reward, numbered), whole)
