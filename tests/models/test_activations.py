"""An activation in few passes is the function that it replaces, and so is its derivative."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.activations import NewGELUActivation

from rlhf_ray.models.activations import TanhGELU, fuse_activations


def test_it_is_gelu_new_and_its_derivative_is_exact() -> None:
    x = torch.linspace(-30, 30, 60_001, requires_grad=True)
    exact = x.detach().double().requires_grad_()
    ours, wanted = TanhGELU()(x), NewGELUActivation()(exact)
    torch.testing.assert_close(ours, wanted.float(), atol=1e-6, rtol=1e-6)
    (slope,), (wanted_slope,) = torch.autograd.grad(ours.sum(), x), torch.autograd.grad(wanted.sum(), exact)
    torch.testing.assert_close(slope, wanted_slope.float(), atol=3e-6, rtol=1e-6)


def test_what_it_reads_stays_as_it_was_and_other_precisions_are_torchs_own() -> None:
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    TanhGELU()(x)
    assert torch.equal(x, before)
    for kind in (torch.float64, torch.bfloat16):
        wanted = torch.nn.functional.gelu(x.to(kind), approximate="tanh")
        assert torch.equal(TanhGELU()(x.to(kind)), wanted)


@pytest.mark.parametrize("name", ["gelu_new", "gelu_pytorch_tanh"])
def test_a_model_has_it_in_every_layer_and_says_the_same(name: str) -> None:
    torch.manual_seed(1)
    shape = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.2}
    model = GPT2LMHeadModel(GPT2Config(activation_function=name, **shape)).eval()
    tokens = torch.randint(2, 64, (5, 40))
    with torch.no_grad():
        plain = model(tokens).logits
        fused = fuse_activations(model)
        assert all(isinstance(block.mlp.act, TanhGELU) for block in fused.transformer.h)
        torch.testing.assert_close(fused(tokens).logits, plain, atol=1e-4, rtol=1e-4)
