"""Workers that train together: each has its part of every batch, and what all of them need is computed once."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from rlhf_ray.data.tables import Row


def own_part(batch: int) -> int:
    """How many rows of a batch a worker trains on: all of them, unless several train together."""
    return batch // _rank_and_size()[1]


def share_out(
    rows: list[Row], work: Callable[[list[Row]], Float[Tensor, "n ..."]], whole: int
) -> Float[Tensor, "N ..."]:
    """`work(rows)`, of which each worker does a part and gets the rest from the others. All of them must call this.

    Parts are cut between batches of `whole` rows, so that the number of workers changes no bit.
    """
    rank, size = _rank_and_size()
    part = -(-len(rows) // (whole * size)) * whole
    own = work(rows[rank * part : (rank + 1) * part])
    if size == 1:
        return own
    parts: list[Tensor] = [own] * size
    dist.all_gather_object(parts, own)
    return torch.cat(parts)


def _rank_and_size() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
