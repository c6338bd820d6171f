"""One way to decode for all families: greedily it says what `generate` says, token for token."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from rlhf_ray.config import BadInput
from rlhf_ray.experience import PromptBatch
from rlhf_ray.models.decoding import decode
from rlhf_ray.workers.engines.own import check_attention

EOS, PAD, MOST = 0, 1, 24
IDS = {"vocab_size": 64, "bos_token_id": EOS, "eos_token_id": EOS, "pad_token_id": PAD, "initializer_range": 0.2}
SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SHARED = {"num_key_value_heads": 2, "max_position_embeddings": 128}
FAMILIES = {
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=128, **IDS),
    "llama": LlamaConfig(**SHAPE, **SHARED, **IDS),
    "qwen2": Qwen2Config(**SHAPE, **SHARED, **IDS),
    "qwen3": Qwen3Config(head_dim=8, **SHAPE, **SHARED, **IDS),
}


def model_of(config: PretrainedConfig, seed: int = 1) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


@pytest.fixture
def prompt(rollout_of: Callable) -> PromptBatch:
    """More prompts than are read together, and of many lengths."""
    numbers = torch.Generator().manual_seed(2)
    lengths = torch.randint(1, 40, (37,), generator=numbers).tolist()
    prompts = [torch.randint(2, 64, (length,), generator=numbers).tolist() for length in lengths]
    return rollout_of(prompts, [[EOS]] * 37, prompt_width=45, pad=PAD).prompt


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedily_it_says_what_generate_says(family: str, implementation: str, prompt: PromptBatch) -> None:
    model = model_of(FAMILIES[family])
    model.set_attn_implementation(implementation)
    middle = torch.full((len(prompt), MOST), 0.5, dtype=torch.float64)
    rollout = decode(model, prompt, middle, temperature=1e-4, eos=EOS)
    expected = greedy(model, prompt)
    assert 0 < int(rollout.ended.sum()) < len(prompt), "some end early and some do not"
    for row in range(len(prompt)):
        said = rollout.tokens[row][rollout.mask[row]].tolist()
        assert expected[row, : len(said)].tolist() == said
        assert (expected[row, len(said) :] == PAD).all()


def greedy(model: Any, prompt: PromptBatch) -> torch.Tensor:
    asked = {"input_ids": prompt.tokens, "attention_mask": prompt.mask.long()}
    said = model.generate(**asked, do_sample=False, max_new_tokens=MOST, eos_token_id=EOS, pad_token_id=PAD)
    return said[:, prompt.tokens.shape[1] :]


def test_a_window_that_hides_the_beginning_is_refused() -> None:
    window = {"use_sliding_window": True, "sliding_window": 60, "max_window_layers": 1}
    narrow = model_of(Qwen2Config(**SHAPE, **SHARED, **IDS, **window))
    check_attention(narrow, "narrow", tokens=60)
    with pytest.raises(BadInput, match=r"at most 60, the window in which narrow attends.* got 61"):
        check_attention(narrow, "narrow", tokens=61)
