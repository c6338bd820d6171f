"""Learners side by side: each takes its share of every minibatch, and what they find is added up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh


class PeerLost(RuntimeError):
    """Another rank died or did not come in time."""


@dataclass(frozen=True)
class Ranks:
    """Who learns together: this one is number `rank` of `size`. Alone there is nothing to add up.

    Every rank must call the same methods in the same order: each waits for all the others.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @classmethod
    def join(cls, place: str, rank: int, size: int, device: str, deadline_s: float) -> "Ranks":
        """Meet the others at `place` (tcp://address:port), or raise an error where they do not come in time."""
        backend = "gloo" if device == "cpu" else "nccl"
        dist.init_process_group(
            backend, init_method=place, rank=rank, world_size=size, timeout=timedelta(seconds=deadline_s)
        )
        return cls(rank, size, device)

    def mesh(self) -> DeviceMesh:
        """All ranks in a row, for what is split over them."""
        return init_device_mesh("cpu" if self.device == "cpu" else "cuda", (self.size,))

    def share(self, rows: Tensor) -> Tensor:
        """This rank's part of the rows of a minibatch; all parts in a row are the whole."""
        return rows.tensor_split(self.size)[self.rank]

    def rows(self, count: int, minibatch: int) -> Tensor:
        """This rank's rows of a batch that is walked through in order."""
        return torch.cat([self.share(rows) for rows in torch.arange(count).split(minibatch)])

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace the tensors by their sums over all ranks, in one exchange."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        _all_reduce(flat)
        for tensor, sums in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(sums.view_as(tensor))

    def total(self, figures: dict[str, float]) -> dict[str, float]:
        """Each figure summed over all ranks, which have the same figures."""
        if self.size == 1:
            return figures
        sums = torch.tensor(list(figures.values()), dtype=torch.float64, device=self.device)
        _all_reduce(sums)
        return dict(zip(figures, sums.tolist(), strict=True))

    def largest(self, figure: float) -> float:
        if self.size == 1:
            return figure
        largest = torch.tensor([figure], dtype=torch.float64, device=self.device)
        _all_reduce(largest, dist.ReduceOp.MAX)
        return float(largest)


def _all_reduce(tensor: Tensor, op: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> None:
    try:
        dist.all_reduce(tensor, op=op)
    except RuntimeError as error:
        raise PeerLost(f"a learner lost another one ({str(error).splitlines()[0]})") from error
