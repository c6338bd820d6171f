"""How likely tokens are: from hidden states, through a causal model's head, to log-probability and entropy.

Logits are by far the largest thing that a small model makes. Only so many are there at once, and where that cuts the
tokens into several pieces, the backward pass computes each piece's again: memory does not grow with the vocabulary.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LOGITS_AT_ONCE = 2**24  # 64 MiB in float32


def likelihoods(
    head: nn.Module, hidden: Float[Tensor, "N D"], tokens: Int[Tensor, " N"], temperature: float
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Log-probability of each token, and entropy (nats, without gradient) of what it was drawn from."""
    vocabulary, _ = head.get_parameter("weight").shape
    rows = max(1, LOGITS_AT_ONCE // vocabulary)
    pieces = list(zip(hidden.split(rows), tokens.split(rows), strict=True))
    if len(pieces) == 1 or not torch.is_grad_enabled():
        found = [_likelihoods(head, *piece, temperature) for piece in pieces]
    else:
        found = [checkpoint(_likelihoods, head, *piece, temperature, use_reentrant=False) for piece in pieces]
    logprobs, entropies = zip(*found, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


def _likelihoods(
    head: nn.Module, hidden: Float[Tensor, "n D"], tokens: Int[Tensor, " n"], temperature: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Sums over the vocabulary are taken in float32, whatever the precision of the products."""
    everything = head(hidden).float().div(temperature).log_softmax(-1)
    with torch.no_grad():
        entropy = everything.exp().mul_(everything).sum(-1).neg_()
    return everything.gather(1, tokens[:, None])[:, 0], entropy
