"""A channel over which a learner sends its weights to all samplers at once, instead of each fetching them.

It is a group of processes of its own (gloo, NCCL on GPUs): the learners' group among themselves is another one.
"""

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rlhf_ray.weights import LocalWeights, as_tensor

HEADER = 2 + 16  # version and size, then the bytes of the checksum


class Channel:
    """Number 0 sends, all others receive. Whoever waits for one that does not come gets a RuntimeError in the end.

    After that the channel is of no more use: a new one must be opened.
    """

    def __init__(self, place: str, rank: int, size: int, device: str, deadline_s: float) -> None:
        """Meet the others at `place` (tcp://address:port)."""
        self.device = device
        host, _, port = place.removeprefix("tcp://").rpartition(":")
        patience = timedelta(seconds=deadline_s)
        self._store = dist.TCPStore(host.strip("[]"), int(port), size, is_master=rank == 0, timeout=patience)
        meeting = dist.PrefixStore("weights", self._store)
        if device == "cpu":
            self._group: Any = dist.ProcessGroupGloo(meeting, rank, size, patience)
        else:
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = patience
            self._group = dist.ProcessGroupNCCL(meeting, rank, size, options)

    def send(self, weights: LocalWeights) -> None:
        self._broadcast(torch.tensor([weights.version, weights.buffer.size, *bytes.fromhex(weights.checksum)]))
        self._broadcast(as_tensor(weights.buffer))

    def receive(self) -> LocalWeights:
        header = torch.zeros(HEADER, dtype=torch.int64)
        version, size, *digest = self._broadcast(header).tolist()
        buffer = self._broadcast(torch.empty(size, dtype=torch.float32)).cpu().numpy()
        return LocalWeights(version, buffer, bytes(digest).hex())

    def _broadcast(self, tensor: Tensor) -> Tensor:
        """What number 0 has, in the tensor or, on a GPU, in its copy there."""
        there = tensor.to(self.device)
        self._group.broadcast(there, 0).wait()
        return there
