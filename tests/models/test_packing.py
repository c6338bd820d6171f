"""Packed sequences are read as if each were alone and padded, whatever the architecture; what is not, is refused."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    MistralForSequenceClassification,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)

from rlhf_ray.config import BadInput
from rlhf_ray.experience import Rollout
from rlhf_ray.models import likelihood
from rlhf_ray.models.packing import Packing, check_reading, pack
from rlhf_ray.models.policy import check_policy, positions, response_logprobs, side_by_side
from rlhf_ray.models.precision import products
from rlhf_ray.models.scalar import Scalar

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 1,
}
GPT2 = {"vocab_size": 64, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.2}
ENDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1, "num_labels": 1}
FAMILIES: dict[str, tuple[Any, Any, Any]] = {
    "gpt2": (GPT2LMHeadModel, GPT2ForSequenceClassification, GPT2Config(**GPT2 | ENDS)),
    "llama": (LlamaForCausalLM, LlamaForSequenceClassification, LlamaConfig(**SHAPE | ENDS)),
    "qwen2": (Qwen2ForCausalLM, Qwen2ForSequenceClassification, Qwen2Config(**SHAPE | ENDS)),
    "mistral, window of 5": (
        MistralForCausalLM,
        MistralForSequenceClassification,
        MistralConfig(**SHAPE | ENDS, sliding_window=5),
    ),
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A causal model that attends eagerly, and a classifier, of random weights."""
    causal, classifier, config = FAMILIES[request.param]
    config._attn_implementation = "eager"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return causal(copy.deepcopy(config)).eval(), classifier(copy.deepcopy(config)).eval()


@pytest.fixture
def rollout(rollout_of: Callable) -> Rollout:
    """Eleven ragged rows, so that more than one lot is attended to together."""
    draw = torch.Generator().manual_seed(0)

    def texts(lengths: list[int]) -> list[list[int]]:
        return [torch.randint(2, 64, (length,), generator=draw).tolist() for length in lengths]

    return rollout_of(texts([1, 5, 3, 9, 2, 2, 7, 4, 1, 12, 6]), texts([4, 1, 9, 3, 2, 8, 1, 5, 6, 2, 3]))


def padded_logits(model: PreTrainedModel, rollout: Rollout) -> Tensor:
    tokens, mask = side_by_side(rollout)
    with torch.no_grad():
        output = model(input_ids=tokens, attention_mask=mask.long(), position_ids=positions(mask), use_cache=False)
    return output.logits


def test_a_packed_policy_says_what_a_padded_one_says(
    family: tuple[PreTrainedModel, PreTrainedModel], rollout: Rollout
) -> None:
    policy, _ = family
    width = rollout.prompt.tokens.shape[1]
    everything = padded_logits(policy, rollout)[:, width - 1 : -1].div(0.8).log_softmax(-1)
    expected = everything.gather(2, rollout.tokens[:, :, None])[:, :, 0]
    logprobs, entropy = response_logprobs(policy, rollout, 0.8)
    torch.testing.assert_close(logprobs, expected * rollout.mask, atol=1e-5, rtol=0)
    spread = -(everything.exp() * everything).sum(-1)
    torch.testing.assert_close(entropy, spread * rollout.mask, atol=1e-5, rtol=0)


def test_a_packed_scalar_says_what_a_padded_one_says(
    family: tuple[PreTrainedModel, PreTrainedModel], rollout: Rollout
) -> None:
    _, classifier = family
    tokens, mask = side_by_side(rollout)
    with torch.no_grad():
        hidden = classifier.base_model(
            input_ids=tokens, attention_mask=mask.long(), position_ids=positions(mask), use_cache=False
        ).last_hidden_state
        expected = classifier.score(hidden)[:, :, 0]
        found = Scalar(classifier)(tokens, mask)
    torch.testing.assert_close(found, expected * mask, atol=1e-5, rtol=0)


def test_a_packed_policy_learns_what_a_padded_one_learns(
    family: tuple[PreTrainedModel, PreTrainedModel], rollout: Rollout
) -> None:
    policy, _ = family
    tokens, mask = side_by_side(rollout)
    width = rollout.prompt.tokens.shape[1]
    logits = policy(input_ids=tokens, attention_mask=mask.long(), position_ids=positions(mask), use_cache=False).logits[
        :, width - 1 : -1
    ]
    logprobs = logits.log_softmax(-1).gather(2, rollout.tokens[:, :, None])[:, :, 0]
    logprobs[rollout.mask].square().mean().backward()
    expected = [parameter.grad.clone() for parameter in policy.parameters()]
    policy.zero_grad()
    response_logprobs(policy, rollout, 1.0)[0][rollout.mask].square().mean().backward()
    for found, wanted in zip([parameter.grad for parameter in policy.parameters()], expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_a_model_that_can_read_packed_rows_reads_others_as_before(family: tuple) -> None:
    """With a cache, too, and without a mask: what came before counts, and a window stays one."""
    causal, _ = family
    tokens = torch.randint(2, 64, (1, 12), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = causal(input_ids=tokens, use_cache=False).logits
        check_reading(causal.base_model, "here")  # from now on it knows how to read them
        torch.testing.assert_close(causal(input_ids=tokens, use_cache=False).logits, expected, rtol=0, atol=1e-5)
        begun = causal(input_ids=tokens[:, :3], use_cache=True)
        rest = causal(input_ids=tokens[:, 3:], past_key_values=begun.past_key_values, use_cache=True).logits
    torch.testing.assert_close(rest, expected[:, 3:], rtol=0, atol=1e-5)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_what_is_taken_out_of_the_row_and_put_back_is_the_row(lengths: list[int]) -> None:
    packing = Packing.of(torch.tensor(lengths))
    row = torch.arange(float(sum(lengths))).view(-1, 1, 1).requires_grad_()
    taken = list(packing.take(row))
    assert sorted(length for part in taken for length in [part.shape[2]] * len(part)) >= sorted(lengths)
    back = packing.put_back(taken)
    assert torch.equal(back, row)
    back.mul(torch.arange(1.0, sum(lengths) + 1).view(-1, 1, 1)).sum().backward()
    assert torch.equal(row.grad.view(-1), torch.arange(1.0, sum(lengths) + 1))


def test_packing_leaves_out_padding_wherever_it_stands() -> None:
    mask = torch.tensor([[False, True, True, False], [True, True, True, True]])
    packed = pack(torch.arange(8).view(2, 4), mask)
    assert packed.tokens.tolist() == [1, 2, 4, 5, 6, 7]
    assert packed.positions.tolist() == [0, 1, 0, 1, 2, 3]
    assert packed.unpack(packed.tokens.float()).tolist() == [[0, 1, 2, 0], [4, 5, 6, 7]]


class Largest(TorchDispatchMode):
    """Hears of every operation, and remembers the size of the largest result."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [part.numel() for part in tree_leaves(result) if isinstance(part, Tensor)]
        self.numbers = max([self.numbers, *sizes])
        return result


def test_memory_does_not_grow_with_the_vocabulary(rollout_of: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 48 tokens and a vocabulary of 50,000, logits are there of ten tokens at a time, forward and backward."""
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 500_000)
    policy = GPT2LMHeadModel(GPT2Config(**GPT2 | ENDS | {"vocab_size": 50_000, "n_embd": 4, "n_layer": 1})).eval()
    rollout = rollout_of([[5, 6]] * 4, [list(range(100, 112))] * 4)
    with Largest() as largest:
        logprobs, _ = response_logprobs(policy, rollout, 1.0)
        logprobs.sum().backward()
    assert largest.numbers <= 500_000 < 48 * 50_000
    found = policy.lm_head.weight.grad.clone()
    policy.zero_grad()
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 48 * 50_000)
    whole, _ = response_logprobs(policy, rollout, 1.0)
    whole.sum().backward()
    torch.testing.assert_close(logprobs, whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(found, policy.lm_head.weight.grad, atol=1e-5, rtol=1e-4)


def test_products_in_half_precision_stay_near(
    family: tuple[PreTrainedModel, PreTrainedModel], rollout: Rollout
) -> None:
    policy, _ = family
    exact, _ = response_logprobs(policy, rollout, 1.0)
    with products("bf16", "cpu"):
        near, _ = response_logprobs(policy, rollout, 1.0)
    assert near.dtype == torch.float32
    assert not torch.equal(near, exact)
    assert float((near - exact).detach().abs().mean()) < 0.05


def test_a_model_that_mixes_tokens_elsewhere_is_refused() -> None:
    class Leaking(nn.Module):
        def forward(self, hidden: Tensor) -> Tensor:
            return hidden + hidden.roll(1, dims=1)

    policy = GPT2LMHeadModel(GPT2Config(**GPT2 | ENDS)).eval()
    check_policy(policy, "sound")
    policy.transformer.h[0].mlp = nn.Sequential(policy.transformer.h[0].mlp, Leaking())
    with pytest.raises(BadInput, match="leaking: expected an architecture that mixes tokens in attention alone"):
        check_reading(policy.base_model, "leaking")


def test_a_model_that_does_more_than_its_head_says_is_refused() -> None:
    policy = GPT2LMHeadModel(GPT2Config(**GPT2 | ENDS)).eval()
    plain = policy.forward

    def scaled(*given: Any, **named: Any) -> Any:
        output = plain(*given, **named)
        output.logits = output.logits * 0.5
        return output

    policy.forward = scaled
    with pytest.raises(BadInput, match="scaled: expected an architecture whose logits are what its head says"):
        check_policy(policy, "scaled")
