"""GPT-2's activation in few passes and without a tanh: transformers spells it out in seven passes, or calls torch's."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel
from transformers.activations import GELUTanh, NewGELUActivation

SLOPE, CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715  # of the tanh approximation (arXiv:1606.08415)


class TanhGELU(nn.GELU):
    """GELU by its tanh approximation; in float32 on a CPU by the sigmoid that it is: tanh(u) = 2 sigmoid(2 u) - 1.

    torch's tanh takes three times as long as its sigmoid where a processor has no AVX-512.
    """

    def __init__(self) -> None:
        super().__init__(approximate="tanh")

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        is_slow = x.device.type == "cpu" and x.dtype == torch.float32
        return _BySigmoid.apply(x) if is_slow else super().forward(x)


class _BySigmoid(torch.autograd.Function):
    """x sigmoid(v) with v = SLOPE (x + CUBIC x³), in place wherever nobody else sees it."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        gate = (x * x).mul_(SLOPE * CUBIC).add_(SLOPE).mul_(x).sigmoid_()
        context.save_for_backward(x, gate)
        return x * gate

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """Its derivative is gate (1 + x v' (1 - gate))."""
        x, gate = context.saved_tensors
        steep = (x * x).mul_(3 * SLOPE * CUBIC).add_(SLOPE).mul_(x)
        return steep.addcmul_(steep, gate, value=-1).add_(1).mul_(gate).mul_(gradient)


def fuse_activations(model: PreTrainedModel) -> PreTrainedModel:
    """The model with each `gelu_new` and `gelu_pytorch_tanh` in few passes: the same function, to a rounding."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation | GELUTanh):
                setattr(module, name, TanhGELU())
    return model
