"""Sums, means and whitening over the tokens that count."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def masked_mean(values: Float[Tensor, "*axes"], mask: Bool[Tensor, "*axes"]) -> Float[Tensor, ""]:
    """Mean over the tokens of the mask; raises ValueError where there are none."""
    count = mask.sum()
    if count == 0:
        raise ValueError("expected at least one token in the mask, got none")
    return torch.where(mask, values, 0.0).sum() / count


def whiten(
    values: Float[Tensor, "*axes"], mask: Bool[Tensor, "*axes"], *, keep_mean: bool = False
) -> Float[Tensor, "*axes"]:
    """Give the tokens of the mask mean 0 (or keep their mean) and variance 1; zero elsewhere.

    The variance is that of the population, so the result does not depend on how the batch was cut.
    Values that are all equal become 0 rather than infinite.
    """
    exact = values.double()  # float32 rounding would make a spread out of equal values
    mean = masked_mean(exact, mask)
    variance = masked_mean((exact - mean) ** 2, mask)
    whitened = (exact - mean) / (variance.sqrt() + 1e-8)
    return torch.where(mask, whitened + mean if keep_mean else whitened, 0.0).to(values.dtype)
