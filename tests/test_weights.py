"""Weights arrive as they were sent, or not at all."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from rlhf_ray.models.loading import load_causal
from rlhf_ray.weights import pack, unpack


@pytest.fixture
def policy(policy_folder: str) -> PreTrainedModel:
    return load_causal(policy_folder)


def scramble(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()


def test_unpacked_weights_are_the_packed_ones(policy: PreTrainedModel) -> None:
    other = copy.deepcopy(policy)
    scramble(other)
    unpack(pack(policy.parameters(), version=3), other)
    for name, tensor in policy.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_packed_weights_do_not_follow_the_model_that_goes_on_learning(policy: PreTrainedModel) -> None:
    weights = pack(policy.parameters(), version=3)
    before = weights.buffer.copy()
    scramble(policy)
    assert (weights.buffer == before).all()
    assert pack(policy.parameters(), version=3).checksum != weights.checksum


def test_a_model_does_not_change_the_weights_it_got(policy: PreTrainedModel) -> None:
    weights = pack(policy.parameters(), version=3)
    unpack(weights, policy)
    scramble(policy)
    unpack(weights, policy)  # the checksum still fits


def test_what_was_changed_on_the_way_is_refused(policy: PreTrainedModel) -> None:
    weights = pack(policy.parameters(), version=3)
    buffer = weights.buffer.copy()
    buffer[len(buffer) // 2] += 1
    with pytest.raises(ValueError, match=r"version 3 .*checksum"):
        unpack(replace(weights, buffer=buffer), policy)


def test_weights_of_another_model_are_refused(policy: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match=f"expected {nn.Linear(2, 3).weight.numel() + 3} parameters"):
        unpack(pack(policy.parameters(), version=3), nn.Linear(2, 3))


def test_local_weights_are_there_at_once(policy: PreTrainedModel) -> None:
    weights = pack(policy.parameters(), version=3)
    assert weights.fetch() is weights
    assert weights.version == 3
