"""A version of the policy, wherever its tensors may lie."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LocalWeights:
    """All parameters in one flat float32 buffer, in the order of `model.parameters()`.

    A NumPy array, since Ray hands those to other processes without a copy.
    """

    version: int
    buffer: np.ndarray
    checksum: str

    def fetch(self) -> "LocalWeights":
        return self


class Weights(Protocol):
    """A promise of weights: the version is known at once, the tensors come on `fetch`."""

    @property
    def version(self) -> int: ...

    def fetch(self) -> LocalWeights: ...


def pack(parameters: Iterable[Tensor], version: int) -> LocalWeights:
    flat = torch.cat([parameter.detach().reshape(-1).float().cpu() for parameter in parameters])
    buffer = flat.numpy()
    return LocalWeights(version, buffer, checksum(buffer))


def unpack(weights: LocalWeights, model: nn.Module) -> None:
    """Copy the weights into the model. Raises ValueError where they do not fit or did not arrive as they were sent."""
    size = sum(p.numel() for p in model.parameters())
    if weights.buffer.size != size:
        raise ValueError(f"weights: expected {size} parameters, got {weights.buffer.size}")
    if checksum(weights.buffer) != weights.checksum:
        raise ValueError(f"weights: version {weights.version} is not what the learner sent (checksum differs)")
    start = 0
    with torch.no_grad():
        for parameter in model.parameters():
            part = weights.buffer[start : start + parameter.numel()]
            parameter.copy_(torch.tensor(part).view_as(parameter))
            start += parameter.numel()


def write_weights(weights: LocalWeights, path: Path) -> None:
    """Into one `.npz` file."""
    np.savez(path, version=weights.version, buffer=weights.buffer, checksum=weights.checksum)


def read_weights(path: Path) -> LocalWeights:
    with np.load(path) as found:
        return LocalWeights(int(found["version"]), found["buffer"], str(found["checksum"]))


def checksum(buffer: np.ndarray) -> str:
    return hashlib.blake2b(buffer.tobytes(), digest_size=16).hexdigest()
