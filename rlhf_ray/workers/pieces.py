"""Pieces: a minibatch cut so that each part fits the memory, on every rank into as many."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor


def cut(shares: Sequence[Int[Tensor, " b"]], lengths: Int[Tensor, " B"], most: int | None) -> list[list[Tensor]]:
    """Each rank's rows in pieces of at most `most` tokens, in order; a piece has at least one row.

    Ranks that share a model must come through it equally often. So all cut as often as the one that must most often,
    or if that is more than a rank has rows, as often as it has: then a piece may be larger.
    """
    if most is None:
        return [[rows] for rows in shares]
    pieces = [_greedy(rows, lengths[rows].tolist(), most) for rows in shares]
    count = min(max(map(len, pieces)), min(map(len, shares)))
    return [
        own if len(own) == count else list(rows.tensor_split(count)) for own, rows in zip(pieces, shares, strict=True)
    ]


def _greedy(rows: Int[Tensor, " b"], lengths: list[int], most: int) -> list[Tensor]:
    sizes, tokens = [0], 0
    for length in lengths:
        if sizes[-1] and tokens + length > most:
            sizes.append(0)
            tokens = 0
        sizes[-1] += 1
        tokens += length
    return list(torch.split(rows, sizes))
