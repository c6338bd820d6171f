"""The precision of a model's products. Weights, sums over them and what an optimizer keeps stay in float32."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


def products(precision: Precision, device: str) -> AbstractContextManager:
    """In here models multiply in this precision. Each weight is rounded once, however often it is used."""
    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()
