"""The operations of an iteration, held against those that torch counts while a small model computes."""

import pytest
import torch
from floor import Cost, Rates, body, iteration, logits
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel
from workload import SIZES, Size, hazard

SMALL = Size(2, 32, 2, 60, episodes=3, prompt=(5, 9), response=4, mean_response=4, epochs=2)


@pytest.fixture
def model() -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=SMALL.vocabulary,
        n_positions=SMALL.context,
        n_embd=SMALL.width,
        n_layer=SMALL.layers,
        n_head=SMALL.heads,
        attn_implementation="eager",
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


def counted(work) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def test_a_forward_pass_costs_what_torch_counts(model):
    tokens = torch.ones(1, 11, dtype=torch.long)
    assert counted(lambda: model(tokens)) == body(SMALL, 11, causal=False) + logits(SMALL, 11)


def test_a_backward_pass_costs_two_forward_passes(model):
    tokens = torch.ones(1, 11, dtype=torch.long)
    assert counted(lambda: model(tokens).logits.sum().backward()) == 3 * counted(lambda: model(tokens))


def test_a_token_looks_back_only():
    seen = body(SMALL, 11, causal=False) - body(SMALL, 11)
    assert seen == SMALL.layers * 4 * SMALL.width * (11 * 10 / 2)


def test_the_parameters_are_those_of_the_model(model):
    assert model.num_parameters() == SMALL.parameters


def test_an_update_is_epochs_times_three_passes_of_policy_and_critic(model):
    whole = SMALL.mean_prompt + SMALL.mean_response
    once = 2 * body(SMALL, whole - 1) + logits(SMALL, SMALL.mean_response)
    assert iteration(SMALL)["update"].flops == SMALL.epochs * 3 * SMALL.episodes * once


@pytest.mark.parametrize(("name", "most"), [("tiny", 850e9), ("distilgpt2", 3e12)])
def test_the_two_sizes_cost_about_what_was_meant(name, most):
    assert 0.85 * most < sum(cost.flops for cost in iteration(SIZES[name]).values()) < most


def test_half_the_precision_halves_all_bytes_but_the_optimizers():
    wide, narrow = iteration(SMALL), iteration(SMALL, "bf16")
    for phase in ("generate", "score"):
        assert wide[phase].bytes == 2 * narrow[phase].bytes
    assert narrow["update"].bytes < wide["update"].bytes < 2 * narrow["update"].bytes


def test_the_floor_is_the_longer_of_computing_and_moving():
    costs = {"computes": Cost(flops=8, bytes=1), "moves": Cost(flops=1, bytes=8)}
    assert Rates(flops=2, bytes=4).seconds(costs) == {"computes": 4, "moves": 2}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_who_ends_at_random_has_the_wanted_mean_length(size):
    p = hazard(size.mean_response, size.response)
    lengths = [min(int(length), size.response) for length in torch.empty(200_000).geometric_(p).tolist()]
    assert sum(lengths) / len(lengths) == pytest.approx(size.mean_response, abs=0.3)
