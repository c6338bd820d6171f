"""Workers that train together: each has its part of every batch, and what all of them need is computed once."""

from collections.abc import Callable
from itertools import chain, zip_longest

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
    batches = [rows[start : start + whole] for start in range(0, len(rows), whole)]
    said: list[Tensor | Exception] = [torch.empty(0)] * size
    dist.all_gather_object(said, _tried(work, list(chain.from_iterable(batches[rank::size]))))
    parts = []
    for number, part in enumerate(said):
        if isinstance(part, Exception):
            raise part
        parts.append(part.split([len(batch) for batch in batches[number::size]]) if len(part) else (part,))
    return torch.cat([part for dealt in zip_longest(*parts) for part in dealt if part is not None])


def _tried(work: Callable[[list[Row]], Tensor], rows: list[Row]) -> Tensor | Exception:
    try:
        return work(rows)
    except Exception as error:  # all raise it
        return error


def _rank_and_size() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
