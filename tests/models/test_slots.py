"""Rows that come and go say what they would say alone, bit for bit, and what the sampler's loop would draw."""

import random
from collections.abc import Callable

import pytest
import torch

from rlhf_ray.models.decoding import decode
from rlhf_ray.models.loading import load_causal
from rlhf_ray.models.slots import Slots, draw, nucleus

ROWS, COLUMNS, SAID = 8, 40, 20
PROMPT = [5, 9, 33, 12, 40]


@pytest.fixture(scope="module")
def model(policy_folder: str):
    return load_causal(policy_folder)


def numbers_of(seed: int) -> torch.Tensor:
    return torch.rand(SAID, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spoken(model, slot: int, seed: int = 7, crowd: random.Random | None = None) -> list[tuple[int, float]]:
    """The tokens and log-probabilities of one row, while others come and go around it if there is a crowd."""
    slots, uniforms, said = Slots(model, ROWS, COLUMNS), numbers_of(seed), []
    last, ones = torch.zeros(ROWS, dtype=torch.long), torch.ones(ROWS)
    for t in range(SAID):
        others = [other for other in range(ROWS) if other != slot]
        if crowd and crowd.random() < 0.5:
            slots.leave(crowd.sample(others, 2))
        if crowd and crowd.random() < 0.7:
            slots.read(crowd.sample(others, crowd.randint(1, 3)), crowd.choices(range(64), k=crowd.randint(1, 20)))
        if t == 0:
            drawn, likely = draw(slots.read([slot], PROMPT), uniforms[:1], ones[:1], ones[:1])
            said.append((int(drawn), float(likely)))
        else:
            drawn, likely = draw(slots.say(last), uniforms[t].expand(ROWS), ones, ones)
            said.append((int(drawn[slot]), float(likely[slot])))
        if crowd:
            last = torch.tensor(crowd.choices(range(64), k=ROWS))
        last[slot] = said[-1][0]
    return said


@pytest.mark.parametrize("seed", range(8))
def test_a_row_says_the_same_bits_whatever_comes_and_goes_around_it(model, seed: int) -> None:
    chance = random.Random(seed)
    assert spoken(model, slot=chance.randrange(ROWS), crowd=chance) == spoken(model, slot=0)


def test_it_draws_what_the_samplers_loop_draws_from_the_same_numbers(model, rollout_of: Callable) -> None:
    prompt = rollout_of([PROMPT], [[0]]).prompt
    rollout = decode(model, prompt, numbers_of(7)[None], temperature=1.0, eos=0)
    expected = rollout.tokens[0][rollout.mask[0]].tolist()
    tokens, likely = zip(*spoken(model, slot=3), strict=True)
    assert list(tokens)[: len(expected)] == expected
    torch.testing.assert_close(torch.tensor(likely[: len(expected)]), rollout.logprobs[0][rollout.mask[0]])


def test_a_temperature_of_zero_takes_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0]]).expand(3, 3)
    uniform, temperature = torch.tensor([0.01, 0.5, 0.99]).double(), torch.tensor([0.0, 0.0, 1e-3])
    drawn, likely = draw(logits, uniform, temperature, torch.ones(3))
    assert drawn.tolist() == [1, 1, 1]
    torch.testing.assert_close(likely[0], logits[0].log_softmax(0)[1])


def test_a_nucleus_is_the_fewest_tokens_that_reach_their_share() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log().expand(4, 4)
    kept = nucleus(logits, torch.tensor([0.3, 0.5001, 0.76, 1.0])).isfinite()
    assert kept.tolist() == [
        [False, True, False, False],
        [False, True, False, True],
        [False, True, True, True],
        [True] * 4,
    ]


def test_a_row_that_asks_for_no_nucleus_is_not_touched_by_one_that_does() -> None:
    logits = torch.randn(2, 64, generator=torch.Generator().manual_seed(3))
    uniform, ones = torch.tensor([0.4, 0.4]).double(), torch.ones(2)
    alone = draw(logits, uniform, ones, ones)
    beside = draw(logits, uniform, ones, torch.tensor([1.0, 0.3]))
    assert alone[0][0] == beside[0][0]
    assert alone[1][0] == beside[1][0]
