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

    Whole batches of `whole` rows are dealt out, so the number of workers changes no bit. Where one fails, all raise
    what it raised: nobody waits for it.
    """
    rank, size = _rank_and_size()
    if size == 1:
        return work(rows)
    batches = [rows[start : start + whole] for start in range(0, max(1, len(rows)), whole)]  # none are an empty one
    said: list[list[Tensor] | Exception] = [[]] * size
    dist.all_gather_object(said, _tried(work, batches[rank::size]))
    parts = []
    for part in said:
        if isinstance(part, Exception):
            raise part
        parts.append(part)
    return torch.cat([parts[number % size][number // size] for number in range(len(batches))])


def _tried(work: Callable[[list[Row]], Tensor], batches: list[list[Row]]) -> list[Tensor] | Exception:
    try:
        return [work(batch) for batch in batches]
    except Exception as error:  # all raise it
        return error


def _rank_and_size() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
